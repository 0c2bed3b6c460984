"""Writing of arrays in the safetensors format without a copy of them in memory; safetensors reads them back."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mzprobe.files import Chunks

_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}


def array_chunks(arrays: Mapping[str, NDArray[Any]]) -> Chunks:
    """Returns the bytes of a safetensors file in parts, which are views of the arrays that are contiguous.

    The library's own writer reports a full disk by an error of its own; writing these parts raises the system's error.

    Raises:
        KeyError: if the dtype of an array is not supported.
    """
    header: dict[str, Any] = {}
    parts, end = [], 0
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])):  # so that all are aligned
        flat = np.ascontiguousarray(array).reshape(-1)
        little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
        parts.append(little.view(np.uint8).data)
        first, end = end, end + array.nbytes
        shape = list(array.shape)
        header[name] = {"dtype": _NAMES[array.dtype.name], "shape": shape, "data_offsets": [first, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little"), text, *parts]


def fill(room: NDArray[Any], array: NDArray[Any]) -> None:
    """Copies an array into another of the same shape and dtype, without numpy's broadcasting and casting.

    Raises:
        ValueError: if the shapes or dtypes differ.
    """
    if room.shape != array.shape or room.dtype != array.dtype:
        raise ValueError(f"an array is {array.dtype} {list(array.shape)}, not {room.dtype} {list(room.shape)}")
    room[:] = array
