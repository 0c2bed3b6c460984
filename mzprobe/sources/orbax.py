"""Reads arrays that Orbax wrote, by name: Zarr (version 2) in an OCDBT database, read by tensorstore.

What a file declares is compared with what it holds before any array is made: all chunks of an array must be stored, and
the arrays together must be no larger than their bytes could have held.
"""

import json
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe.errors import CheckpointError, MzprobeError, UsageError
from mzprobe.files import read_bytes, sha256
from mzprobe.sources.pickles import damaged

_METADATA = "/.zarray"
_WIDTHS = {"<f4": 4, "<f8": 8, "<f2": 2, "bfloat16": 2}  # bytes of a number
_SMALLER = 64  # most that arrays shrink: a fresh head's zeros to nothing, hidden layers beside it by a tenth
_REMEDY = "copy its folder again, or give another one"
_ONE = {"limit": 1}  # one thread, since other processes may be at work
_SECONDS = 120.0  # limit of a read; a disk that responds takes a fraction of one


class _Array(NamedTuple):
    """An array as the database declares it."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]  # shape of a chunk
    width: int  # bytes of a number

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(-(-size // chunk) for size, chunk in zip(self.shape, self.chunks, strict=True))

    @property
    def size(self) -> int:
        """Bytes of all chunks when unpacked."""
        return math.prod(self.grid) * math.prod(self.chunks) * self.width


def read_arrays(folder: Path, *, named: Callable[[str], str | None]) -> dict[str, NDArray[np.float32]]:
    """Returns the floating-point arrays of an Orbax folder by key.

    Args:
        folder: the one with `manifest.ocdbt`.
        named: returns the key of an array by its name in the folder, or None to leave it out unread.

    Raises:
        CheckpointError: if the folder is damaged, or its arrays are not floating-point numbers.
        UsageError: if tensorstore is not installed.
    """
    tensorstore = _tensorstore()
    try:
        context = tensorstore.Context({"data_copy_concurrency": _ONE, "file_io_concurrency": _ONE})
        database = _opened(tensorstore, folder, context)
        keys = {key.decode() for key in database.list().result(_SECONDS)}
        arrays = {key.removesuffix(_METADATA) for key in keys if key.endswith(_METADATA)}
        wanted = {name: key for name in sorted(arrays) if (key := named(name)) is not None}
        if len(set(wanted.values())) < len(wanted):
            raise damaged(folder, "it holds two arrays of one name")
        declared = {name: _declared(database.read(name + _METADATA).result(_SECONDS).value) for name in wanted}
        _refuse_what_is_not_there(declared, keys, folder)
        return {key: _read(tensorstore, database / f"{name}/", declared[name], context) for name, key in wanted.items()}
    except (MemoryError, MzprobeError):
        raise
    except Exception:  # tensorstore raises errors of many classes, in many lines
        raise damaged(folder, "its arrays cannot be read") from None


def digest(folder: Path) -> str:
    """Returns the SHA-256 over the names and digests of the files in a folder."""
    files = sorted(path for path in folder.rglob("*") if not path.is_dir())
    lines = (
        f"{path.relative_to(folder).as_posix()} {sha256(read_bytes(path, error=CheckpointError, remedy=_REMEDY))}\n"
        for path in files
    )
    return sha256("".join(lines).encode("utf-8", "backslashreplace"))


def _tensorstore() -> Any:
    try:
        import tensorstore
    except ImportError:
        raise UsageError("checkpoints that Orbax wrote need tensorstore: pip install 'mzprobe[mujax]'") from None
    return tensorstore


def _opened(tensorstore: Any, folder: Path, context: Any) -> Any:
    if not (folder / "manifest.ocdbt").is_file():
        raise damaged(folder, "it has no manifest.ocdbt")
    base = {"driver": "file", "path": f"{folder.absolute().as_posix()}/"}
    return tensorstore.KvStore.open({"driver": "ocdbt", "base": base}, context=context).result(_SECONDS)


def _declared(metadata: bytes) -> _Array:
    said = json.loads(metadata)
    shape, chunks = (tuple(map(int, said[key])) for key in ("shape", "chunks"))
    if len(shape) != len(chunks) or min((*shape, 0)) < 0 or min((*chunks, 1)) < 1:
        raise ValueError("no shape")
    return _Array(shape, chunks, _WIDTHS[said["dtype"]])


def _refuse_what_is_not_there(declared: dict[str, _Array], keys: set[str], folder: Path) -> None:
    """Refuses missing chunks, which would be read as zeros, and shapes that are too large for the files.

    Call it before any array is made.
    """
    lying = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if sum(array.size for array in declared.values()) > _SMALLER * lying:
        raise damaged(folder, "its arrays would be larger than its files can hold")
    for name, array in declared.items():
        if math.prod(array.grid) > len(keys):
            raise damaged(folder, f"its array {name} is cut off")
        for place in product(*map(range, array.grid)):
            if f"{name}/{'.'.join(map(str, place)) or 0}" not in keys:
                raise damaged(folder, f"its array {name} is cut off")


def _read(tensorstore: Any, place: Any, declared: _Array, context: Any) -> NDArray[np.float32]:
    spec = {"driver": "zarr", "kvstore": place.spec().to_json()}
    found = tensorstore.open(spec, open=True, read=True, context=context).result(_SECONDS)
    if tuple(found.shape) != declared.shape:
        raise ValueError("not the shape that was looked at")
    return np.asarray(found.read().result(_SECONDS), np.float32)
