"""Reads files of `torch.save` without torch's loader: arrays, numbers and containers; none of their code is run.

Both layouts are known: the zip archive (torch 1.6 and later) and the older chain of pickles. Storages are read as they
lie in the file, so that a tensor can be no larger than what is there.
"""

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe.errors import CheckpointError
from mzprobe.files import read_bytes
from mzprobe.sources.pickles import Inert, damaged, load, load_from

_MAGIC = 0x1950A86A20F9469CFC6C  # first number in the layout before zip archives
_SHARED = 8  # times that a storage may be copied, since tied weights share one
_FEW = 1024  # numbers that a smaller storage counts as for that limit
_ZIP = b"PK\x03\x04"
_NUMBERS = {
    "Double": "<f8", "Float": "<f4", "Half": "<f2", "BFloat16": "<u2", "Long": "<i8", "Int": "<i4", "Short": "<i2",
    "Char": "i1", "Byte": "u1", "Bool": "?",
}  # fmt: skip


class _Storage(NamedTuple):
    """Numbers of one kind as they lie in the file."""

    kind: str
    key: str
    numbers: NDArray[Any]
    copied: list[int]  # a single counter of the numbers copied to arrays so far


def is_archive(data: bytes) -> bool:
    """Whether data begin like a file of `torch.save`."""
    return data.startswith(_ZIP) or (data[:2] == b"\x80\x02" and _MAGIC.to_bytes(10, "little") in data[:32])


def refuse_cut_off(path: Path) -> None:
    """Refuses a file that begins like a zip archive of `torch.save` and lacks its end, as after a failed download.

    Raises:
        CheckpointError: if the file is cut off.
    """
    if path.is_file():
        with path.open("rb") as file:
            begun = file.read(len(_ZIP)) == _ZIP
        if begun and not zipfile.is_zipfile(path):
            raise CheckpointError(
                f"{path} is truncated (it begins as a file of torch and lacks the end): copy it again"
            )


def read_archive(path: Path) -> Any:
    """Returns what was passed to `torch.save`, with tensors as arrays.

    Objects other than containers and numbers become `Inert` records.

    Raises:
        CheckpointError: if the file is missing, damaged, or does what no checkpoint needs.
    """
    data = read_bytes(path, error=CheckpointError, remedy="give the file of a checkpoint")
    if data.startswith(_ZIP):
        return _of_zip(data, path)
    if is_archive(data):
        return _of_chain(data, path)
    raise damaged(path, "torch.save writes no such file")


def _of_zip(data: bytes, path: Path) -> Any:
    parts = _parts(data, path)
    (root,) = {name.partition("/")[0] for name in parts}
    if parts.get(f"{root}/byteorder", b"little") != b"little":
        raise damaged(path, "its numbers are of a big-endian machine")
    if f"{root}/data.pkl" not in parts:
        raise damaged(path, "it holds no data.pkl")
    kept: dict[str, bytes] = {name.removeprefix(f"{root}/data/"): part for name, part in parts.items()}
    copied: dict[str, list[int]] = {}

    def storage(pid: Any) -> _Storage:
        kind, key, count = _named(pid)
        if key not in kept:
            raise ValueError(f"its tensor {key} is missing")
        return _Storage(kind, key, _numbers(kind, kept[key], count), copied.setdefault(key, [0]))

    return load(parts[f"{root}/data.pkl"], source=path, makers=_TENSORS, store=storage)


