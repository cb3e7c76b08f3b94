"""Tables of artifacts, lazily: what polars and Arrow open where they are, reading what is asked for and no more."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from daskflow.errors import DataException, DataMissing, StoreError
from daskflow.store.retries import retried
from daskflow.store.serializers.parquet import undamaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import polars as pl
    import pyarrow as pa
    import pyarrow.dataset as ds

    from daskflow.store.records import ArtifactRef
    from daskflow.store.storage import Storage


def scan(storage: Storage, ref: ArtifactRef) -> pl.LazyFrame:
    """A table as a polars query over its file, or over its row group of it.

    Raises :class:`DataException` if it has rows but no columns.
    """
    import polars as pl

    parts = partitions(ref)
    _require_rows_of_files(parts)
    files = [storage.locate(str(each.path)) for each in parts]
    frame = pl.scan_parquet(files, glob=False, **storage.polars_options())
    group = ref.info.get("row_group")
    return frame if group is None else frame.slice(_rows_before(storage, ref, group), ref.info["rows"])


def head_by_polars(storage: Storage, ref: ArtifactRef, rows: int) -> pl.DataFrame | pl.Series:
    """The first rows of a table that polars wrote. Raises :class:`DataMissing` if the file is damaged."""
    import polars as pl

    try:
        frame = scan(storage, ref).head(rows).collect()
    except pl.exceptions.ComputeError as error:
        raise DataMissing(f"The file of a table is damaged: {error}") from error
    return frame.to_series() if ref.info["producer"] == "polars.Series" else frame


def _rows_before(storage: Storage, ref: ArtifactRef, group: int) -> int:
    import pyarrow.parquet as pq

    with storage.open(str(ref.path)) as file:
        metadata = pq.ParquetFile(file).metadata
    return sum(metadata.row_group(number).num_rows for number in range(group))


def dataset(storage: Storage, refs: Iterable[ArtifactRef]) -> ds.FileSystemDataset:
    """Tables as an Arrow dataset of their files, or of their row groups of them.

    It has the columns of all of them, of types that hold the values of all. Nothing is read but the first file's schema, and
    that of all others if their records do not say that it is the same. Raises :class:`DataException` if a column is of types
    that do not go together, :class:`DataMissing` if a file is gone or damaged.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    tables = list(refs)
    found = fragments(storage, [(ref, None) for ref in tables])
    first, schemas = found[0], {str((ref.info["producer"], ref.info["schema"])) for ref in tables}
    schema = schema_of(first)
    if len(schemas) > 1:
        every = [schema_of(fragment).remove_metadata() for fragment in found]
        try:
            schema = pa.unify_schemas(every, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataException(f"The tables do not go together: {error} Read them one by one.") from error
    kind = ds.FileSystemDataset if all(ref.info.get("row_group") is None for ref in tables) else _counting()
    return kind(found, schema, first.format, first.filesystem)


@cache
def _counting() -> type[ds.FileSystemDataset]:
    import pyarrow.dataset as ds

    class RowGroupDataset(ds.FileSystemDataset):  # type: ignore[misc] # pyarrow has no types
        """One of row groups: Arrow, asked for their number without a filter, counts the rows of whole files."""

        def count_rows(self, filter: ds.Expression | None = None, **options: Any) -> int:  # noqa: A002 - Arrow's name
            if filter is None:
                field = ds.field(self.schema.names[0])
                filter = field.is_null() | field.is_valid()  # noqa: A001
            return int(super().count_rows(filter, **options))

    return RowGroupDataset


def partitions(ref: ArtifactRef) -> list[ArtifactRef]:
    """The tables of which a Dask collection consists; any other is one by itself.

    Raises :class:`DataException` if one is a pickle.
    """
    found = pieces(ref)
    for piece in found:
        if piece.encoding != "parquet":
            raise DataException(
                f"{piece.path}, a partition of it, is a pickle, because {piece.info.get('why')}. Use .data."
            )
    return found


def pieces(ref: ArtifactRef) -> list[ArtifactRef]:
    """What has the rows of an artifact: tables, pickles where they are none, of a Dask collection its partitions.

    Nothing if it is a value of the record.
    """
    if ref.encoding != "dask":
        return [ref] if ref.encoding in ("parquet", "pickle") else []
    stored = ref.info["parts"]
    first = stored[0]
    return [
        replace(
            ref,
            path=f"{ref.path}/{part['file']}",
            encoding=part["encoding"],
            info=(first["info"] if part["encoding"] == first["encoding"] else {}) | part["info"],
        )
        for part in stored
    ]


def fragments(storage: Storage, parts: Sequence[tuple[ArtifactRef, Any]]) -> list[ds.ParquetFileFragment]:
    """The parts of a dataset: tables, each with the expression that holds for all of its rows, if any.

    Raises :class:`DataException` if one has rows but no columns.
    """
    import pyarrow.dataset as ds

    from daskflow.store.serializers.arrow_files import arrow_filesystem

    _require_rows_of_files(ref for ref, _ in parts)
    filesystem, form = arrow_filesystem(storage), ds.ParquetFileFormat()
    found = []
    for ref, expression in parts:
        group = ref.info.get("row_group")
        groups = None if group is None else [group]
        path = storage.locate(str(ref.path)).removeprefix("s3://")
        found.append(form.make_fragment(path, filesystem, expression, groups))
    return found


def _require_rows_of_files(refs: Iterable[ArtifactRef]) -> None:
    for ref in refs:
        if ref.info["rows"] and not ref.info["schema"]:
            raise DataException(
                f"A {ref.type} has {ref.info['rows']} rows and no columns, of which its file has nothing. Use .data."
            )


def schema_of(fragment: ds.ParquetFileFragment) -> pa.Schema:
    """The schema of a file.

    Raises :class:`DataMissing` if it is gone or damaged, :class:`StoreError` if it can't be read.
    """
    return retried(lambda: _read_schema(fragment))


def _read_schema(fragment: ds.ParquetFileFragment) -> pa.Schema:
    try:
        with undamaged():
            return fragment.physical_schema
    except FileNotFoundError as error:
        raise DataMissing(f"The file of a table is missing: {_place(fragment)}.") from error
    except DataMissing as error:
        raise DataMissing(f"{_place(fragment)}: {error.message}") from error
    except OSError as error:
        raise StoreError(f"Can't read {_place(fragment)}: {error.strerror or error}.") from error


def _place(fragment: ds.ParquetFileFragment) -> str:
    """What a person calls its file."""
    import pyarrow.fs as pafs

    is_local = isinstance(fragment.filesystem, pafs.LocalFileSystem)
    return str(fragment.path) if is_local else f"s3://{fragment.path}"
