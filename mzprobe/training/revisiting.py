"""Real states of stored positions, recomputed from the seed of the start and the actions since."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mzprobe.envs.core import Environment, concatenate
from mzprobe.training.replay import Replay

Int64 = NDArray[np.int64]


def states_at(environment: Environment, replay: Replay, slots: Int64) -> Any:
    """Returns the real states of slots `[M]` of a buffer, replaying each of their episodes once.

    Raises:
        ValueError: if an episode was recorded, not played here.
    """
    firsts, seeds = replay.origins(slots)
    parts, order = [], []
    for first in np.unique(firsts):
        here = np.flatnonzero(firsts == first)
        times = slots[here] - first
        states = environment.reset(seeds[here[:1]])
        for t in range(times.max() + 1):
            if t > 0:
                states, _ = environment.step(states, replay.actions[first + t - 1 : first + t])
            wanted = here[times == t]
            parts += [states] * len(wanted)
            order.append(wanted)
    return concatenate(parts).take(np.argsort(np.concatenate(order)))
