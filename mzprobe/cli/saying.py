"""Messages of the command line on stderr, apart from the output of a command."""

import os
from contextlib import suppress

from rich.console import Console

from mzprobe.errors import UsageError
from mzprobe.lines import one_line


def say(sentence: str) -> None:
    """Prints one line on stderr, above any progress bars; ignores errors of the stream, so that work continues."""
    with suppress(OSError):
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False).print(one_line(sentence))


def refuse_removed_folder() -> None:
    """Refuses a working directory that no longer exists.

    Raises:
        UsageError: if it does not exist.
    """
    try:
        os.getcwd()
    except OSError as reason:
        raise UsageError(f"the working directory is gone ({reason.strerror}): change into one that exists") from None
