"""Checks of names that become folders and of choices, and the prefixes of other packages' environments."""

import os
from collections.abc import Sequence

from mzprobe.errors import UsageError
from mzprobe.lines import unsayable

GYM, ATARI = "gym:", "atari:"  # prefixes of a Gymnasium ID and of the name of an Atari game
_LONGEST = 200  # bytes; file systems allow 255, and temporary names are longer than the final ones


def check_choice(given: object, choices: Sequence[object], what: str) -> None:
    """Refuses a value that is none of the choices, since a misspelt one might otherwise pass for the last choice.

    Args:
        given: value to check.
        choices: allowed values.
        what: name of the setting, for the error message.

    Raises:
        UsageError: if `given` is not among the choices; names them.
    """
    if given not in choices:
        raise UsageError(f"{what} is {' or '.join(repr(one) for one in choices)}, not {given!r}")


def check_name(name: str, what: str, remedy: str) -> None:
    """Refuses a name that cannot be that of a single visible folder.

    Args:
        name: name to check.
        what: thing that it names, for the error message.
        remedy: end of the error message, what to do instead.

    Raises:
        UsageError: if the name is empty, hidden, too long, or has slashes or control characters.
    """
    if not name or name.startswith(".") or "/" in name or "\\" in name or unsayable(name):
        raise UsageError(f"{what} cannot be named {name!r}: {remedy}")
    length = len(os.fsencode(name))
    if length > _LONGEST:
        raise UsageError(f"{what} cannot be named {name[:20]!r}... with {length} bytes, more than {_LONGEST}: {remedy}")
