"""Tables of many tasks as one, without loading them: a Dask DataFrame whose partitions read what belongs to them."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from daskflow.errors import DataException
from daskflow.store.retries import retried
from daskflow.store.runs import RunStore
from daskflow.store.serializers.parquet import read_columns
from daskflow.store.storage import storage_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from daskflow.store.records import ArtifactRef

PARTITION_BYTES = 64 << 20
"""Tables are read together, as one partition, up to so many bytes as stored."""
PARTITION_TABLES = 1_000
_FRAMES = frozenset({"pandas.DataFrame", "polars.DataFrame", "pyarrow.Table", "dask.dataframe.DataFrame"})


def concat(store: RunStore, name: str, refs: Sequence[ArtifactRef]) -> Any:
    """The frames with these references, one after the other, as a lazy ``dask.dataframe.DataFrame``.

    Raises :class:`DataException` if one is no frame.
    """
    import dask.dataframe as dd

    for ref in refs:
        if ref.type not in _FRAMES:
            raise DataException(f"Artifact '{name}' of an input is a {ref.type}, no frame.")
    meta = None
    found: list[Any] = []
    for is_lazy, neighbours in groupby(refs, lambda ref: ref.encoding == "dask"):
        if is_lazy:
            found += [store.load(name, ref) for ref in neighbours]
            continue
        tables = list(neighbours)
        meta = _frame(store, name, tables[0]).iloc[:0] if meta is None else meta
        found.append(_lazy(store, name, tables, meta))
    return found[0] if len(found) == 1 else dd.concat(found)


def _lazy(store: RunStore, name: str, refs: Sequence[ArtifactRef], meta: Any) -> Any:
    import dask
    import dask.dataframe as dd

    place = (store.storage.url, store.flow, store.run)
    with dask.config.set({"dataframe.convert-string": False}):  # texts stay what they were
        return dd.from_map(
            read_together, list(_partitions(refs)), place=place, name=name, meta=meta, enforce_metadata=False
        )


def _partitions(refs: Iterable[ArtifactRef]) -> Iterator[list[ArtifactRef]]:
    """Neighbours that are small together."""
    found: list[ArtifactRef] = []
    size = 0
    for ref in refs:
        if found and (size + ref.size > PARTITION_BYTES or len(found) == PARTITION_TABLES):
            yield found
            found, size = [], 0
        found.append(ref)
        size += ref.size
    yield found


def read_together(
    refs: Sequence[ArtifactRef], place: tuple[str, str, str], name: str, columns: Sequence[Any] | None = None
) -> Any:
    """On a worker: the frames with these references as one, or some of its columns."""
    import pandas as pd

    url, flow, run = place
    store = RunStore(storage_at(url), flow, run)
    frames = [_frame(store, name, ref, columns) for ref in refs]
    return frames[0] if len(frames) == 1 else pd.concat(frames)


def _frame(store: RunStore, name: str, ref: ArtifactRef, columns: Sequence[Any] | None = None) -> Any:
    """A frame of pandas, whichever library made it."""
    own = ref.encoding == "parquet" and ref.type == "pandas.DataFrame" and "row_group" not in ref.info
    if own and columns is not None:
        found = retried(lambda: read_columns(lambda: store.open(ref), ref.info, columns))
        if found is not None:
            return found
    value = store.load(name, ref)
    frame = value if ref.type == "pandas.DataFrame" else value.to_pandas()
    return frame if columns is None else frame[list(columns)]
