"""Reads the columns of recorded episodes from Minari's storages, without those that are not needed.

Infos in particular are not read: nothing learns from them, and Minari 0.5 cannot decode all that it writes. The claims
of a file are checked before it is read. One that claims more numbers than it has room for, or keeps parts elsewhere, is
refused.
"""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mzprobe.datasets.spaces import Spaces, parts_of

COLUMNS = ("observations", "actions", "rewards", "terminations", "truncations")
_AT_A_TIME = 64  # episodes read each time that the file of all of them is opened
_MOST_SHRUNK = 1100  # bytes that a compressed byte can stand for; deflate reaches 1032
_SMALL = 1 << 20  # bytes that a chunk of any file may claim


class ArrowStorage:
    """One folder per episode with one Arrow or Parquet file: one row per observation, other columns padded by one.

    Args:
        data: folder of all data.
        spaces: spaces of observations and actions.
        kind: `arrow` or `parquet`.
    """

    def __init__(self, data: Path, spaces: Spaces, kind: str) -> None:
        self.data = data
        self.spaces = spaces
        self.kind = kind

    def count(self) -> int:
        """Counts the episodes in the files, whatever the metadata say."""
        return sum(path.is_dir() and path.name.isdecimal() for path in self.data.iterdir())

    def episodes(self, indices: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Yields the columns of some episodes, nested where their space is."""
        for index in indices:
            table = self._table(self.data / str(index))
            found = {name: _arrow_column(table, name) for name in COLUMNS}
            spaces = {"observations": self.spaces.observation, "actions": self.spaces.action}
            values = {name: _arrow_values(array, spaces.get(name), name) for name, array in found.items()}
            yield {name: value if name == "observations" else value[:-1] for name, value in values.items()}

    def _table(self, folder: Path) -> pa.Table:
        """Reads the needed columns of an episode's one file; Minari splits none, and ignores the same file names."""
        files = [path for path in folder.iterdir() if path.name != "metadata.json" and path.name[0] not in "._"]
        if len(files) != 1:
            raise ValueError(f"its folder holds {len(files)} files of data where there should be one")
        if self.kind == "parquet":
            whole = pq.ParquetFile(files[0])
            if whole.metadata.num_rows > _MOST_SHRUNK * files[0].stat().st_size:
                raise ValueError(f"it claims {whole.metadata.num_rows} rows, more than its file can hold")
            table = whole.read(columns=list(COLUMNS), use_threads=False)
        else:
            with pa.OSFile(str(files[0]), "rb") as file:
                names = pa.ipc.open_file(file).schema.names
                wanted = [place for place, name in enumerate(names) if name in COLUMNS]
                options = pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False)
                table = pa.ipc.open_file(file, options=options).read_all()
        table.validate(full=True)
        return table


