"""Writing one Parquet file, row group by row group, in the smallest encoding of each column."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from daskflow.store.serializers.table_hash import BLOCK, TableHash

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

COMPRESSION = "zstd"
COMPRESSION_LEVEL = 1
"""On tables level 3 costs more time and hardly saves a byte (strings even get larger)."""
MAX_GROUP = 8 * BLOCK
"""Rows of a row group; fewer if they are wide."""
GROUP_BYTES = 256 * 1024 * 1024
SAMPLE = 65_536
"""Rows from the middle, on which encodings are tried; smaller tables get the default, a dictionary."""


@dataclass(frozen=True)
class TablePlan:
    """A table ready to be written.

    Attributes
    ----------
    schema
        Of the file.
    rows
        Its length.
    rows_of
        Start and length to these rows as Arrow, without a copy where that is possible.
    about
        JSON-able: what belongs to the table's identity beside its values.
    info
        JSON-able: what it takes to make the same object of the file again.
    """

    schema: pa.Schema
    rows: int
    rows_of: Callable[[int, int], pa.Table]
    about: dict[str, Any]
    info: dict[str, Any] = field(default_factory=dict)


def write_table(plan: TablePlan, file: BinaryIO) -> str:
    """Write the table and hash it on the way; returns its identity."""
    import pyarrow.parquet as pq

    identity = TableHash(plan.about)
    some = min(plan.rows, SAMPLE)
    sample = plan.rows_of((plan.rows - some) // 2, some)
    step = group_rows(plan.rows, sample.nbytes * plan.rows // max(some, 1))
    with pq.ParquetWriter(file, plan.schema, **best_options(sample)) as writer:
        for start in range(0, plan.rows, step):
            table = plan.rows_of(start, min(step, plan.rows - start))
            identity.add(table.columns)
            writer.write_table(table, row_group_size=step)
    return identity.hexdigest()


def group_rows(rows: int, nbytes: int) -> int:
    """Rows of a row group: about a million, fewer of wide rows, always whole blocks of the hash."""
    affordable = GROUP_BYTES * max(rows, 1) // max(nbytes, 1) // BLOCK * BLOCK
    return max(BLOCK, min(MAX_GROUP, affordable))


def best_options(sample: pa.Table) -> dict[str, Any]:
    """Options of the Parquet writer: for each column the encoding that makes a sample smallest."""
    chosen: dict[str, Any] = {"compression": COMPRESSION, "compression_level": COMPRESSION_LEVEL}
    if len(sample) < SAMPLE:
        return chosen
    sizes = _column_sizes(sample, {"use_dictionary": True})
    plain = _column_sizes(sample, {"use_dictionary": False})
    fixed = [field.name for field in sample.schema if _has_dictionary(field.type)]
    special = {
        path: encoding
        for path, (_, kind) in sizes.items()
        if (encoding := _special(kind)) and not _is_within(path, fixed)
    }
    packed = _column_sizes(sample, {"use_dictionary": False, "column_encoding": special})
    dictionaries, encodings = [], {}
    for path in sizes:
        smallest = min(sizes[path][0], plain[path][0], packed[path][0])
        if smallest == sizes[path][0] or _is_within(path, fixed):
            dictionaries.append(path)
        elif smallest == packed[path][0] and path in special:
            encodings[path] = special[path]
    return chosen | {"use_dictionary": dictionaries or False, "column_encoding": encodings or None}


def _has_dictionary(kind: pa.DataType) -> bool:
    """Whether Arrow reads (part of) it as a dictionary, which it can't from the special encodings."""
    import pyarrow as pa

    fields = [kind.field(i).type for i in range(kind.num_fields)]
    return bool(pa.types.is_dictionary(kind)) or any(map(_has_dictionary, fields))


def _is_within(path: str, columns: list[str]) -> bool:
    """Whether a leaf of the file belongs to one of these columns (or might, if names have dots)."""
    return any(path == name or path.startswith(f"{name}.") for name in columns)


def _special(kind: str) -> str | None:
    """The encoding beside dictionary and plain that may pay for a physical type."""
    return {
        "INT32": "DELTA_BINARY_PACKED",  # running numbers, times
        "INT64": "DELTA_BINARY_PACKED",
        "FLOAT": "BYTE_STREAM_SPLIT",  # exponents are alike, digits are not
        "DOUBLE": "BYTE_STREAM_SPLIT",
        "BYTE_ARRAY": "DELTA_LENGTH_BYTE_ARRAY",
    }.get(kind)


def _column_sizes(sample: pa.Table, options: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Compressed bytes and physical type of each leaf column of the sample's Parquet file."""
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(sample, file, compression=COMPRESSION, compression_level=COMPRESSION_LEVEL, **options)
    group = pq.ParquetFile(file).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    return {c.path_in_schema: (c.total_compressed_size, c.physical_type) for c in columns}
