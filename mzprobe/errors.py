"""Errors and warnings for the user, each one sentence that names the problem and the remedy."""

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
        """Returns the message as one line, whatever names and paths it contains."""
        return one_line(super().__str__())


def said_of_unexpected(error: Exception, *, remedy: str = "run with --debug and report the traceback") -> str:
    """Returns the sentence for an error that is no `MzprobeError`; `remedy` ends it where the cause is unknown."""
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
    """Returns file and line of the innermost frame that is neither in mzprobe nor in an installed package, or None."""
    places: tuple[str, ...] = (*sysconfig.get_paths().values(), os.path.dirname(__file__))
    installed = tuple(os.path.join(place, "") for place in places)
    own = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        if os.path.isabs(name) and not name.startswith(installed):
            own = f"{os.path.basename(name)} line {line}"
    return own


def _is_of_memory(error: Exception) -> bool:
    """Whether an error is about memory.

    Torch raises no MemoryError, and neither does numpy for sizes beyond any machine's.
    """
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
    """The request itself is wrong, such as a path, a key or a value."""

    exit_code = 2


class CheckpointError(MzprobeError):
    """A checkpoint is truncated, edited, foreign or of a newer format."""


class DatasetError(MzprobeError):
    """A dataset is truncated, edited, or inconsistent with its own description."""


class CheckFailed(MzprobeError):  # noqa: N818 - reads as the outcome of check_env and check_network
    """A plug-in violates its protocol."""


class InUse(MzprobeError):  # noqa: N818
    """Another command is writing to the same place."""


class TrainingDiverged(MzprobeError):  # noqa: N818
    """The loss stopped being finite."""


class Interrupted(MzprobeError):  # noqa: N818
    """A signal stopped the work; what was done is on disk."""

    exit_code = 130  # that of Ctrl-C; the command line exits with that of the signal


class MzprobeWarning(UserWarning):
    """A problem that does not stop a run but that its user should know; the command line prints it as one line."""


@contextmanager
def warnings_to(tell: Callable[[str], Any]) -> Iterator[None]:
    """Passes the messages of mzprobe's warnings to `tell` within the block; other warnings are shown as usual."""

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
