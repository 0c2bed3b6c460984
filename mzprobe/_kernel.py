"""The one place where functions are compiled: options, cache and types of numba kernels."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compiles an exact kernel: IEEE arithmetic in the order written, released GIL, cached on disk."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def borrowing(function: F) -> F:
    """Compiles an exact kernel that allocates no array, and so counts no references to any.

    A count takes 10 to 20 ns, as an atomic operation, where the product of a row takes 60. The switch is numba's own,
    for kernels that own nothing; one that allocates does not compile.
    """
    uncounted: dict[str, Any] = {"_nrt": False}  # which numba's type stubs leave out
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy", **uncounted)(function))


def elementwise(arguments: int) -> Callable[[F], F]:
    """Compiles an exact function of so many float64 numbers to one of arrays, element by element, as numpy's are."""
    signature = numba.float64(*[numba.float64] * arguments)
    return cast(Callable[[F], F], numba.vectorize([signature], cache=True))


def inlined(function: F) -> F:
    """Compiles an exact kernel that is inlined into the kernels that call it."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")(function))