def _parts(data: bytes, path: Path) -> dict[str, bytes]:
    """Returns the files in a zip, which torch stores uncompressed: nothing is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            packed = [e.filename for e in entries if e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 1]
            if packed:
                raise damaged(path, f"{packed[0]} is compressed, which torch does not do")
            if len({*names}) < len(names) or len({name.partition("/")[0] for name in names}) != 1:
                raise damaged(path, "its files are not those of one archive")
            if sum(entry.file_size for entry in entries) > len(data):
                raise damaged(path, "its files overlap")
            return {entry.filename: archive.read(entry) for entry in entries}  # compares the CRC
    except CheckpointError:
        raise
    except MemoryError:
        raise
    except Exception as reason:  # zipfile raises errors of many classes
        raise damaged(path, str(reason) or type(reason).__name__) from None


def _of_chain(data: bytes, path: Path) -> Any:
    """Reads pickles one after another: magic number, version, machine, object and keys; then the storages."""
    stream = io.BytesIO(data)
    mark, version, machine = (load_from(stream, source=path) for _ in range(3))
    if mark != _MAGIC or version != 1001 or not isinstance(machine, dict):
        raise damaged(path, "torch.save writes no such file")
    if machine.get("little_endian") is not True:
        raise damaged(path, "its numbers are of a big-endian machine")
    asked: dict[str, tuple[str, int, NDArray[Any]]] = {}

    def storage(pid: Any) -> _Storage:
        kind, key, count = _named(pid)
        if kind == "BFloat16":  # views of numbers that are read later cannot be widened
            raise ValueError("its tensors are bfloat16 in torch's old layout, which is not read")
        if count * np.dtype(_NUMBERS[kind]).itemsize > len(data):
            raise ValueError(f"its tensor {key} is larger than the file")
        if key not in asked:
            asked[key] = kind, count, np.zeros(count, _NUMBERS[kind])
        return _Storage(kind, key, asked[key][2], [0])

    # Tensors are views of storages, which follow the object in the file.
    found = load_from(stream, source=path, makers=_VIEWS, store=storage)
    keys = load_from(stream, source=path)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise damaged(path, "it does not list its storages")
    for key in keys:
        kind, count, numbers = asked[key] if key in asked else ("Byte", 0, np.zeros(0))
        size, width = int.from_bytes(stream.read(8), "little"), np.dtype(_NUMBERS[kind]).itemsize
        raw = stream.read(size * width) if size == count else b""
        if len(raw) != count * width:
            raise damaged(path, f"its tensor {key} is cut off")
        numbers[:] = np.frombuffer(raw, _NUMBERS[kind])
    return found


def _named(pid: Any) -> tuple[str, str, int]:
    """Returns kind, key and count of a storage that a pickle refers to."""
    if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
        raise ValueError("it refers to what is no tensor")
    _, named, key, _, count = pid[:5]
    named = getattr(named, "what", "")  # an `Inert` class, not torch's
    kind = named.removeprefix("torch.").removesuffix("Storage") if isinstance(named, str) else ""
    if kind not in _NUMBERS:
        raise ValueError(f"its tensors are of a kind that is not known{f', {named}' if isinstance(named, str) else ''}")
    if not isinstance(key, (str, int)) or not isinstance(count, int):
        raise ValueError("it names a storage by what is no name")
    return kind, str(key), count


def _numbers(kind: str, raw: bytes, count: int) -> NDArray[Any]:
    found = np.frombuffer(raw, _NUMBERS[kind])
    if len(found) != count:
        raise ValueError(f"a tensor has {len(found)} numbers and should have {count}")
    return found


def _view(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> NDArray[Any]:
    """Returns a tensor as a view of its storage; refuses one that repeats numbers, such as an expanded one."""
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor of what is no storage")
    shape, steps = (tuple(int(n) for n in given) for given in (size, stride))
    count, numbers = math.prod(shape), storage.numbers
    if any(n < 0 for n in (*shape, *steps, offset)) or len(shape) != len(steps) or count > len(numbers):
        raise ValueError(f"a tensor of shape {shape} does not fit its storage")
    if count and offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) >= len(numbers):
        raise ValueError(f"a tensor of shape {shape} leaves its storage")
    width = numbers.itemsize
    start = numbers[offset:] if count else numbers[:0]
    return np.lib.stride_tricks.as_strided(start, shape, tuple(step * width for step in steps), writeable=False)


def _tensor(storage: Any, *place: Any) -> NDArray[Any]:
    """Returns a tensor as an array of its own.

    A storage that is copied over and over, which would fill memory, is refused.
    """
    found = _view(storage, *place)
    storage.copied[0] += found.size
    if storage.copied[0] > _SHARED * max(len(storage.numbers), _FEW):
        raise ValueError(f"its tensors show storage {storage.key} more than {_SHARED} times")
    if storage.kind == "BFloat16":
        return (found.astype("<u4") << 16).view("<f4")
    return np.array(found, order="C")


def _parameter(data: Any, *_: Any) -> Any:
    return data


_TENSORS: Mapping[str, Any] = {
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch Size": lambda size=(): tuple(int(n) for n in size),
}
_VIEWS: Mapping[str, Any] = {**_TENSORS, "torch._utils _rebuild_tensor_v2": _view}


def arrays_of(value: Any, *, source: object, what: str) -> dict[str, NDArray[Any]]:
    """Returns the weights in a tree by name, each of the type that the file has.

    Raises:
        CheckpointError: if `value` is not names and arrays of numbers that are finite.
    """
    if not isinstance(value, dict) or not value or not all(isinstance(one, np.ndarray) for one in value.values()):
        raise CheckpointError(f"{source} holds no {what} of names and tensors: give a file that does")
    found = {str(name): np.asarray(array) for name, array in value.items()}
    for name, array in found.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{source} holds a number that is not finite ({name}): give another checkpoint")
    return found


def field_of(record: Any, name: str) -> Any:
    """Returns an attribute of an `Inert` record, or None if there is none."""
    return record.fields.get(name) if isinstance(record, Inert) else None
