"""Files that are complete or absent: atomic writes, digests, and errors that name the file."""

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
from mzprobe.system.signals import unbroken

Chunks = Sequence[bytes | memoryview]  # consecutive parts of a file

_MARK = ".mzprobe-"  # separates the name from the random suffix in a temporary name
NO_AGENT = "give an agent's folder, a run's or a checkpoint of other code, or train one with mzprobe train"


def sha256(data: bytes) -> str:
    """Returns the hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def digest_of(chunks: Chunks) -> str:
    """Returns the hexadecimal SHA-256 of a file in chunks."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def canonical_json(value: Any) -> str:
    """Returns JSON with sorted keys and fixed layout, so that equal values have equal bytes.

    Text that is not valid UTF-8, as in a path from another locale, is escaped, and is read back unchanged.
    """
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode()


def sealed(record: Mapping[str, Any]) -> bytes:
    """Returns a JSON record with the SHA-256 of its own content in `record_sha256`."""
    content = {key: value for key, value in record.items() if key != "record_sha256"}
    return canonical_json({**content, "record_sha256": sha256(canonical_json(content).encode())}).encode()


def write_file(path: Path, data: bytes | Chunks) -> None:
    """Writes `data` so that after a crash `path` holds either the old bytes or all of the new bytes.

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
    """Writes a file unless it already has this content; returns whether it was written, unchanged or replaced.

    Raises:
        MzprobeError: if the disk is full or the place cannot be written.
    """
    old = path.is_file()
    if old and path.read_bytes() == data:
        return "unchanged"
    write_file(path, data)
    return "replaced" if old else "written"


def write_directory(path: Path, files: Mapping[str, bytes | Chunks]) -> None:
    """Writes a folder of files, which appears under its name only when all files are on disk.

    An existing folder is replaced. It is renamed away first, so that no reader sees a mixture.

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
    """Yields a temporary folder to fill, which is renamed to `path` when the block succeeds and all is on disk.

    An error in the block removes it. Half-filled folders of killed processes are removed first, so the caller must
    hold the lock of `path`.

    Raises:
        MzprobeError: if `path` exists already, the disk is full or the place cannot be written.
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
    """Replaces a folder by a new one; the old folder is restored if that fails."""
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
    """Returns a hidden temporary path beside `path`, unique to this call.

    Nothing is created yet, so that the caller's file or folder gets the modes of the umask, unlike those of `tempfile`.
    """
    return path.with_name(f".{path.name}{_MARK}{secrets.token_hex(4)}")


def remove_directory(path: Path) -> None:
    """Removes a folder; it is renamed away first, so that no reader sees a part of it."""
    with said_of(path):
        aside = _beside(path)
        aside.mkdir()
        try:
            os.replace(path, aside / path.name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Removes what killed processes left half-written in a folder; the caller must hold the lock of what lies there.

    Args:
        folder: folder to clean; it need not exist.
        name: name of the file or folder that was being written; None means any.
    """
    for path in leftovers(folder, name):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def leftovers(folder: Path, name: str | None = None) -> list[Path]:
    """Returns the paths that `remove_leftovers` would remove."""
    pattern = "*" if name is None else glob.escape(name)
    return list(folder.glob(f".{pattern}{_MARK}????????"))


def there(path: Path) -> bool:
    """Whether the path exists; False for an invalid name and inside a folder that cannot be accessed."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def refuse_absent(path: Path, *, remedy: str) -> None:
    """Refuses a path that does not exist.

    Raises:
        UsageError: if it does not exist; the message ends in `remedy`.
    """
    if not there(path):
        raise UsageError(f"{path} does not exist: {remedy}")


def read_bytes(path: Path, *, error: Callable[[str], MzprobeError], remedy: str) -> bytes:
    """Reads a regular file, or raises `error` with a sentence that ends in `remedy`.

    Pipes and devices are refused, because reading them may never end.
    """
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
    """Returns the JSON object in a file, unverified; an empty one if the file is missing or holds no object."""
    try:
        found = json.loads(read_bytes(path, error=MzprobeError, remedy="it is not needed"))
    except (MzprobeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def said_of(path: Path, *, after: str = "free some and run the same command again, it resumes") -> Iterator[None]:
    """Turns an `OSError` in the block into a `MzprobeError` about `path`; `after` is the remedy for a full disk."""
    try:
        yield
    except OSError as reason:
        if reason.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            said = f"no space left to write {path}: {after}"
        else:
            said = f"{path} cannot be written ({reason.strerror}): choose another place"
        raise MzprobeError(said) from reason


def _write_through(file: IO[bytes], data: bytes | Chunks) -> None:
    """Writes data, and waits until it is on disk."""
    file.writelines([data] if isinstance(data, bytes) else data)
    file.flush()
    os.fsync(file.fileno())


def _sync_all(folder: Path) -> None:
    """Waits until all files of a folder are on disk, by one call where the system has it: faster for many files."""
    if hasattr(os, "sync"):
        os.sync()
        return
    for path in folder.rglob("*"):
        _sync(path)


def _sync(path: Path) -> None:
    """Waits until a file, or the list of names in a folder, is on disk; no-op on Windows, which cannot open folders."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
