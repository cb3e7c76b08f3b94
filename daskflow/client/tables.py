"""Tables of artifacts, lazily: what polars and Arrow open where they are, reading what is asked for and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl
    import pyarrow as pa
    import pyarrow.dataset as ds

    from daskflow.store.records import ArtifactRef
    from daskflow.store.storage import Storage


def scan(storage: Storage, ref: ArtifactRef) -> pl.LazyFrame:
    """A table as a polars query over its file, or over its row group of it."""
    import polars as pl

    frame = pl.scan_parquet(storage.locate(str(ref.path)), **storage.polars_options())
    group = ref.info.get("row_group")
    return frame if group is None else frame.slice(_rows_before(storage, ref, group), ref.info["rows"])


def _rows_before(storage: Storage, ref: ArtifactRef, group: int) -> int:
    import pyarrow.parquet as pq

    with storage.open(str(ref.path)) as file:
        metadata = pq.ParquetFile(file).metadata
    return sum(metadata.row_group(number).num_rows for number in range(group))


def dataset(storage: Storage, ref: ArtifactRef) -> ds.FileSystemDataset:
    """A table as an Arrow dataset of its file, or of its row group of it."""
    import pyarrow.dataset as ds

    fragment = fragments(storage, [(ref, None)])[0]
    return ds.FileSystemDataset([fragment], fragment.physical_schema, fragment.format, fragment.filesystem)


def fragments(storage: Storage, parts: Iterable[tuple[ArtifactRef, Any]]) -> list[ds.ParquetFileFragment]:
    """The parts of a dataset: tables, each with the expression that holds for all of its rows, if any."""
    import pyarrow.dataset as ds

    filesystem, form = filesystem_of(storage), ds.ParquetFileFormat()
    found = []
    for ref, expression in parts:
        group = ref.info.get("row_group")
        groups = None if group is None else [group]
        path = storage.locate(str(ref.path)).removeprefix("s3://")
        found.append(form.make_fragment(path, filesystem, expression, groups))
    return found


def filesystem_of(storage: Storage) -> pa.fs.FileSystem:
    """What Arrow reads the files of a storage with."""
    import pyarrow.fs as pafs

    if not storage.remote:
        return pafs.LocalFileSystem()
    import s3fs

    return pafs.PyFileSystem(pafs.FSSpecHandler(s3fs.S3FileSystem(**storage.storage_options)))
