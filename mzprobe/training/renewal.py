"""Ages of stored targets, so that the oldest are renewed first."""

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

_AT_ONCE = 4096  # slots sorted at a time, so that the whole buffer is scanned once per this many renewals


class TargetAges:
    """Ages of the targets in each slot of a buffer, counted in targets made since.

    Args:
        capacity: number of slots of the buffer.
    """

    def __init__(self, capacity: int) -> None:
        self.made = np.zeros(capacity, np.int64)
        self.count = 0  # targets made so far; each has its own number, so that there are no ties
        self._waiting = np.empty(0, np.int64)  # slots that had the oldest targets when sorted, in order
        self._numbers = np.empty(0, np.int64)  # numbers of their targets then

    def note(self, slots: Int64) -> None:
        """Records that the targets of slots `[M]` are made now, in this order."""
        self.made[slots] = self.count + np.arange(len(slots))
        self.count += len(slots)

    def oldest(self, count: int, left: Int32, terminated: Bool) -> Int64:
        """Returns the slots `[M]`, M <= count, with the oldest targets, oldest first.

        Args:
            count: largest number of slots.
            left: `[used]`, steps from each slot to its episode's last state, -1 in free slots.
            terminated: `[capacity]`, whether that last state is terminal, and so has no target.
        """
        # Targets made since the sort are younger than all that wait, so the others keep their order.
        stay = _has_target(left[self._waiting], terminated[self._waiting])
        stay &= self.made[self._waiting] == self._numbers
        self._waiting, self._numbers = self._waiting[stay], self._numbers[stay]
        if len(self._waiting) < count:
            self._put_in_order(np.flatnonzero(_has_target(left, terminated[: len(left)])), most=max(count, _AT_ONCE))
        found, self._waiting = np.split(self._waiting, [count])
        self._numbers = self._numbers[count:]
        return found

    def forget_order(self) -> None:
        """Discards the sorted slots, after episodes have been moved."""
        self._waiting = self._numbers = np.empty(0, np.int64)

    def _put_in_order(self, slots: Int64, *, most: int) -> None:
        if most < len(slots):
            slots = slots[np.argpartition(self.made[slots], most)[:most]]
        self._waiting = slots[np.argsort(self.made[slots])]
        self._numbers = self.made[self._waiting]


def _has_target(left: Int32, terminated: Bool) -> Bool:
    return np.asarray((left > 0) | ((left == 0) & ~terminated))
