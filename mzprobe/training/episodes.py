"""Episodes as a replay buffer takes and keeps them: which stay, and in which slots."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe.values import whole

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Shown = NDArray[Any] | list[bytes]  # [T + 1, *shape], of the environment's dtype; or T + 1 frames, packed


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A finished episode of T steps; the last state is recorded too."""

    observations: Shown
    actions: Int64  # [T]
    rewards: Float64  # [T], environment units
    policies: Float64  # [T + 1, A], the search's target; the last row counts only if truncated
    root_values: Float64  # [T + 1], of the search; 0 at a terminal last state
    terminated: bool  # else truncated
    seed: int | None = None  # of its start, where it was played here
    legal: Bool | None = None  # [T + 1, A], where the environment says what is


class Kept(NamedTuple):
    """Where an episode lies in the buffer."""

    first: int  # slot
    slots: int  # T + 1
    ret: float  # its undiscounted return
    seed: int | None = None  # of its start, where it was played here
    step: int = 0  # training steps when it was stored

    @property
    def place(self) -> slice:
        """Its slots."""
        return slice(self.first, self.first + self.slots)


def leaving_for_a_better(
    episodes: Sequence[Kept], slots: int, ret: float, *, most: int, capacity: int
) -> list[Kept] | None:
    """Which episodes have to go for one of so many slots and of a return; None where all are better than it.

    Those that go are the worst, the oldest of equals first; an equal one makes room.

    Args:
        episodes: kept so far, oldest first.
        slots: of the new one.
        ret: its return.
        most: episodes that are kept.
        capacity: slots in all.
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
    """The first of so many free slots in a row, or None where they are scattered."""
    start = 0
    for kept in sorted(episodes):
        if kept.first - start >= slots:
            return start
        start = kept.first + kept.slots
    return start if capacity - start >= slots else None


def kept_of(values: list[Any], *, used: int) -> Kept:
    """Where an episode lies, as a file has it.

    Raises:
        ValueError: if that is not within the slots used.
    """
    first, slots, ret, *others = values
    kept = Kept(whole(first, most=used), whole(slots, most=used), float(ret), *others)
    if kept.slots < 2 or kept.first + kept.slots > used:
        raise ValueError("an episode lies beyond the replay buffer")
    return kept._replace(seed=None if kept.seed is None else whole(kept.seed), step=whole(kept.step))