class HDF5Storage:
    """One file with one group per episode.

    Args:
        data: folder of all data.
        spaces: spaces of observations and actions.
    """

    def __init__(self, data: Path, spaces: Spaces) -> None:
        self.path = data / "main_data.hdf5"
        self.spaces = spaces

    def count(self) -> int:
        """Counts the episodes in the file, whatever the metadata say."""
        import h5py

        with h5py.File(self.path, "r") as file:
            return sum(key.startswith("episode_") for key in file)

    def episodes(self, indices: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Yields the columns of some episodes, nested where their space is."""
        import h5py

        size = self.path.stat().st_size
        # The longer a file is open, the more of it the library keeps in memory.
        for first in range(0, len(indices), _AT_A_TIME):
            with h5py.File(self.path, "r") as file:
                for index in indices[first : first + _AT_A_TIME]:
                    group = _member(file, f"episode_{index}")
                    reader = _HDF5Reader(size=size)
                    spaces = {"observations": self.spaces.observation, "actions": self.spaces.action}
                    yield {name: reader.values(group, name, spaces.get(name)) for name in COLUMNS}


Storage = ArrowStorage | HDF5Storage


def storage_of(data: Path, kind: str, spaces: Spaces) -> Storage:
    """Returns the storage of a dataset, by its name in the metadata.

    Raises:
        ValueError: if there is none of that name.
    """
    if kind == "hdf5":
        return HDF5Storage(data, spaces)
    if kind in ("arrow", "parquet"):
        return ArrowStorage(data, spaces, kind)
    raise ValueError(f"its data_format is {kind[:40]!r}, neither hdf5 nor arrow")


def _arrow_column(table: pa.Table, name: str) -> pa.Array:
    """Returns one column, in one piece."""
    array = table.column(name).combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        raise ValueError(f"its {name} are longer than Arrow holds in one piece")
    return array


def _arrow_values(array: pa.Array, space: Any, name: str) -> Any:
    """Converts an Arrow array to numpy, or a dictionary, tuple or list; `space` is None for plain numbers."""
    from gymnasium.spaces import Dict, Text, Tuple

    kind = array.type
    if array.null_count:
        raise ValueError(f"its {name} have missing values")
    if isinstance(space, (Dict, Tuple)):
        if not pa.types.is_struct(kind):
            raise ValueError(f"its {name} are {kind}, not a struct")
        inside = dict(parts_of(space))
        found = {key: _arrow_values(array.field(str(key)), sub, f"{name}/{key}") for key, sub in inside.items()}
        return found if isinstance(space, Dict) else tuple(found.values())
    if isinstance(space, Text):
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise ValueError(f"its {name} are {kind}, not strings")
        return array.to_pylist()
    if _may_be_images(space) and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        return _images(array.to_pylist(), space.shape, name)
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _rows(array, () if space is None else space.shape, name)
    return _numbers(array, name)


def _rows(array: pa.Array, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Converts lists of equal length to rows, of `shape` if that has as many numbers."""
    kind = array.type
    sizes = [kind.list_size] if pa.types.is_fixed_size_list(kind) else np.unique(np.diff(array.offsets)).tolist()
    if len(sizes) != 1:
        raise ValueError(f"its {name} have rows of several lengths")
    rows = _numbers(array.flatten(), name).reshape(len(array), sizes[0])
    return rows.reshape(len(array), *shape) if math.prod(shape) == sizes[0] else rows


def _numbers(array: pa.Array, name: str) -> NDArray[Any]:
    kind = array.type
    if array.null_count:
        raise ValueError(f"its {name} have missing values")
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise ValueError(f"its {name} are {kind}, not numbers")
    found: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return found


@dataclass(frozen=True, kw_only=True)
class _HDF5Reader:
    """Reads members of groups, after checking that they are what they claim to be."""

    size: int  # bytes of the file

    def values(self, group: Any, name: str, space: Any, said: str = "") -> Any:
        """Returns a member as an array, or a dictionary, tuple or list; `space` is None for plain numbers."""
        from gymnasium.spaces import Dict, Text, Tuple

        item, said = _member(group, name), said or name
        if isinstance(space, (Dict, Tuple)):
            nested = isinstance(space, Dict)
            found = {
                key: self.values(item, str(key) if nested else f"_index_{key}", sub, f"{said}/{key}")
                for key, sub in parts_of(space)
            }
            return found if nested else tuple(found.values())
        self._refuse_claims(item, said)
        values = item[()]
        if isinstance(space, Text):
            return [value.decode("utf-8") for value in values]
        if _may_be_images(space) and values.ndim <= 2:  # encoded images, not pixels
            return _images([np.asarray(value, np.uint8).tobytes() for value in values], space.shape, said)
        return values

    def _refuse_claims(self, item: Any, said: str) -> None:
        """Refuses numbers that lie in other files, or that are more than there are bytes for."""
        import h5py

        if not isinstance(item, h5py.Dataset) or item.shape is None:
            raise ValueError(f"its {said} are no array")
        plan = item.id.get_create_plist()
        layout = plan.get_layout()
        if layout == h5py.h5d.VIRTUAL or plan.get_external_count():
            raise ValueError(f"its {said} lie in other files")
        size, shape = item.dtype.itemsize, item.shape
        chunk = math.prod(plan.get_chunk()) * size if layout == h5py.h5d.CHUNKED else 0
        most = min(item.id.get_storage_size(), self.size) * (_MOST_SHRUNK if plan.get_nfilters() else 1)
        if math.prod(shape) * size > most or chunk > max(_SMALL, self.size * _MOST_SHRUNK):
            raise ValueError(f"its {said} claim the shape {list(shape)}, more than the file holds")


def _member(group: Any, name: str) -> Any:
    """Returns the member of that name in a group; refuses one that is a link, such as to another file."""
    import h5py

    if not isinstance(group, h5py.Group):
        raise ValueError(f"it has no group with {name}")
    links = group.id.links
    if not links.exists(name.encode()):
        raise ValueError(f"it has no {name}")
    if links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"its {name} are a link")
    return group[name]


def _may_be_images(space: Any) -> bool:
    """Whether Minari's writer may have stored observations as JPEG images.

    That depends on its version and an option, so the data decide.
    """
    from gymnasium.spaces import Box

    return isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def _images(encoded: Sequence[bytes], shape: tuple[int, ...], name: str) -> NDArray[np.uint8]:
    """Decodes the JPEG images that Minari's writer makes of uint8 observations, `[images, *shape]`."""
    from PIL import Image

    images = np.empty((len(encoded), *shape), np.uint8)
    for place, data in enumerate(encoded):
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            found = (image.height, image.width, *([3] if image.mode == "RGB" else []))
            if found != tuple(shape):
                raise ValueError(f"its {name} have an image of {list(found)}, not {list(shape)}")
            images[place] = np.asarray(image)
    return images
