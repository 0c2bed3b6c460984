"""Output streams that take any text, and that let a command work on when nobody reads them."""

import os
import sys
from contextlib import suppress


def open_streams() -> None:
    """Lets stdout and stderr take all that is said: what they cannot encode becomes `?`, a closed one swallows it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # It gets the stream's own number, which else a file of results could get, and what others print there.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as we live
        elif hasattr(stream, "reconfigure"):
            with suppress(OSError):  # it writes out what there is; nobody reads any more
                stream.reconfigure(errors="replace")
    if os.environ.get("COLUMNS") == "0":  # as where there is no terminal; tables would have no room at all
        del os.environ["COLUMNS"]


def flush_streams() -> bool:
    """Writes out what is left to say; whether somebody still reads it. What nobody reads is dropped without a word."""
    read = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            read = False
            _mute(stream.fileno())  # for Python's own flush at the end
    return read


def mute_streams() -> None:
    """Drops from now on what goes to stderr, and to stdout where that is the same terminal or file."""
    with suppress(OSError):  # of streams that are not files
        out, err = (os.fstat(stream.fileno()) for stream in (sys.stdout, sys.stderr))
        if (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino):
            _mute(sys.stdout.fileno())
        _mute(sys.stderr.fileno())


def _mute(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
