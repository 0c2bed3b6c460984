"""Files that are whole or not there: atomic writes, digests, and errors that name the file."""

import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from mzprobe.errors import MzprobeError, UsageError
from mzprobe.signals import unbroken

Chunks = Sequence[bytes | memoryview]  # of a file, one after the other

_MARK = ".mzprobe-"  # between a name and what makes it another
NO_AGENT = "give an agent's folder, a run's or a checkpoint of other code, or train one with mzprobe train"


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def digest_of(chunks: Chunks) -> str:
    """Hexadecimal SHA-256 of a file in chunks."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and fixed layout: equal values give equal bytes.

    A name that is no UTF-8, as a path of a foreign locale may hold, is escaped and read back as it was.
    """
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode()


def sealed(record: Mapping[str, Any]) -> bytes:
    """A JSON record that carries the SHA-256 of its own content."""
    content = {key: value for key, value in record.items() if key != "record_sha256"}
    return canonical_json({**content, "record_sha256": sha256(canonical_json(content).encode())}).encode()


def write_file(path: Path, data: bytes | Chunks) -> None:
    """Writes `data` so that after a crash `path` holds either the old bytes or all of the new ones.

    Raises:
        MzprobeError: if the disk is full or the place cannot be written.
    """
    with said_of(path), unbroken():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path)
        try:
            with temporary.open("xb") as file:
                _write_through(file, data)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def replace_file(path: Path, data: bytes) -> Literal["written", "unchanged", "replaced"]:
    """Writes a file that is made from others, and says whether one was there that differed.

    Raises:
        MzprobeError: if the disk is full or the place cannot be written.
    """
    old = path.is_file()
    if old and path.read_bytes() == data:
        return "unchanged"
    write_file(path, data)
    return "replaced" if old else "written"


def write_directory(path: Path, files: Mapping[str, bytes | Chunks]) -> None:
    """Writes a folder of files that appears under its name only when all of it is on disk.

    A folder already there is replaced: it is renamed away first, so that no reader sees a mixture.

    Raises:
        MzprobeError: if the disk is full or the place cannot be written.
    """
    with said_of(path), unbroken():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path)
        temporary.mkdir()
        try:
            for name, data in files.items():
                with (temporary / name).open("wb") as file:
                    _write_through(file, data)
            _sync(temporary)
            if path.exists():
                _swap(temporary, path)
            else:
                os.replace(temporary, path)
            _sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A folder to fill, which appears under its name when the block ends well and all of it is on disk.

    An error leaves nothing. What a killed process left half-filled is removed: whoever calls holds the path's lock.

    Raises:
        MzprobeError: if something has that name, the disk is full or the place cannot be written.
    """
    with said_of(path, after="free some and run the same command again"):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, path.name)
        temporary = _beside(path)
        temporary.mkdir()
        try:
            yield temporary
            with unbroken():
                _sync_all(temporary)
                if path.exists():
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                os.replace(temporary, path)
                _sync(path.parent)
        finally:
            with unbroken():
                shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    """Puts a folder in the place of another, which comes back if that fails."""
    aside = _beside(path)
    aside.mkdir()
    old = aside / path.name
    try:
        os.replace(path, old)
        try:
            os.replace(new, path)
        except BaseException:
            os.replace(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        with suppress(OSError):
            aside.rmdir()


def _beside(path: Path) -> Path:
    """A temporary name for a path: hidden, and such as nobody else gives; what is made there has the umask's modes."""
    return path.with_name(f".{path.name}{_MARK}{secrets.token_hex(4)}")


def remove_directory(path: Path) -> None:
    """Removes a folder that no longer counts; it goes from its name at once, so that no half of it is seen there."""
    with said_of(path):
        aside = _beside(path)
        aside.mkdir()
        try:
            os.replace(path, aside / path.name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Removes what killed processes left half-written in a folder, for whoever holds the lock of what lies there.

    Args:
        folder: it need not be there.
        name: that was to be written; any by default.
    """
    for path in leftovers(folder, name):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def leftovers(folder: Path, name: str | None = None) -> list[Path]:
    """What `remove_leftovers` would remove."""
    pattern = "*" if name is None else glob.escape(name)
    return list(folder.glob(f".{pattern}{_MARK}????????"))


def there(path: Path) -> bool:
    """Whether something has that name; none that no file can have does, and none behind a closed folder."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def refuse_absent(path: Path, *, remedy: str) -> None:
    """Refuses a path at which nothing is.

    Raises:
        UsageError: in one sentence that ends in `remedy`.
    """
    if not there(path):
        raise UsageError(f"{path} does not exist: {remedy}")


def read_bytes(path: Path, *, error: Callable[[str], MzprobeError], remedy: str) -> bytes:
    """Reads a file, or raises `error` with one sentence that ends in `remedy`; a pipe or a device may never end."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return path.read_bytes()
    except FileNotFoundError:
        raise error(f"{path} does not exist: {remedy}") from None
    except OSError as reason:
        raise error(f"{path} cannot be read ({reason.strerror}): {remedy}") from None
    except ValueError:  # a name with a null in it
        raise error(f"{path} is not the name of a file: {remedy}") from None
    raise error(f"{path} is not a file: {remedy}")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds now, unverified; an empty one where there is none."""
    try:
        found = json.loads(read_bytes(path, error=MzprobeError, remedy="it is not needed"))
    except (MzprobeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def said_of(path: Path, *, after: str = "free some and run the same command again, it resumes") -> Iterator[None]:
    """Turns an operating system's refusal into one sentence about `path`; `after` is the remedy for a full disk."""
    try:
        yield
    except OSError as reason:
        if reason.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            said = f"no space left to write {path}: {after}"
        else:
            said = f"{path} cannot be written ({reason.strerror}): choose another place"
        raise MzprobeError(said) from reason


def _write_through(file: IO[bytes], data: bytes | Chunks) -> None:
    """Writes, and waits until it is on disk."""
    file.writelines([data] if isinstance(data, bytes) else data)
    file.flush()
    os.fsync(file.fileno())


def _sync_all(folder: Path) -> None:
    """Waits until all files of a folder are on disk; one call for thousands takes a fraction of one call each."""
    if hasattr(os, "sync"):
        os.sync()
        return
    for path in folder.rglob("*"):
        _sync(path)


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on disk; some platforms cannot open a folder."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
