"""Powers, exponentials and logarithms of arrays, computed number by number with the C library.

Numpy's own functions differ in the last bit between processors with and without AVX-512, and that bit may change the
result of a search.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mzprobe._kernel import elementwise

Float64 = NDArray[np.float64]


def power(x: ArrayLike, y: ArrayLike) -> Float64:
    """Returns x^y, element by element; the shapes are broadcast."""
    return np.asarray(_power(np.asarray(x, np.float64), np.asarray(y, np.float64)))


def log(x: ArrayLike) -> Float64:
    """Returns the natural logarithm, element by element."""
    return np.asarray(_log(np.asarray(x, np.float64)))


def exp(x: ArrayLike) -> Float64:
    """Returns e^x, element by element."""
    return np.asarray(_exp(np.asarray(x, np.float64)))


@elementwise(2)
def _power(x: Any, y: Any) -> Any:
    return math.pow(x, y)


@elementwise(1)
def _log(x: Any) -> Any:
    return math.log(x)


@elementwise(1)
def _exp(x: Any) -> Any:
    return math.exp(x)
