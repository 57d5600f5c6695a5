"""The content digest: what a partition's rows are, whatever file, writer or machine holds them.

Rows are taken in key order. Every column is hashed by itself with SHA-256: the row numbers (64-bit,
from 0) of its nulls, then, for strings and binaries, the lengths (32-bit) of its values, then the
values, each of the three by itself and little-endian. A timestamp counts as its number of units, a
decimal as its unscaled 128-bit integer, a boolean as one byte, a null as zero or empty. The digest
is the SHA-256 over those of the columns in schema order, a column's being the SHA-256 over its
name, a zero byte, Arrow's name of its type, a zero byte, and its three hashes. A binary of a fixed
size counts as one of any size, which is how other writers keep it.

Whether a column may hold nulls is not part of it: other writers do not keep that.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_TYPES = (
    pa.types.is_integer,
    pa.types.is_decimal128,
    pa.types.is_timestamp,
    pa.types.is_boolean,
    pa.types.is_string,
    pa.types.is_binary,
    pa.types.is_fixed_size_binary,
)

_NONE = np.zeros(0, np.int64)


class ContentDigest:
    """Digest of the batches given to `update`, which must come in key order.

    Raises TypeError for a column of a type that the digest does not define, floats for one.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = [_ColumnDigest(field) for field in schema]

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch."""
        for column, digest in zip(batch.columns, self._columns, strict=True):
            digest.update(column)

    def hexdigest(self) -> str:
        """The digest of all rows so far, as 64 hex digits."""
        whole = hashlib.sha256()
        for column in self._columns:
            whole.update(column.digest())
        return whole.hexdigest()


def digest_table(table: pa.Table, key: tuple[str, ...]) -> str:
    """Content digest of a table whose rows may be in any order."""
    order = pc.sort_indices(table, sort_keys=[(column, "ascending") for column in key])
    # Our own files are in key order; moving 5 M rows to where they are takes a second.
    if not np.array_equal(order, np.arange(table.num_rows)):
        table = table.take(order)
    digest = ContentDigest(table.schema)
    for batch in table.to_batches():
        digest.update(batch)
    return digest.hexdigest()


class _ColumnDigest:
    def __init__(self, field: pa.Field) -> None:
        if not any(is_type(field.type) for is_type in _TYPES):
            raise TypeError(f"no digest is defined for column {field.name} of type {field.type}")
        self._is_fixed = pa.types.is_fixed_size_binary(field.type)
        self._label = f"{field.name}\0{'binary' if self._is_fixed else field.type}\0".encode()
        self._rows = 0
        self._nulls = hashlib.sha256()
        self._lengths = hashlib.sha256()
        self._values = hashlib.sha256()

    def update(self, array: pa.Array) -> None:
        if len(array) == 0:  # such an array may lack its buffers
            return
        nulls = np.flatnonzero(array.is_null()) if array.null_count else _NONE
        self._nulls.update((nulls + self._rows).astype("<i8").tobytes())
        self._rows += len(array)
        if self._is_fixed:
            lengths = np.full(len(array), array.type.byte_width, "<i4")
            lengths[nulls] = 0
            self._lengths.update(lengths.tobytes())
            array = array.drop_null() if nulls.size else array
        elif nulls.size:
            array = array.fill_null(_zero(array.type))
        if pa.types.is_binary(array.type) or pa.types.is_string(array.type):
            self._lengths.update(_fixed_width(pc.binary_length(array)))
            _, offsets, data = array.buffers()
            bounds = np.frombuffer(offsets, np.int32)
            first, last = bounds[array.offset], bounds[array.offset + len(array)]
            if last > first:
                self._values.update(memoryview(data)[first:last])
        elif pa.types.is_boolean(array.type):
            self._values.update(_fixed_width(array.cast(pa.uint8())))
        elif len(array):
            self._values.update(_fixed_width(array))

    def digest(self) -> bytes:
        parts = (self._nulls, self._lengths, self._values)
        return hashlib.sha256(self._label + b"".join(part.digest() for part in parts)).digest()


def _fixed_width(array: pa.Array) -> memoryview:
    width = array.type.bit_width // 8
    start = array.offset * width
    return memoryview(array.buffers()[1])[start : start + len(array) * width]


def _zero(data_type: pa.DataType) -> pa.Scalar:
    if pa.types.is_binary(data_type) or pa.types.is_string(data_type):
        return pa.scalar(b"", pa.binary()).cast(data_type)
    # Arrow has no cast from 0 to most decimals, but any fixed-width type reads zero bytes as zero.
    return pa.Array.from_buffers(data_type, 1, [None, pa.py_buffer(bytes(16))])[0]
