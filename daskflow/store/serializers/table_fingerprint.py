"""In-process identity of frames that may be changed in place, made without a copy of their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xxhash

from daskflow.store.serializers.pickles import pickle_fingerprint
from daskflow.store.serializers.table_hash import BLOCK, can_hash, feed

if TYPE_CHECKING:
    import polars as pl

    from daskflow.store.serializers.base import Hash


def pandas_fingerprint(value: Any) -> str:
    """Changes with values, labels, index, dtypes, names and attrs; not with the layout of blocks."""
    import pandas as pd

    is_frame = isinstance(value, pd.DataFrame)
    columns = [value.iloc[:, i] for i in range(value.shape[1])] if is_frame else [value]
    labels = value.columns if is_frame else value.name
    about = (labels, value.index, value.attrs, value.flags.allows_duplicate_labels)
    digest = xxhash.xxh3_128(pickle_fingerprint(about).encode())
    for column in columns:
        digest.update(f"\0{column.dtype!r}\0".encode())
        _feed_column(digest, column)
    return digest.hexdigest()


def polars_fingerprint(value: pl.DataFrame | pl.Series) -> str:
    """Changes with names, types and values."""
    import polars as pl

    from daskflow.store.serializers import polars_frames

    frame = value if isinstance(value, pl.DataFrame) else value.to_frame()
    if polars_frames.refusal(frame):
        return pickle_fingerprint(value)
    return polars_frames.content_hash(frame)


def _feed_column(digest: Hash, column: Any) -> None:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    if isinstance(column.dtype, np.dtype) and column.dtype != object:
        _feed_numbers(digest, column.to_numpy())
    elif isinstance(column.dtype, pd.CategoricalDtype):
        digest.update(pickle_fingerprint(column.cat.categories).encode())
        _feed_numbers(digest, column.cat.codes.to_numpy())
    elif column.dtype != object and hasattr(column.array, "__arrow_array__"):
        for start in range(0, len(column), BLOCK):
            part = pa.array(column.array[start : start + BLOCK])
            for chunk in part.chunks if isinstance(part, pa.ChunkedArray) else [part]:
                if not can_hash(chunk.type):
                    digest.update(pickle_fingerprint(column.array).encode())
                    return
                feed(digest, chunk)
    else:
        digest.update(pickle_fingerprint(column.array).encode())


def _feed_numbers(digest: Hash, values: Any) -> None:
    import numpy as np

    for start in range(0, len(values), BLOCK):
        digest.update(np.ascontiguousarray(values[start : start + BLOCK]).view(np.uint8))
