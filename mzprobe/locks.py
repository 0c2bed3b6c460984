"""One command at a time in a folder or at a file: a lock that the operating system lets go when its holder dies."""

import errno
import json
import os
import platform
import shlex
import stat
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mzprobe.errors import InUse, MzprobeError, MzprobeWarning
from mzprobe.files import leftovers, remove_leftovers, said_of

_TRIES = 20  # to lock a file that others remove just then
_BLINK = 0.2  # seconds to wait for whoever only looks whether it is held
_LOCKLESS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)  # what file systems without locks say
_MOMENTS = 60.0  # seconds to wait for a command that takes less


@contextmanager
def held(path: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Holds the lock of a folder or file that a command writes, for the block.

    It is a file beside it, `.<name>.lock`, which says by whom and goes at the end. Where the file system has no locks,
    a warning says so and the block runs without one.

    Args:
        path: what is written; it need not be there.
        wait: seconds to wait for another holder.

    Raises:
        InUse: if another command holds it, in this process or in another one.
        MzprobeError: if the lock's own file cannot be written, or is something else.
    """
    file = _file_of(path)
    with said_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(file) and not stat.S_ISREG(file.lstat().st_mode):  # whoever follows a link writes elsewhere
            raise MzprobeError(f"{file} is to be the lock of {path} and is no file: remove it")
    if not os.access(path.parent, os.W_OK):  # else it would be noticed after the work
        raise MzprobeError(f"{path.parent} cannot be written to: give another folder, or mend its permissions")
    try:
        with said_of(path):
            lock = _locked(file, wait)
    except _NoLocksError as reason:
        said = f"{path} cannot be locked ({reason}): let no other command write there"
        warnings.warn(said, MzprobeWarning, stacklevel=4)
        yield
        return
    if lock is None:
        raise InUse(f"{path} is in use by {_in_words(_written_in(file))}: wait until it is done, or stop it")
    try:
        with suppress(OSError):  # it names the holder, and holds nothing
            file.write_text(_me(), "utf-8")
        yield
    finally:
        with suppress(OSError):
            file.unlink()
        lock.release()


class _NoLocksError(Exception):
    """The file system has no locks, or they keep nobody out."""


def _locked(file: Path, wait: float) -> FileLock | None:
    """Locks the file that has this name now; None where another holds it.

    A former holder may have removed the one that was opened before it was locked; then the name can be locked again.

    Raises:
        OSError: if its file cannot be written.
        _NoLocksError: if nothing can be locked there, or again and again.
    """
    try:
        for _ in range(_TRIES):
            # A file in the place of a lock would outlive a holder that is killed.
            lock, again = (FileLock(file, fallback_to_soft=False) for _ in range(2))
            lock.acquire(timeout=max(wait, _BLINK), poll_interval=0.1)
            try:
                again.acquire(timeout=0)
            except Timeout:
                return lock
            again.release()
            lock.release()
    except Timeout:  # an OSError itself
        return None
    except NotImplementedError as reason:
        raise _NoLocksError(reason) from None
    except PermissionError:
        if file.exists() and not _is_free(file):  # of another user, whose lock it is
            return None
        raise
    except OSError as reason:
        if reason.errno in _LOCKLESS:
            raise _NoLocksError(reason) from None
        raise
    raise _NoLocksError("locks keep nobody out there")


@contextmanager
def all_held(paths: Sequence[Path]) -> Iterator[None]:
    """Holds the locks of several paths, all or none; arguments and errors as in `held`."""
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(held(path))
        yield


@contextmanager
def folder_held(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder whose files are made anew in moments, and leaves no half-written one behind.

    Raises:
        InUse: if another command still holds it after a minute.
        MzprobeError: as `held`.
    """
    with held(folder, wait=_MOMENTS):
        yield
        remove_leftovers(folder)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lock, or held it when it was killed."""

    file: Path  # of the lock
    process: int
    host: str
    begun: str = ""  # when that process began, as far as its system shows it: numbers are given again
    command: str = ""

    def lives(self) -> bool:
        """Whether it still runs, of another machine whether its lock is held; where nobody can tell it is taken to."""
        if self.host != platform.node():
            return not _is_free(self.file)
        if os.name == "nt":  # where asking would end it
            return True
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return True
        state, began = _shown(self.process)
        return state != "Z" and (not began or not self.begun or began == self.begun)


def holder(path: Path) -> Holder | None:
    """Who last locked a path and has not let it go; the lock is read, not touched."""
    return _written_in(_file_of(path))


def _written_in(file: Path) -> Holder | None:
    """Who wrote into a lock's file, as far as it can be read."""
    try:
        if not file.is_file():  # whoever opens a pipe waits for its writer
            return None
        found = json.loads(file.read_text("utf-8"))
        begun, command = str(found.get("begun", "")), str(found.get("command", ""))
        return Holder(file=file, process=int(found["process"]), host=str(found["host"]), begun=begun, command=command)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_free(file: Path) -> bool:
    """Whether nobody holds a lock, asked by sharing it for a moment; where that cannot be asked, somebody does."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def in_use(path: Path) -> Holder | None:
    """Who holds the lock of a path and lives; the lock is read, not touched."""
    found = holder(path)
    return found if found is not None and found.lives() else None


def _shown(process: int) -> tuple[str, str]:
    """A process's state, Z where it has ended unnoticed, and when it began since which boot, where Linux shows them."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return fields[0], f"{fields[19]} of {boot}"
    except (OSError, ValueError, IndexError):
        return "", ""


def tidy(path: Path) -> None:
    """Removes what a command left that was killed after it had finished what lies at a path: its lock, mostly.

    For commands that find all of it done, and change nothing. Where nothing is left, or another command is at work, or
    nothing can be written, it does nothing.
    """
    if os.access(path.parent, os.W_OK) and (_file_of(path).exists() or leftovers(path.parent, path.name)):
        with suppress(InUse), held(path):
            remove_leftovers(path.parent, path.name)


def _file_of(path: Path) -> Path:
    return path.parent / f".{path.name}.lock"


def _me() -> str:
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    me = {"process": os.getpid(), "host": platform.node(), "begun": _shown(os.getpid())[1]}
    return json.dumps({**me, "command": command})


def _in_words(holder: Holder | None) -> str:
    if holder is None or not holder.command:
        return "another command"
    return f"process {holder.process} on {holder.host} ({holder.command})"
