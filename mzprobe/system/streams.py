"""Output streams that accept any text, and that let a command continue when no one reads them any more."""

import os
import sys
from contextlib import suppress


def open_streams() -> None:
    """Makes stdout and stderr accept any text: characters they cannot encode become `?`, a closed stream drops all."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # It takes the stream's file descriptor, which a file of results could get otherwise, and with it the output
            # that libraries write there.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as we live
        elif hasattr(stream, "reconfigure"):
            with suppress(OSError):  # reconfiguring flushes, which fails if no one reads any more
                stream.reconfigure(errors="replace")
    if os.environ.get("COLUMNS") == "0":  # set where there is no terminal; tables would have no width
        del os.environ["COLUMNS"]


def flush_streams() -> bool:
    """Flushes stdout and stderr; returns whether both are still read. Output that no one reads is dropped silently."""
    read = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            read = False
            _mute(stream.fileno())  # so that Python's own flush at exit succeeds
    return read


def mute_streams() -> None:
    """Drops all further output to stderr, and to stdout if that is the same terminal or file."""
    with suppress(OSError):  # streams that are not files have no descriptor
        out, err = (os.fstat(stream.fileno()) for stream in (sys.stdout, sys.stderr))
        if (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino):
            _mute(sys.stdout.fileno())
        _mute(sys.stderr.fileno())


def _mute(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
