"""Names that become folders, checked where they are given, and the prefixes of other packages' environments."""

import os
from collections.abc import Sequence

from mzprobe.errors import UsageError
from mzprobe.lines import unsayable

GYM, ATARI = "gym:", "atari:"  # Gymnasium's ID behind it, or the name of a game
_LONGEST = 200  # bytes; file systems take 255, and temporary names are longer than what they stand for


def check_choice(given: object, choices: Sequence[object], what: str) -> None:
    """Refuses what is none of a few choices, which a misspelt word would otherwise take for the last of them.

    Args:
        given: that was given.
        choices: what there is.
        what: it chooses, for the sentence.

    Raises:
        UsageError: naming the choices.
    """
    if given not in choices:
        raise UsageError(f"{what} is {' or '.join(repr(one) for one in choices)}, not {given!r}")


def check_name(name: str, what: str, remedy: str) -> None:
    """Refuses what cannot be the name of one folder that everybody sees.

    Args:
        name: that was given.
        what: it is to name, for the sentence.
        remedy: what to do instead.

    Raises:
        UsageError: naming it.
    """
    if not name or name.startswith(".") or "/" in name or "\\" in name or unsayable(name):
        raise UsageError(f"{what} cannot be named {name!r}: {remedy}")
    if len(os.fsencode(name)) > _LONGEST:
        raise UsageError(f"{what} cannot be named {name[:20]!r}... with {len(name)} characters: {remedy}")
