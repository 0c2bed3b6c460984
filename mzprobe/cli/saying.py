"""What the command line says beside a command's own output."""

import os
from contextlib import suppress

from rich.console import Console

from mzprobe.errors import UsageError
from mzprobe.lines import one_line


def say(sentence: str) -> None:
    """Prints one line on stderr, above progress bars where there are any; work goes on if it cannot be printed."""
    with suppress(OSError):
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False).print(one_line(sentence))


def refuse_removed_folder() -> None:
    """Refuses a working directory that is gone.

    Raises:
        UsageError: with the remedy.
    """
    try:
        os.getcwd()
    except OSError as reason:
        raise UsageError(f"the working directory is gone ({reason.strerror}): change into one that exists") from None
