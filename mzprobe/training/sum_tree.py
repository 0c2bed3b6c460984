"""Sum tree over the slots of a replay buffer, for sampling by priority in logarithmic time."""

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import kernel

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@kernel
def set_leaves(sums: Float64, slots: Int64, priorities: Float64) -> None:
    """Writes leaves of a sum tree (heap order, root at 1) and the sums above them.

    Each sum is computed from its two children, never by an increment, so that no rounding error builds up.
    """
    leaves = sums.size // 2
    for i in range(slots.size):
        node = leaves + slots[i]
        sums[node] = priorities[i]
        while node > 1:
            node //= 2
            sums[node] = sums[2 * node] + sums[2 * node + 1]


@kernel
def find_slots(sums: Float64, masses: Float64) -> Int64:
    """Returns the slots `[B]` at which the running sum of priorities passes each mass `[B]`."""
    leaves = sums.size // 2
    slots = np.empty(masses.size, np.int64)
    for i in range(masses.size):
        mass = masses[i]
        node = 1
        while node < leaves:
            node *= 2
            # A right child of sum 0 is never entered, even if rounding left too large a mass.
            if mass >= sums[node] and sums[node + 1] > 0:
                mass -= sums[node]
                node += 1
        slots[i] = node - leaves
    return slots
