"""One artifact of a task."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

from daskflow.client.base import OfRun, not_found
from daskflow.errors import DataException

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import polars as pl
    import pyarrow.dataset as ds

    from daskflow.client.tasks import Task
    from daskflow.store.records import ArtifactRef


class DataArtifact(OfRun[Any]):
    """One artifact: what is known of it without loading it, and its value."""

    parts = 5

    def _check(self) -> None:
        name = self.path_components[-1]
        refs = self.parent._refs
        if name not in refs:
            raise not_found("Artifact", self.pathspec, self._storage, sorted(refs))
        self._ref: ArtifactRef = self._store.resolve(name, refs[name])

    def _child(self, name: str) -> Any:
        raise not_found("Part", f"{self.pathspec}/{name}", self._storage, [])

    def _child_names(self) -> Iterable[str]:
        return []

    def __repr__(self) -> str:
        return f"DataArtifact('{self.pathspec}'): {self.type}, {self.encoding}, {self.size:,} bytes"

    @property
    def parent(self) -> Task:
        """The task whose artifact it is."""
        from daskflow.client.tasks import Task

        return self._reach(Task, *self.path_components[:4], attempt=self._attempt)

    @property
    def data(self) -> Any:
        """The value. Loads a pickle if it is one; raises :class:`DataException` if that fails."""
        return self._store.load(self.id, self._ref)

    @property
    def sha(self) -> str:
        """Identity of the content: equal for equal content."""
        return self._ref.hash

    @property
    def size(self) -> int:
        """Bytes as stored."""
        return self._ref.size

    @property
    def type(self) -> str:
        """Name of the value's type."""
        return self._ref.type

    @property
    def encoding(self) -> str:
        """``json``, ``typed-json``, ``parquet``, ``dask`` or ``pickle``."""
        return self._ref.encoding

    @property
    def why(self) -> str | None:
        """Why it is a pickle, None for everything else."""
        why: str | None = self._ref.info.get("why")
        return why

    @property
    def path(self) -> str | None:
        """The file, or folder of a Dask collection, as any program opens it; None if the value stands in the task's record.

        The tables of items that shared a process share a file too: see :attr:`row_group`.
        """
        return self._storage.locate(self._ref.path) if self._ref.path is not None else None

    @property
    def row_group(self) -> int | None:
        """Which row group of the file it is, if other items' tables are there too; None if the file is all its own."""
        group: int | None = self._ref.info.get("row_group")
        return group

    @property
    def rows(self) -> int | None:
        """Rows of a table, None for everything else."""
        rows: int | None = self._ref.info.get("rows")
        return rows

    @property
    def schema(self) -> Any:
        """Columns of a table with their types, None for everything else."""
        return self._ref.info.get("schema")

    @property
    def storage_options(self) -> dict[str, Any]:
        """What pandas, Dask and fsspec need beside :attr:`path`: nothing for a directory; of a store on S3 its options.

        ``pandas.read_parquet(artifact.path, storage_options=artifact.storage_options or None)``
        """
        return self._storage.storage_options

    def head(self, n: int = 10) -> Any:
        """The first ``n`` rows of a table, as the type that was set: a frame or series of pandas or polars, or an Arrow table.

        Of what was lazy (``polars.LazyFrame``, ``pyarrow.dataset.Dataset``, Dask) the frame or table that it stands for.
        Of the file the row groups are read that have them. Raises ``ValueError`` if ``n`` is negative,
        :class:`DataException` if it is no table, and as :attr:`data` does.
        """
        if n < 0:
            raise ValueError(f"head({n}): a table has no fewer than 0 rows.")
        self._require_table("head()")
        if self.encoding == "dask":
            import dask

            with dask.config.set(scheduler="sync"):
                return self.data.partitions[: self._partitions_with(n)].head(n, npartitions=-1)
        return self._store.load_head(self.id, self._ref, n)

    def _partitions_with(self, rows: int) -> int:
        """How many of the first partitions have so many rows; one at least."""
        there = accumulate(part["rows"] for part in self._ref.info["parts"])
        return next(
            (place + 1 for place, count in enumerate(there) if count >= rows), self._ref.info["npartitions"]
        )

    def scan(self) -> pl.LazyFrame:
        """A table as a polars query, of which nothing is read before ``collect()``; then only what the query needs.

        Of a file that items share the query is over this item's rows. Its columns are those of the file: an index of
        pandas is among them. Raises :class:`DataException` if it is no table, or polars is not installed.
        """
        self._require_table("scan()")
        from daskflow.store import tables

        try:
            return tables.scan(self._storage, self._ref)
        except ModuleNotFoundError as error:
            if error.name != "polars":
                raise
            raise DataException("scan() needs polars, which is not installed: pip install polars.") from error

    def dataset(self) -> ds.FileSystemDataset:
        """A table as an Arrow dataset: ``to_table(columns=..., filter=...)`` reads the columns and row groups it needs.

        Of a file that items share it is this item's rows. Its columns are those of the file: an index of pandas is among
        them. Raises :class:`DataException` if it is no table.
        """
        self._require_table("dataset()")
        from daskflow.store import tables

        return tables.dataset(self._storage, tables.partitions(self._ref))

    def dask(self) -> Any:
        """A table as a lazy ``dask.dataframe.DataFrame`` or ``Series``; of a Dask collection what was set.

        It computes to what :attr:`data` is as pandas has it; an index is a frame without columns. Of a frame only the columns
        that are asked for are read, unless it is an Arrow table. Raises :class:`DataException` if it is no table.
        """
        self._require_table("dask()")
        from daskflow.store import gathered

        return gathered.concat(self._store, self.id, [self._ref])

    def _require_table(self, asked: str) -> None:
        if self.encoding in ("parquet", "dask"):
            return
        kept = f"a pickle, because {self.why}" if self.why else self.encoding
        raise DataException(
            f"{asked} is for tables; artifact '{self.pathspec}' is of type {self.type}, kept as {kept}. Use .data."
        )

    @property
    def created_at(self) -> datetime:
        """When its task started."""
        return self.parent.created_at

    @property
    def finished_at(self) -> datetime | None:
        """When its task ended."""
        return self.parent.finished_at
