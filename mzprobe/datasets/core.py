"""A recorded episode, and the checks that every episode must pass before anything learns from it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mzprobe.envs.core import EnvironmentSpec

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One recorded episode of T steps."""

    observations: NDArray[Any]  # [T + 1, *shape], of the environment's dtype
    actions: Int64  # [T]
    rewards: Float64  # [T], environment units
    terminated: bool  # whether the last step terminated it; otherwise it was truncated


def checked(
    spec: EnvironmentSpec, *, observations: Any, actions: Any, rewards: Any, terminations: Any, truncations: Any
) -> Recorded:
    """Returns an episode from the arrays of a dataset, checked and cast to the types used here.

    An episode that ends with neither flag was cut off and counts as truncated. One with both has terminated.

    Args:
        spec: specification of its environment.
        observations: real, `[T + 1, *shape]`.
        actions: integers, `[T]`.
        rewards: real, `[T]`, environment units.
        terminations: bool, `[T]`.
        truncations: bool, `[T]`.

    Raises:
        ValueError: if they are not an episode of that environment; the message is worded to follow "episode 3".
    """
    T = len(rewards) if isinstance(rewards, np.ndarray) and rewards.ndim else 0
    if T < 1:
        raise ValueError("has no steps")
    shapes = {
        "observations": (observations, "fiub", (T + 1, *spec.observation_shape)),
        "actions": (actions, "iu", (T,)),
        "rewards": (rewards, "fiub", (T,)),
        "terminations": (terminations, "b", (T,)),
        "truncations": (truncations, "b", (T,)),
    }
    for name, (values, kinds, shape) in shapes.items():
        fitting(name, values, kinds, shape)
    if actions.min() < 0 or actions.max() >= spec.num_actions:
        raise ValueError(f"has actions outside 0..{spec.num_actions - 1}")
    if terminations[:-1].any():
        raise ValueError("goes on after a terminal state")
    if truncations[:-1].any():
        # The observation at that end is not recorded: the next row is the start of another episode.
        cut = int(truncations.argmax()) + 1
        raise ValueError(f"goes on after it was truncated at step {cut} of {T}, as if several episodes were one")
    with np.errstate(over="ignore"):  # too large numbers become infinite, and are refused below
        seen, rewarded = observations.astype(spec.observation_dtype), rewards.astype(np.float64)
    if spec.observation_dtype != "float32" and not np.array_equal(seen, observations):
        raise ValueError(f"has observations that are not {spec.observation_dtype}")
    for name, values in (("observations", seen), ("rewards", rewarded)):
        if not np.isfinite(values).all():
            raise ValueError(f"has {name} that are not finite")
    return Recorded(
        observations=seen, actions=actions.astype(np.int64), rewards=rewarded, terminated=bool(terminations[-1])
    )


def fitting(name: str, values: Any, kinds: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Returns `values` if it is an array of one of `kinds` (letters of numpy's) and of `shape`.

    Raises:
        ValueError: if it is not; the message is worded to follow "episode 3".
    """
    if not isinstance(values, np.ndarray) or values.shape != shape or values.dtype.kind not in kinds:
        found = f"{values.dtype}{list(values.shape)}" if isinstance(values, np.ndarray) else type(values).__name__
        kind = {"fiub": "real numbers", "iu": "integers", "b": "booleans"}[kinds]
        raise ValueError(f"has {name} {found}, not {kind} of shape {list(shape)}")
    return values
