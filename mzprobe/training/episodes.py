"""Episodes as a replay buffer receives and keeps them, and the choice of those that stay and of their slots."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe.values import whole

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Shown = NDArray[Any] | list[bytes]  # [T + 1, *shape], in the environment's dtype; or T + 1 packed frames


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A finished episode of T steps; the last state is recorded too."""

    observations: Shown
    actions: Int64  # [T]
    rewards: Float64  # [T], environment units
    policies: Float64  # [T + 1, A], policy targets; the last row counts only if truncated
    root_values: Float64  # [T + 1], root values of the search; 0 at a terminal last state
    terminated: bool  # whether the last state is terminal; else the episode was truncated
    seed: int | None = None  # seed of its start; None if it was not played here
    legal: Bool | None = None  # [T + 1, A], legal actions; None if all are legal


class Kept(NamedTuple):
    """Place of a stored episode in the buffer, with its return and origin."""

    first: int  # its first slot
    slots: int  # number of its slots, T + 1
    ret: float  # undiscounted return
    seed: int | None = None  # seed of its start; None if it was not played here
    step: int = 0  # training step at which it was stored

    @property
    def place(self) -> slice:
        """The slots of the episode."""
        return slice(self.first, self.first + self.slots)


def leaving_for_a_better(
    episodes: Sequence[Kept], slots: int, ret: float, *, most: int, capacity: int
) -> list[Kept] | None:
    """Returns the episodes to evict for a new one of `slots` slots and return `ret`, or None if it is not good enough.

    It is not if an episode with a higher return would have to go. The worst go first, and the oldest among equals; an
    episode with a return equal to `ret` may go.

    Args:
        episodes: episodes kept so far, oldest first.
        slots: number of slots of the new episode.
        ret: return of the new episode.
        most: largest number of episodes to keep.
        capacity: total number of slots.
    """
    free = capacity - sum(kept.slots for kept in episodes)
    leaving: list[Kept] = []
    for worst in sorted(episodes, key=lambda kept: kept.ret):  # stable: oldest first
        if len(episodes) - len(leaving) < most and free >= slots:
            break
        if worst.ret > ret:
            return None
        leaving.append(worst)
        free += worst.slots
    return leaving


def first_gap(episodes: Sequence[Kept], slots: int, *, capacity: int) -> int | None:
    """Returns the first of `slots` adjacent free slots, or None if no gap is large enough."""
    start = 0
    for kept in sorted(episodes):
        if kept.first - start >= slots:
            return start
        start = kept.first + kept.slots
    return start if capacity - start >= slots else None


def kept_of(values: list[Any], *, used: int) -> Kept:
    """Parses the place of an episode as it is saved in JSON.

    Raises:
        ValueError: if it is not within the used slots.
    """
    first, slots, ret, *others = values
    kept = Kept(whole(first, most=used), whole(slots, most=used), float(ret), *others)
    if kept.slots < 2 or kept.first + kept.slots > used:
        raise ValueError("an episode lies beyond the replay buffer")
    return kept._replace(seed=None if kept.seed is None else whole(kept.seed), step=whole(kept.step))
