"""Queries of polars and datasets of Arrow: computed when they are stored, so that the data is there, and lazy again when loaded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daskflow.store.serializers.base import Folder

_KINDS = {"polars.LazyFrame": ("polars", "LazyFrame"), "pyarrow.Dataset": ("pyarrow.dataset", "Dataset")}


def kind_of(value: Any) -> str | None:
    """``polars.LazyFrame``, ``pyarrow.Dataset``, or None if it is neither; imports nothing."""
    for kind, (module, name) in _KINDS.items():
        found = getattr(sys.modules.get(module), name, None)
        if isinstance(found, type) and isinstance(value, found):
            return kind
    return None


def computed(value: Any) -> Any:
    """The frame or table that it stands for."""
    return value.collect() if kind_of(value) == "polars.LazyFrame" else value.to_table()


def over(kind: str, value: Any) -> Any:
    """One over a frame or table that is there."""
    if kind == "polars.LazyFrame":
        return value.lazy()
    import pyarrow.dataset as ds

    return ds.dataset(value)


def opened(kind: str, place: Folder) -> Any:
    """One over the file at a place of a store, of which nothing is read yet."""
    storage = place.storage()
    if kind == "polars.LazyFrame":
        import polars as pl

        return pl.scan_parquet(storage.locate(place.path), glob=False, **storage.polars_options())
    import pyarrow.dataset as ds

    from daskflow.store.serializers.arrow_files import arrow_filesystem

    return ds.dataset(storage.locate(place.path).removeprefix("s3://"), filesystem=arrow_filesystem(storage))
