"""Numbers drawn by lot, always the same for the same root: a counter-based hash of its observation.

Ties in the search and the actions of rollouts are drawn this way. A root is therefore searched in the same way in any
batch, on any device, and in the learned as in the true model, which makes their comparison paired.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mzprobe._kernel import inlined, kernel

UInt64 = NDArray[np.uint64]

# SplitMix64 (Steele, Lea and Flood 2014): the golden ratio's increment and the finaliser's two factors.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_1 = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR_2 = np.uint64(0x94D049BB133111EB)
_ROWS = 8  # rows hashed side by side
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)


@inlined
def _mix(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> _S30)) * _FACTOR_1
    x = (x ^ (x >> _S27)) * _FACTOR_2
    return x ^ (x >> _S31)


@inlined
def lot(key: np.uint64, first: int, second: int) -> np.uint64:
    """Hashes a key and two counters, such as a node and an action, to 64 bits."""
    return _mix(_mix(key + np.uint64(first) * _STEP) + np.uint64(second) * _STEP)


@kernel
def _keys(words: NDArray[np.uint32], seed: np.uint64) -> UInt64:
    B = words.shape[0]
    keys = np.full(B, _mix(seed + _STEP))
    for first in range(0, B, _ROWS):  # side by side, because within a row each product waits for the last
        last = min(first + _ROWS, B)
        for j in range(words.shape[1]):
            for b in range(first, last):
                keys[b] = _mix(keys[b] + np.uint64(words[b, j]) + _STEP)
    return keys


def root_keys(observations: ArrayLike, seed: int) -> UInt64:
    """Returns a key for each root, `[B]`, hashed from its observation `[B, ...]` and the seed."""
    given = np.ascontiguousarray(observations, np.float32)
    flat = given.reshape(len(given), -1) + np.float32(0)  # -0 becomes 0
    return _keys(flat.view(np.uint32), np.uint64(seed))
