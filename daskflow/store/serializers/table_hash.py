"""Identity of a table: a hash of what it says, not of how it lies in memory or in a file.

Each column is hashed in blocks of ``BLOCK`` rows, counted from the first row of the table. So the result does
not depend on chunks, slices, offsets, or on what lies in memory under a null. A block is the only copy made.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import xxhash

if TYPE_CHECKING:
    import pyarrow as pa

    from daskflow.store.serializers.base import Hash

BLOCK = 131_072


class TableHash:
    """Takes the rows of a table in order and says what the table's identity is.

    Parameters
    ----------
    about
        JSON-able: all that belongs to the identity beside the values (types, labels, index).
    """

    def __init__(self, about: Any) -> None:
        self._about = json.dumps(about, sort_keys=True, separators=(",", ":")).encode()
        self._columns: list[Hash] = []
        self._rows = 0

    def add(self, columns: list[pa.Array | pa.ChunkedArray]) -> None:
        """Add rows: one array a column, all of one length, a multiple of ``BLOCK`` except in the last call."""
        if not self._columns:
            self._columns = [xxhash.xxh3_128() for _ in columns]
        self._rows += len(columns[0]) if columns else 0
        for digest, column in zip(self._columns, columns, strict=True):
            for start in range(0, len(column), BLOCK):
                feed(digest, _one_array(column.slice(start, BLOCK)))

    def hexdigest(self) -> str:
        """The identity of the rows so far."""
        whole = xxhash.xxh3_128(b"table\0" + self._about + b"\0%d\0" % self._rows)
        for digest in self._columns:
            whole.update(digest.hexdigest().encode())
        return whole.hexdigest()


def hash_array(array: pa.Array | pa.ChunkedArray) -> str:
    """The identity of one array, its type included."""
    table = TableHash(str(array.type))
    table.add([array])
    return table.hexdigest()


def can_hash(kind: pa.DataType) -> bool:
    """Whether columns of this type can be hashed."""
    import pyarrow as pa

    plain = _plain_type(kind)
    if pa.types.is_struct(plain):
        return all(can_hash(plain.field(i).type) for i in range(plain.num_fields))
    if _is_list(plain):
        return can_hash(plain.value_type)
    if pa.types.is_interval(plain):  # primitive, but of three parts
        return False
    return bool(
        pa.types.is_null(plain)
        or pa.types.is_boolean(plain)
        or _is_bytes(plain)
        or (
            pa.types.is_primitive(plain) or pa.types.is_decimal(plain) or pa.types.is_fixed_size_binary(plain)
        )
    )


def feed(digest: Hash, array: pa.Array) -> None:
    """Hash one block: which values are there, then the values, with nothing where there are none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = _plain(array)
    if not len(array) or pa.types.is_null(array.type):
        return
    valid = None
    if array.null_count:
        valid = _bytes_of_booleans(pc.is_valid(array))
        digest.update(valid)
    digest.update(b"\0%d\0" % array.null_count)
    if pa.types.is_boolean(array.type):
        digest.update(_bytes_of_booleans(pc.fill_null(array, False)))
    elif _is_bytes(array.type):
        _feed_bytes(digest, array, valid)
    elif pa.types.is_struct(array.type):
        for child in array.flatten():
            feed(digest, child)
    elif _is_list(array.type):
        if not pa.types.is_fixed_size_list(array.type):
            digest.update(pc.fill_null(pc.list_value_length(array).cast("int64"), 0).buffers()[1])
        feed(digest, array.flatten())
    else:
        _feed_fixed(digest, array, valid)


def _feed_fixed(digest: Hash, array: pa.Array, valid: Any) -> None:
    import numpy as np

    width = array.type.bit_width // 8
    start, end = array.offset * width, (array.offset + len(array)) * width
    values = np.frombuffer(array.buffers()[1], dtype=np.uint8)[start:end]
    if valid is not None:
        values = values.reshape(len(array), width).copy()
        values[valid == 0] = 0
    digest.update(values)


def _feed_bytes(digest: Hash, array: pa.Array, valid: Any) -> None:
    import numpy as np
    import pyarrow.compute as pc

    offsets, data = _offsets(array), array.buffers()[2]
    lengths = np.diff(offsets).astype(np.int64)
    if valid is not None and lengths[valid == 0].any():
        array = pc.fill_null(array, b"" if "binary" in str(array.type) else "")
        offsets, data = _offsets(array), array.buffers()[2]
        lengths = np.diff(offsets).astype(np.int64)
    digest.update(lengths)
    if data is not None:
        digest.update(np.frombuffer(data, dtype=np.uint8)[offsets[0] : offsets[-1]])


def _offsets(array: pa.Array) -> Any:
    import numpy as np

    kind = np.int64 if str(array.type).startswith("large_") else np.int32
    return np.frombuffer(array.buffers()[1], dtype=kind)[array.offset : array.offset + len(array) + 1]


def _bytes_of_booleans(array: pa.Array) -> Any:
    import numpy as np

    return np.frombuffer(array.cast("uint8").buffers()[1], dtype=np.uint8)[: len(array)]


def _one_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
    return column


def _plain(array: pa.Array) -> pa.Array:
    """Without what is only a matter of representation: extension, dictionary, view."""
    import pyarrow as pa

    while isinstance(array, (pa.ExtensionArray, pa.DictionaryArray)):
        array = array.storage if isinstance(array, pa.ExtensionArray) else array.dictionary_decode()
    kind = _plain_type(array.type)
    return array if kind == array.type else array.cast(kind)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    while isinstance(kind, (pa.BaseExtensionType, pa.DictionaryType)):
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    views = {"string_view": pa.large_string(), "binary_view": pa.large_binary()}
    return views.get(str(kind), kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return str(kind) in ("string", "large_string", "binary", "large_binary")


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
