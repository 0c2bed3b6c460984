"""Locks that let one command at a time write a folder or file; the operating system frees them if the holder dies."""

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

_TRIES = 20  # attempts to lock a file that other commands may remove meanwhile
_BLINK = 0.2  # seconds to wait for a command that only checks whether the lock is held
_LOCKLESS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)  # errors of file systems without locks
_MOMENTS = 60.0  # seconds to wait for a command that writes quickly


@contextmanager
def held(path: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Holds the lock of a folder or file that a command writes, within the block.

    The lock is a file beside it, `.<name>.lock`, which names the holder and is removed at the end. Where the file
    system has no locks, a warning is issued and the block runs without one.

    Args:
        path: folder or file that is written; it need not exist.
        wait: seconds to wait for another holder.

    Raises:
        InUse: if another command holds it, in this process or in another one.
        MzprobeError: if the lock's own file cannot be written, or is something else.
    """
    file = _file_of(path)
    with said_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(file) and not stat.S_ISREG(file.lstat().st_mode):  # writing to a link would write elsewhere
            raise MzprobeError(f"{file} is to be the lock of {path} and is no file: remove it")
    if not os.access(path.parent, os.W_OK):  # fail now rather than after the work
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
        with suppress(OSError):  # the content only names the holder; the lock holds without it
            file.write_text(_me(), "utf-8")
        yield
    finally:
        with suppress(OSError):
            file.unlink()
        lock.release()


class _NoLocksError(Exception):
    """The file system has no locks, or they do not exclude others."""


def _locked(file: Path, wait: float) -> FileLock | None:
    """Locks the file that has this name now; returns None if another process holds it.

    A former holder may have removed the file between our opening and locking it. Then the name can be locked a second
    time, and we try again.

    Raises:
        OSError: if its file cannot be written.
        _NoLocksError: if the file system has no locks, or the same name could be locked twice in every attempt.
    """
    try:
        for _ in range(_TRIES):
            # A soft lock, a mere file, would outlive a holder that is killed.
            lock, again = (FileLock(file, fallback_to_soft=False) for _ in range(2))
            lock.acquire(timeout=max(wait, _BLINK), poll_interval=0.1)
            try:
                again.acquire(timeout=0)
            except Timeout:
                return lock
            again.release()
            lock.release()
    except Timeout:  # before OSError, whose subclass it is
        return None
    except NotImplementedError as reason:
        raise _NoLocksError(reason) from None
    except PermissionError:
        if file.exists() and not _is_free(file):  # another user holds it
            return None
        raise
    except OSError as reason:
        if reason.errno in _LOCKLESS:
            raise _NoLocksError(reason) from None
        raise
    raise _NoLocksError("locks keep nobody out there")


@contextmanager
def all_held(paths: Sequence[Path]) -> Iterator[None]:
    """Holds the locks of several paths, all or none; raises as `held` does."""
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(held(path))
        yield


@contextmanager
def folder_held(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder whose files are quickly remade, and removes half-written files at the end.

    Raises:
        InUse: if another command still holds it after a minute.
        MzprobeError: as in `held`.
    """
    with held(folder, wait=_MOMENTS):
        yield
        remove_leftovers(folder)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds a lock, or that held it when it was killed."""

    file: Path  # file of the lock
    process: int
    host: str
    begun: str = ""  # start of the process, where the system shows it, since process numbers are reused
    command: str = ""

    def lives(self) -> bool:
        """Whether the process still runs, or, on another host, whether its lock is held; True if that is unknown."""
        if self.host != platform.node():
            return not _is_free(self.file)
        if os.name == "nt":  # os.kill would end the process there
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
    """Returns who last locked a path without releasing it, or None; only reads the lock."""
    return _written_in(_file_of(path))


def _written_in(file: Path) -> Holder | None:
    """Returns the holder that a lock's file names, or None if it names none or cannot be read."""
    try:
        if not file.is_file():  # opening a pipe would wait for its writer
            return None
        found = json.loads(file.read_text("utf-8"))
        begun, command = str(found.get("begun", "")), str(found.get("command", ""))
        return Holder(file=file, process=int(found["process"]), host=str(found["host"]), begun=begun, command=command)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_free(file: Path) -> bool:
    """Whether no process holds a lock, tested by taking a shared lock for a moment; False if that is impossible."""
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
    """Returns the running holder of a path's lock, or None; only reads the lock."""
    found = holder(path)
    return found if found is not None and found.lives() else None


def _shown(process: int) -> tuple[str, str]:
    """Returns a process's state (Z for a zombie) and its start time with the boot's id; empty where not on Linux."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return fields[0], f"{fields[19]} of {boot}"
    except (OSError, ValueError, IndexError):
        return "", ""


def tidy(path: Path) -> None:
    """Removes what a command left that was killed after it had finished its work at a path, mostly its lock.

    For commands that find the work complete and change nothing. No-op if nothing is left, another command holds the
    lock or the folder cannot be written.
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
