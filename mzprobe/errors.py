"""Errors that a user can meet, each said in one sentence that names the problem and the remedy."""

import os
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from mzprobe.lines import one_line

_NO_MEMORY = (
    "there is not enough memory for this: ask for less at a time (--memory, --processes, training.replay_capacity "
    "and the sizes of the network say how much), or run it where there is more"
)


class MzprobeError(Exception):
    """A failure that the command line prints as one sentence, without a traceback."""

    exit_code = 1

    def __str__(self) -> str:
        """One line, whatever names and paths are in it."""
        return one_line(super().__str__())


def said_of_unexpected(error: Exception, *, remedy: str = "run with --debug and report the traceback") -> str:
    """The sentence for an error that nobody turned into one of these; `remedy` is for one that nobody knows."""
    if _is_of_memory(error):
        return _NO_MEMORY
    if isinstance(error, OSError) and error.filename is not None:
        said = error.strerror or type(error).__name__
        return f"{os.fsdecode(error.filename)} cannot be used ({said}): give another place, or mend that one"
    own = _users_code(error)
    if own is not None:
        return (
            f"code of your own, {own}, raised {type(error).__name__} ({error}): mend it, and try an environment with "
            "mzprobe.check_env, a network with mzprobe.check_network"
        )
    return f"an unexpected {type(error).__name__} ({error}): {remedy}"


def _users_code(error: Exception) -> str | None:
    """File and line of the last code on the way to an error that is neither mzprobe's nor installed; or None."""
    places: tuple[str, ...] = (*sysconfig.get_paths().values(), os.path.dirname(__file__))
    installed = tuple(os.path.join(place, "") for place in places)
    own = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        if os.path.isabs(name) and not name.startswith(installed):
            own = f"{os.path.basename(name)} line {line}"
    return own


def _is_of_memory(error: Exception) -> bool:
    """Torch has no MemoryError, and numpy none for what no machine has."""
    known = isinstance(error, RuntimeError | ValueError) and any(part in str(error) for part in _MEMORY)
    return known or isinstance(error, MemoryError)


_MEMORY = (
    "allocate memory",
    "not enough memory",
    "out of memory",
    "Storage size calculation overflowed",
    "array is too big",
    "Maximum allowed dimension exceeded",
)


class UsageError(MzprobeError):
    """The request itself was wrong: a path, a key, a value."""

    exit_code = 2


class CheckpointError(MzprobeError):
    """A checkpoint is truncated, edited, foreign or of a newer format."""


class DatasetError(MzprobeError):
    """A dataset is truncated, edited, or not what it says."""


class CheckFailed(MzprobeError):  # noqa: N818 - reads as the outcome of check_env and check_network
    """A plug-in does not keep its protocol."""


class InUse(MzprobeError):  # noqa: N818
    """Another command writes in the same place."""


class TrainingDiverged(MzprobeError):  # noqa: N818
    """The loss stopped being finite."""


class Interrupted(MzprobeError):  # noqa: N818
    """A signal asked the work to stop; what was done is on disk."""

    exit_code = 130  # of Ctrl-C; the command line gives that of the signal


class MzprobeWarning(UserWarning):
    """What a run goes on with, but its user should know; the command line prints it as one line."""


@contextmanager
def warnings_to(tell: Callable[[str], Any]) -> Iterator[None]:
    """Within it, the sentences of mzprobe's warnings go to `tell`; other warnings are shown as ever."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, MzprobeWarning):
            tell(str(message))
        else:
            elsewhere(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        elsewhere = warnings.showwarning
        warnings.showwarning = show
        yield
