"""Checks of plain values, as TOML and JSON hold them, that no configuration accepts."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

_DEEPEST = 20  # levels of nesting; none needs more, and code that walks through values may recurse


def refuse_deep(value: Any) -> None:
    """Refuses values that are nested more deeply than any configuration needs.

    Raises:
        ValueError: if they are; the message is a few words.
    """
    for _, depth in _parts(value):
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} levels deep")


def refuse_odd(value: Any) -> None:
    """Refuses values that JSON cannot hold or would not read back unchanged.

    Raises:
        ValueError: if there is one; the message is a few words.
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
    """Returns a count from a file unchanged.

    Raises:
        ValueError: if it is no whole number from 0 to `most`.
    """
    if type(value) is not int or not 0 <= value <= most:  # refuses bool, a subclass of int
        raise ValueError(f"{value!r:.40} is no whole number from 0 to {most}")
    return value


def holds_boolean(value: Any) -> bool:
    """Whether a value is a boolean, or a list that contains one at any depth."""
    if isinstance(value, list | tuple):
        return any(isinstance(part, bool) for part, _ in _parts(value))
    return isinstance(value, bool)


def _refuse_surrogates(text: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("a text holds bytes that are no text")


def _parts(value: Any) -> Iterator[tuple[Any, int]]:
    """Yields a value and all values nested in it, each with its depth."""
    left = [(value, 0)]
    while left:
        part, depth = left.pop()
        yield part, depth
        inside = part.values() if isinstance(part, Mapping) else part if isinstance(part, list | tuple) else ()
        left.extend((one, depth + 1) for one in inside)
