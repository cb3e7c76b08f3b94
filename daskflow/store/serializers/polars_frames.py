"""Polars frames and series: polars writes and reads its own Parquet, which keeps all of its types."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO

from daskflow.errors import DataMissing
from daskflow.store.serializers.table_file import COMPRESSION_LEVEL, group_rows
from daskflow.store.serializers.table_hash import BLOCK, TableHash, can_hash

if TYPE_CHECKING:
    import polars as pl


def refusal(frame: pl.DataFrame) -> str:
    """Why the round trip of ``frame`` would not be exact; empty if it is."""
    import polars as pl
    import pyarrow as pa

    if frame.width == 0 and frame.height:
        return "a frame without columns"
    for name, kind in frame.schema.items():
        if pl.Object in _types_within(kind):
            return f"column {name!r} has type {kind}"
    file = io.BytesIO()
    try:
        frame.head(0).write_parquet(file)
        file.seek(0)  # polars reads from where the file stands
        back = pl.read_parquet(file).schema
        types = frame.head(0).to_arrow().schema.types
    except (pl.exceptions.PolarsError, pa.ArrowException, NotImplementedError, TypeError) as error:
        return f"polars can't write it as Parquet: {error}"
    changed = [name for name, kind in frame.schema.items() if back.get(name) != kind]
    changed += [n for n, kind in zip(frame.columns, types, strict=True) if not can_hash(kind)]
    return f"column {changed[0]!r} has type {frame.schema[changed[0]]}" if changed else ""


def write(frame: pl.DataFrame, file: BinaryIO) -> str:
    """Write the frame; returns its identity."""
    identity = content_hash(frame)
    step = group_rows(frame.height, int(frame.estimated_size()))
    frame.write_parquet(file, compression="zstd", compression_level=COMPRESSION_LEVEL, row_group_size=step)
    return identity


def read(file: BinaryIO) -> pl.DataFrame:
    """The frame of a file. Raises :class:`DataMissing` if it is damaged."""
    import polars as pl

    data = file.read()  # polars would panic at an error in here
    try:
        return pl.read_parquet(data)
    except pl.exceptions.ComputeError as error:
        raise DataMissing(f"The file of a table is damaged: {error}") from error


def content_hash(frame: pl.DataFrame) -> str:
    """Identity of what the frame says, made block by block."""
    about = {"kind": "polars.DataFrame", "columns": [[n, repr(t)] for n, t in frame.schema.items()]}
    identity = TableHash(about)
    for start in range(0, frame.height, BLOCK):
        identity.add(frame.slice(start, BLOCK).to_arrow().columns)
    return identity.hexdigest()


def _types_within(kind: Any) -> list[Any]:
    """The classes of a type and of the types inside it."""
    found = [kind.base_type()]
    inner = getattr(kind, "inner", None)
    if inner is not None:
        found += _types_within(inner)
    for column in getattr(kind, "fields", ()):
        found += _types_within(column.dtype)
    return found
