"""What a table's seal covers: its record and every number, however Parquet has stored them."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def table_sha256(table: pa.Table, record: bytes) -> str:
    """SHA-256 of a table's record, of the names of its columns, and of their content, bit by bit.

    Numbers are those of the columns' own types, missing ones marked; text is hashed as its distinct values in order of
    appearance and which of them each row has. How either is stored and compressed has no part in it.

    Raises:
        pa.ArrowException: if a column is of a kind that tables do not have.
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
