"""Reads observations of Gymnasium environments: checks them against their space and converts them to plain arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim, flatten
from numpy.typing import NDArray

from mzprobe.envs.core import ObservationType
from mzprobe.envs.validation import dtype_and_shape

EXACT = 1 << 24  # float32 holds every integer up to this one

_KINDS = {"f": "fiub", "i": "iub", "u": "iub", "b": "iub"}  # accepted kinds of dtype, by the kind of the space's dtype


class Reader:
    """Reader of observations as arrays `[*shape]`; those of a space that is no `Box` are flattened.

    Args:
        space: observation space of the environment.

    Raises:
        ValueError: if Gymnasium cannot flatten the space.
    """

    def __init__(self, space: Any) -> None:
        self._space = space
        self._box = isinstance(space, spaces.Box)
        try:
            self.shape: tuple[int, ...] = tuple(space.shape) if self._box else (flatdim(space),)
        except (NotImplementedError, ValueError):
            raise ValueError(f"observations {space}, which Gymnasium cannot flatten") from None
        # Boards of 0 and 1 are no images: networks would see them divided by 255.
        image = self._box and space.dtype == np.uint8 and bool((space.high > 1).any())
        self.dtype: ObservationType = "uint8" if image else "float32"
        self.usual: np.dtype[Any] | None = None  # dtype in a `Box` that was checked and casts safely to `dtype`
        self._wide: np.dtype[Any] | None = None  # dtype that was checked and may not cast safely

    def read(self, seen: Any) -> NDArray[Any]:
        """Returns a copy of an observation, whose numbers `dtype` can hold; those beyond float32 become infinite.

        Raises:
            ValueError: if it does not fit the space, or the conversion would change an integer; the message says which.
        """
        if self._box:
            array = np.array(seen)
            dtype = array.dtype  # compared by `is`, since None == np.dtype(float) holds
            if array.shape != self.shape or (dtype is not self.usual and dtype is not self._wide):
                self._compare(array)
            if dtype is self.usual:
                return array
            return _held(array) if self.dtype == "float32" else _bytes(array)
        wrong = misfit(self._space, seen)
        if wrong is not None:
            raise ValueError(wrong)
        array = np.array(flatten(self._space, seen))
        return _held(array) if isinstance(self._space, spaces.Dict | spaces.Tuple) else array

    def _compare(self, array: NDArray[Any]) -> None:
        """Checks an observation against a `Box`; not needed again while shape and dtype stay the same."""
        wrong = misfit(self._space, array)
        if wrong is not None:
            raise ValueError(wrong)
        if np.can_cast(array.dtype, self.dtype):
            self.usual = array.dtype
        else:
            self._wide = array.dtype


def misfit(space: Any, seen: Any) -> str | None:
    """Returns how an observation differs from its space, in words, or None if it fits.

    Of a `Box`, only the shape and the kind of number count, not the bounds.
    """
    match space:
        case spaces.Box():
            array = np.asarray(seen)
            if array.shape == space.shape and array.dtype.kind in _KINDS[space.dtype.kind]:
                return None
            return f"{dtype_and_shape(array)}, not {space.dtype} {list(space.shape)} as its space says"
        case spaces.Discrete():
            if isinstance(seen, np.ndarray) and seen.ndim == 0:
                seen = seen[()]
            whole = isinstance(seen, int | np.integer)
            fits = whole and space.start <= seen < space.start + space.n
            return None if fits else f"{_short(seen)}, which is not in its space {space}"
        case spaces.Dict():
            return _misfit_of_parts(space, seen, dict(space.spaces)) if isinstance(seen, Mapping) else _no(space, seen)
        case spaces.Tuple():
            if not isinstance(seen, tuple | list):
                return _no(space, seen)
            return _misfit_of_parts(space, dict(enumerate(seen)), dict(enumerate(space.spaces)))
        case spaces.MultiDiscrete() | spaces.MultiBinary():
            array = np.asarray(seen)
            if array.shape != space.shape or array.dtype.kind not in "iub":
                return f"{dtype_and_shape(array)}, not {space.dtype} {list(space.shape)} as its space says"
            return None if space.contains(array.astype(space.dtype)) else _no(space, seen)
    return None if space.contains(seen) else _no(space, seen)


def _misfit_of_parts(space: Any, seen: Mapping[Any, Any], parts: dict[Any, Any]) -> str | None:
    if seen.keys() != parts.keys():
        return _no(space, seen)
    for name, part in parts.items():
        wrong = misfit(part, seen[name])
        if wrong is not None:
            return f"at {name!r} {wrong}"
    return None


def _no(space: Any, seen: Any) -> str:
    return f"{_short(seen)}, which is not in its space {space}"


def _short(seen: Any) -> str:
    text = " ".join(repr(seen).split())
    return text if len(text) <= 60 else f"a {type(seen).__name__}"


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Converts numbers to uint8; raises ValueError if that would change one."""
    if array.size and (array.max() > np.iinfo(np.uint8).max or array.min() < 0):
        raise ValueError(f"numbers from {array.min()} to {array.max()}, not uint8 as its space says")
    return array.astype(np.uint8)


def _held(array: NDArray[Any]) -> NDArray[np.float32]:
    """Converts numbers to float32; raises ValueError if that would round an integer."""
    with np.errstate(over="ignore"):  # numbers beyond float32 become infinite
        small = array.astype(np.float32)
    if array.dtype.kind in "iu" and array.size and (array.max() > EXACT or array.min() < -EXACT):
        for number, rounded in zip(array.ravel().tolist(), small.ravel().tolist(), strict=True):
            if int(rounded) != number:
                raise ValueError(f"the integer {number}, which float32 rounds to {int(rounded)}")
    return small
