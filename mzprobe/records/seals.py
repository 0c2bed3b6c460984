"""Seal of a table: a digest of its record and all its content, independent of how Parquet stores them."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def table_sha256(table: pa.Table, record: bytes) -> str:
    """Returns the SHA-256 of a table's record, the names of its columns, and their exact content.

    Numbers are hashed in their column's own type, with a mask of the missing ones. Text is hashed as its distinct
    values in order of appearance, followed by the index of each row's value. Storage and compression have no effect.

    Raises:
        pa.ArrowException: if a column is of a type that tables do not have.
    """
    digest = hashlib.sha256()
    digest.update(f"{table.num_rows} {len(record)}\n".encode() + record)
    for name, column in zip(table.column_names, table.columns, strict=True):
        array = column.combine_chunks()
        text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
        digest.update(f"\n{name} {'text' if text else array.type} {array.null_count}\n".encode())
        if array.null_count:
            digest.update(np.packbits(array.is_null().to_numpy(zero_copy_only=False)).data)
        if text:
            coded = array.dictionary_encode()
            for value in coded.dictionary.to_pylist():
                data = value.encode()
                digest.update(f"{len(data)} ".encode() + data)
            array = pc.fill_null(coded.indices, -1)
        elif array.null_count:
            array = pc.fill_null(array, pa.scalar(0).cast(array.type))
        numbers = array.to_numpy(zero_copy_only=False)
        digest.update(np.ascontiguousarray(numbers.astype(numbers.dtype.newbyteorder("<"), copy=False)).data)
    return digest.hexdigest()
