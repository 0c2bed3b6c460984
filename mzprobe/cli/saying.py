"""What the command line says beside a command's own output, and streams that let it say anything."""

import os
import sys
from contextlib import suppress

from rich.console import Console

from mzprobe.errors import UsageError
from mzprobe.lines import one_line


def say(sentence: str) -> None:
    """One line on stderr, above progress bars where there are any."""
    Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False).print(one_line(sentence))


def open_streams() -> None:
    """Lets stdout and stderr take all that is said: what they cannot encode becomes `?`, a closed one swallows it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # It gets the stream's own number, which else a file of results could get, and what others print there.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as we live
        elif hasattr(stream, "reconfigure"):
            with suppress(BrokenPipeError):  # it writes out what there is; nobody reads any more
                stream.reconfigure(errors="replace")
    if os.environ.get("COLUMNS") == "0":  # as where there is no terminal; tables would have no room at all
        del os.environ["COLUMNS"]


def flush_streams() -> bool:
    """Writes out what is left to say; whether somebody still reads it. What nobody reads is dropped without a word."""
    read = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            read = False
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # for Python's own flush at the end
    return read


def refuse_removed_folder() -> None:
    """Refuses a working directory that is gone.

    Raises:
        UsageError: with the remedy.
    """
    try:
        os.getcwd()
    except OSError as reason:
        raise UsageError(f"the working directory is gone ({reason.strerror}): change into one that exists") from None
