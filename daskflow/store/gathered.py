"""Tables of many tasks as one, without loading them: a Dask DataFrame whose partitions read what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

from daskflow.errors import DataException
from daskflow.store.retries import retried
from daskflow.store.runs import RunStore
from daskflow.store.serializers import lazy_tables
from daskflow.store.serializers.parquet import RowGroup, read_columns, row_groups
from daskflow.store.storage import storage_at
from daskflow.store.tables import scan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from daskflow.store.records import ArtifactRef

PARTITION_BYTES = 64 << 20
"""Tables are read together, as one partition, up to so many bytes as stored; a larger one is a partition a row group."""
PARTITION_TABLES = 1_000
_FRAMES = frozenset(
    {
        "pandas.DataFrame",
        "polars.DataFrame",
        "polars.LazyFrame",
        "pyarrow.Table",
        "pyarrow.Dataset",
        "dask.dataframe.DataFrame",
    }
)
_SERIES = frozenset({"pandas.Series", "polars.Series", "dask.dataframe.Series"})


@dataclass(frozen=True)
class Piece:
    """A table, or a row group of its file; ``size`` is what it has of the bytes that are stored."""

    ref: ArtifactRef
    group: RowGroup | None = None
    size: int = 0


def concat(store: RunStore, name: str, refs: Sequence[ArtifactRef]) -> Any:
    """The tables with these references, one after the other, as a lazy ``dask.dataframe.DataFrame``; of series a ``Series``.

    They are as pandas has them; an index is a frame without columns. Raises :class:`DataException` if one is no table, or
    some are series and some are not.
    """
    import dask.dataframe as dd

    are_series = {_is_series(name, ref) for ref in refs}
    if len(are_series) > 1:
        raise DataException(
            f"Artifact '{name}' of some inputs is a series, of others a frame. Read them one by one."
        )
    meta = None
    found: list[Any] = []
    for is_lazy, neighbours in groupby(refs, lambda ref: ref.encoding == "dask"):
        if is_lazy:
            found += [store.load(name, ref) for ref in neighbours]
            continue
        tables = list(neighbours)
        meta = _meta(store, name, tables[0], alone=len(refs) == 1) if meta is None else meta
        found.append(_lazy(store, name, tables, meta))
    return found[0] if len(found) == 1 else dd.concat(found)


def _is_series(name: str, ref: ArtifactRef) -> bool:
    """Whether it is a series, not a frame. Raises :class:`DataException` if it is neither."""
    if ref.type in _FRAMES or ref.info.get("pandas", {}).get("kind") == "pandas.Index":
        return False
    if ref.type in _SERIES:
        return True
    raise DataException(f"Artifact '{name}' of an input is a {ref.type}, no frame.")


def _meta(store: RunStore, name: str, ref: ArtifactRef, *, alone: bool) -> Any:
    """What a table is without its rows; the categories of one among others are not those of all."""
    from dask.dataframe.utils import clear_known_categories

    is_exact = ref.encoding == "parquet" and "pandas" in ref.info  # of others the types depend on the values
    found = (
        _as_pandas(store.load_head(name, ref, 0)) if is_exact else _table(store, name, Piece(ref)).iloc[:0]
    )
    return found if alone else clear_known_categories(found)


def _lazy(store: RunStore, name: str, refs: Sequence[ArtifactRef], meta: Any) -> Any:
    import dask
    import dask.dataframe as dd

    pieces = chain.from_iterable(_pieces(store, ref) for ref in refs)
    read = read_together if meta.ndim > 1 else read_series_together
    place = (store.storage.url, store.flow, store.run)
    with dask.config.set({"dataframe.convert-string": False}):  # texts stay what they were
        return dd.from_map(
            read, list(_partitions(pieces)), place=place, name=name, meta=meta, enforce_metadata=False
        )


def _pieces(store: RunStore, ref: ArtifactRef) -> list[Piece]:
    """A table, or its row groups if it is large and can be had so."""
    whole = Piece(ref, size=ref.size)
    by_itself = ref.encoding == "parquet" and "row_group" not in ref.info
    if ref.size <= PARTITION_BYTES or not by_itself or ref.info["producer"].startswith("polars"):
        return [whole]
    with store.open(ref) as file:
        groups = row_groups(file)
    return [Piece(ref, group, ref.size // len(groups)) for group in groups] or [whole]


def _partitions(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Neighbours that are small together."""
    found: list[Piece] = []
    size = 0
    for piece in pieces:
        if found and (size + piece.size > PARTITION_BYTES or len(found) == PARTITION_TABLES):
            yield found
            found, size = [], 0
        found.append(piece)
        size += piece.size
    yield found


def read_together(
    pieces: Sequence[Piece], place: tuple[str, str, str], name: str, columns: Sequence[Any] | None = None
) -> Any:
    """On a worker: these tables as one, or some of its columns."""
    from dask.dataframe.dispatch import concat as with_all_categories

    url, flow, run = place
    store = RunStore(storage_at(url), flow, run)
    frames = [_table(store, name, piece, columns) for piece in pieces]
    return frames[0] if len(frames) == 1 else with_all_categories(frames)


def read_series_together(pieces: Sequence[Piece], place: tuple[str, str, str], name: str) -> Any:
    """On a worker: these series as one."""
    return read_together(pieces, place, name)


def _table(store: RunStore, name: str, piece: Piece, columns: Sequence[Any] | None = None) -> Any:
    """A frame or series of pandas, whichever library made it."""
    ref, group = piece.ref, piece.group
    found = None if columns is None else _some_columns(store, piece, list(columns))
    if found is not None:
        return found
    whole = _as_pandas(store.load(name, ref) if group is None else store.load_group(name, ref, group))
    return whole if columns is None else whole[list(columns)]


def _some_columns(store: RunStore, piece: Piece, columns: list[Any]) -> Any:
    """Some columns of a frame that has a file for itself, reading no others; None if they can't be had so."""
    import pandas as pd

    ref, group = piece.ref, piece.group
    if ref.encoding != "parquet" or "row_group" in ref.info:
        return None
    if ref.type == "pandas.DataFrame":
        return retried(lambda: read_columns(lambda: store.open(ref), ref.info, columns, group))
    if not ref.type.startswith("polars"):
        return None
    if not columns:
        return pd.DataFrame(index=range(ref.info["rows"]))
    return retried(lambda: scan(store.storage, ref).select(columns).collect().to_pandas())


def _as_pandas(value: Any) -> Any:
    """A table as pandas has it; an index as a frame without columns."""
    import pandas as pd

    if isinstance(value, (pd.DataFrame, pd.Series)):
        return value
    if isinstance(value, pd.Index):
        return pd.DataFrame(index=value)
    if lazy_tables.kind_of(value) is not None:
        value = lazy_tables.computed(value)
    return value.to_pandas()
