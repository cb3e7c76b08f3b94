"""In-process identity of frames that may be changed in place, made without a copy of their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xxhash

from daskflow.store.serializers.pandas_types import values_of
from daskflow.store.serializers.pickles import pickle_fingerprint
from daskflow.store.serializers.table_hash import BLOCK, can_hash, feed

if TYPE_CHECKING:
    import polars as pl

    from daskflow.store.serializers.base import Hash


def pandas_fingerprint(value: Any) -> str:
    """Changes with values, labels, index, dtypes, names and attrs.

    Not with the layout of blocks, nor with what an index or an array keeps of earlier reads: a frame, a series, an
    index or an array of times is taken by its content.
    """
    import pandas as pd

    digest = xxhash.xxh3_128(f"{type(value).__name__}\0".encode())
    if isinstance(value, pd.Index):
        _feed_index(digest, value)
    elif isinstance(value, (pd.DataFrame, pd.Series)):
        is_frame = isinstance(value, pd.DataFrame)
        _feed_pickle(digest, (value.attrs, value.flags.allows_duplicate_labels))
        _feed_index(digest, value.index)
        if is_frame:
            _feed_index(digest, value.columns)
        else:
            _feed_pickle(digest, value.name)
        for column in [value.iloc[:, i] for i in range(value.shape[1])] if is_frame else [value]:
            _feed_values(digest, values_of(column))
    else:
        _feed_pickle(digest, getattr(value, "freq", None))
        _feed_values(digest, value)
    return digest.hexdigest()


def polars_fingerprint(value: pl.DataFrame | pl.Series) -> str:
    """Changes with names, types and values."""
    import polars as pl

    from daskflow.store.serializers import polars_frames

    frame = value if isinstance(value, pl.DataFrame) else value.to_frame()
    if polars_frames.refusal(frame):
        return pickle_fingerprint(value)
    return polars_frames.content_hash(frame)


def _feed_index(digest: Hash, index: Any) -> None:
    import pandas as pd

    digest.update(f"\0{type(index).__name__}\0".encode())
    _feed_pickle(digest, list(index.names))
    if type(index).__module__.partition(".")[0] != "pandas":  # a subclass may have more to say
        _feed_pickle(digest, index)
    elif isinstance(index, pd.RangeIndex):
        digest.update(f"{index.start} {index.stop} {index.step}".encode())
    elif isinstance(index, pd.MultiIndex):
        digest.update(f"{index.sortorder}".encode())
        for level, codes in zip(index.levels, index.codes, strict=True):
            _feed_index(digest, level)
            _feed_values(digest, codes)
    else:
        _feed_pickle(digest, getattr(index, "freq", None))
        _feed_values(digest, values_of(index))


def _feed_values(digest: Hash, values: Any) -> None:
    """Hash a NumPy array or an extension array of pandas."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    digest.update(f"\0{values.dtype!r} {len(values)}\0".encode())
    if isinstance(values.dtype, np.dtype) and values.dtype != object:
        _feed_numbers(digest, np.asarray(values))
    elif isinstance(values.dtype, pd.CategoricalDtype):
        _feed_index(digest, values.categories)
        _feed_numbers(digest, values.codes)
    elif isinstance(values.dtype, (pd.DatetimeTZDtype, pd.PeriodDtype)):
        digest.update(f"{type(getattr(values.dtype, 'tz', None))!r}".encode())
        _feed_numbers(digest, values.asi8)
    elif values.dtype != object and hasattr(values, "__arrow_array__"):
        for start in range(0, len(values), BLOCK):
            part = pa.array(values[start : start + BLOCK])
            for chunk in part.chunks if isinstance(part, pa.ChunkedArray) else [part]:
                if not can_hash(chunk.type):
                    _feed_pickle(digest, values)
                    return
                feed(digest, chunk)
    else:
        _feed_pickle(digest, values)


def _feed_pickle(digest: Hash, value: Any) -> None:
    digest.update(pickle_fingerprint(value).encode())


def _feed_numbers(digest: Hash, values: Any) -> None:
    import numpy as np

    for start in range(0, len(values), BLOCK):
        digest.update(np.ascontiguousarray(values[start : start + BLOCK]).view(np.uint8))
