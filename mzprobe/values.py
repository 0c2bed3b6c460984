"""Plain values, as TOML and JSON hold them, and which of them no configuration accepts."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

_DEEPEST = 20  # levels of nesting; nothing needs as many, and whoever walks through values may recurse


def refuse_deep(value: Any) -> None:
    """Refuses what is nested so deeply that nobody means it.

    Raises:
        ValueError: in a few words.
    """
    for _, depth in _parts(value):
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} levels deep")


def refuse_odd(value: Any) -> None:
    """Refuses what JSON does not hold, or gives back as something else.

    Raises:
        ValueError: in a few words.
    """
    refuse_deep(value)
    for part, _ in _parts(value):
        if isinstance(part, Mapping):
            for key in part:
                if not isinstance(key, str):
                    raise ValueError(f"{key!r} is no text, as keys are")
                _refuse_surrogates(key)
        elif isinstance(part, float):
            if not math.isfinite(part):
                raise ValueError(f"{part} is no finite number")
        elif isinstance(part, int):
            if not -(2**63) <= part < 2**63:
                raise ValueError("a whole number has more than 64 bits")
        elif isinstance(part, str):
            _refuse_surrogates(part)
        elif not isinstance(part, list | tuple | None):
            raise ValueError(f"a {type(part).__name__} is no text, number, truth, list or section")


def whole(value: Any, *, most: int = 2**53) -> int:
    """A count that a file has, as it is.

    Raises:
        ValueError: if it is no whole number from 0 to `most`.
    """
    if type(value) is not int or not 0 <= value <= most:  # true is no count
        raise ValueError(f"{value!r:.40} is no whole number from 0 to {most}")
    return value


def holds_boolean(value: Any) -> bool:
    """Whether a value is true or false, or a list with one of them in it."""
    if isinstance(value, list | tuple):
        return any(isinstance(part, bool) for part, _ in _parts(value))
    return isinstance(value, bool)


def _refuse_surrogates(text: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("a text holds bytes that are no text")


def _parts(value: Any) -> Iterator[tuple[Any, int]]:
    """A value and all that is in it, with the levels above each."""
    left = [(value, 0)]
    while left:
        part, depth = left.pop()
        yield part, depth
        inside = part.values() if isinstance(part, Mapping) else part if isinstance(part, list | tuple) else ()
        left.extend((one, depth + 1) for one in inside)
