"""Which stored targets are the oldest, so that these are made anew first."""

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

_AT_ONCE = 4096  # slots put in order together: the whole buffer is looked through once for as many new targets


class TargetAges:
    """When the targets of each slot of a buffer were made, counted in targets.

    Args:
        capacity: slots of the buffer.
    """

    def __init__(self, capacity: int) -> None:
        self.made = np.zeros(capacity, np.int64)
        self.count = 0  # targets made so far; each has a number of its own, so that there are no ties
        self._waiting = np.empty(0, np.int64)  # some slots, those whose targets were the oldest, in order
        self._numbers = np.empty(0, np.int64)  # of these targets

    def note(self, slots: Int64) -> None:
        """Takes down that the targets of slots `[M]` are made now, in this order."""
        self.made[slots] = self.count + np.arange(len(slots))
        self.count += len(slots)

    def oldest(self, count: int, left: Int32, terminated: Bool) -> Int64:
        """The slots `[M]`, M <= count, whose targets are the oldest, in order.

        Args:
            count: most slots wanted.
            left: `[used]`, steps from each slot to its episode's last state, -1 where there is none.
            terminated: `[capacity]`, whether that last state is terminal, and so has no target to make.
        """
        # What was stored or renewed since is younger than all that wait: the order of the others stands.
        stay = _has_target(left[self._waiting], terminated[self._waiting])
        stay &= self.made[self._waiting] == self._numbers
        self._waiting, self._numbers = self._waiting[stay], self._numbers[stay]
        if len(self._waiting) < count:
            self._put_in_order(np.flatnonzero(_has_target(left, terminated[: len(left)])), most=max(count, _AT_ONCE))
        found, self._waiting = np.split(self._waiting, [count])
        self._numbers = self._numbers[count:]
        return found

    def forget_order(self) -> None:
        """Slots have been moved: what waits is put in order anew."""
        self._waiting = self._numbers = np.empty(0, np.int64)

    def _put_in_order(self, slots: Int64, *, most: int) -> None:
        if most < len(slots):
            slots = slots[np.argpartition(self.made[slots], most)[:most]]
        self._waiting = slots[np.argsort(self.made[slots])]
        self._numbers = self.made[self._waiting]


def _has_target(left: Int32, terminated: Bool) -> Bool:
    return np.asarray((left > 0) | ((left == 0) & ~terminated))
