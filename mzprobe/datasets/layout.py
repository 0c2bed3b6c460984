"""Where a dataset lies, the digest of its files, and the record of how mzprobe made it."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mzprobe._plugins import nearest
from mzprobe.errors import DatasetError, UsageError
from mzprobe.files import read_bytes, sealed, sha256
from mzprobe.lines import unsayable

FORMAT = 1
DATA, METADATA, RECORD = "data", "metadata.json", "mzprobe.json"
_BLOCK = 1 << 20  # bytes read at a time
DAMAGED = "copy it again or record it again"


def require_minari() -> None:
    """Raises an error if Minari is not installed.

    Raises:
        UsageError: naming the extra to install.
    """
    try:
        import minari  # noqa: F401
    except ImportError:
        raise missing_extra() from None


def missing_extra() -> UsageError:
    """Returns the error for a missing package of the extra `offline`."""
    return UsageError("datasets need Minari and h5py: pip install 'mzprobe[offline]'")


def find(name: str) -> Path:
    """Returns the folder of a dataset, given the folder itself (or the `data` in it), or an id in Minari's own place.

    Raises:
        UsageError: if no dataset can have that name.
        DatasetError: if there is none, naming the nearest id, or if what is there cannot be read or is no dataset.
    """
    if not name.strip() or unsayable(name):
        raise UsageError(f"{name!r} cannot be a dataset: give the folder of one, or its id in Minari's own place")
    here, place = Path(name), minari_place()
    try:
        for folder in (here, here.parent if here.name == DATA else here, place / name):
            if (folder / DATA / METADATA).is_file():
                return folder
        there = here.exists() or (place / name).exists()
    except OSError as reason:  # a name that is too long, or a folder that may not be read
        raise DatasetError(
            f"dataset {name} cannot be looked for ({reason.strerror}): give the folder of one that can be read"
        ) from None
    if there:
        folder = here if here.exists() else place / name
        raise DatasetError(f"{folder} holds no Minari dataset (no {DATA}/{METADATA}): {DAMAGED}")
    hint = nearest(name, ids(place)).removeprefix(", ") or "give a dataset's folder, or make one with mzprobe collect"
    raise DatasetError(f"there is no dataset {name}, neither a folder nor an id under {place}: {hint}")


def minari_place() -> Path:
    """Returns the folder in which Minari keeps datasets; Minari's own function would also create it."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def ids(place: Path) -> Iterator[str]:
    """Yields the ids of the datasets in Minari's place."""
    for folder, names, _ in os.walk(place):
        if DATA in names:
            yield Path(folder).relative_to(place).as_posix()
            names.clear()  # a dataset holds no others
        names[:] = [name for name in names if not name.startswith(".")]


def refuse_odd_files(folder: Path) -> None:
    """Refuses anything that is neither a file nor a folder: reading a pipe or a device may never end.

    Call it before anything is opened. Links to files count as files. Links to folders are refused, since what lies
    behind them would be read but is not part of the digest.

    Raises:
        DatasetError: naming the first one.
        OSError: if a folder cannot be listed.
    """
    record = folder / RECORD
    for path in [record] * os.path.lexists(record) + _below(folder / DATA):
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and path != record and not path.is_symlink())):
            raise DatasetError(f"{path} is neither a file nor a folder of its own: {DAMAGED}")


def _below(data: Path) -> list[Path]:
    """Returns all paths below a folder; unlike `rglob`, it raises an OSError if a folder cannot be listed."""

    def refuse(reason: OSError) -> None:
        raise reason

    walked = os.walk(data, onerror=refuse)
    return [Path(folder, name) for folder, folders, names in walked for name in (*folders, *names)]


def digest(data: Path) -> str:
    """Returns the SHA-256 over names, sizes and contents of all files of a dataset except its metadata.

    Files are read one block at a time.
    """
    total = hashlib.sha256()
    for path in sorted(path for path in _below(data) if path.is_file() and path != data / METADATA):
        total.update(f"{path.relative_to(data).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                total.update(block)
    return total.hexdigest()


def check_record(folder: Path, found: str, metadata: dict[str, Any]) -> None:
    """Checks a dataset against the record that `mzprobe collect` left beside it, if that command made it.

    Args:
        folder: folder of the dataset.
        found: `digest` of its files now.
        metadata: Minari's metadata, which say whether mzprobe made it.

    Raises:
        DatasetError: if any byte of data, metadata or record has changed, or the record is missing or of a newer
            format.
    """
    path = folder / RECORD
    if not path.exists() and "mzprobe" not in metadata:
        return
    data = read_bytes(path, error=DatasetError, remedy=DAMAGED)
    try:
        record = json.loads(data)
        whole = sealed(record) == data
    except (ValueError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise DatasetError(f"{path} is truncated or edited (its sha256 is not the recorded one): {DAMAGED}")
    if type(record.get("format")) is not int or record["format"] > FORMAT:
        raise DatasetError(
            f"{path} has format {record.get('format')!r} and this mzprobe reads up to {FORMAT}: install a newer mzprobe"
        )
    said = read_bytes(folder / DATA / METADATA, error=DatasetError, remedy=DAMAGED)
    if (record.get("sha256"), record.get("metadata_sha256")) != (found, sha256(said)):
        raise DatasetError(
            f"the data of {folder} are truncated or edited (their sha256 is not the recorded one): {DAMAGED}"
        )
