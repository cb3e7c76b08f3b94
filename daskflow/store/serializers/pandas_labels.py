"""Column labels and the index of a pandas object as JSON, and back.

How a MultiIndex stores its levels (unused entries, the frequency of a level) is not part of it: only labels,
names and dtypes are.
"""

from __future__ import annotations

import math
from typing import Any

from daskflow.store.serializers.pandas_types import describe, is_same_dtype, string_dtype

_LABELS = (str, int, bool, float, type(None))


def is_label(value: Any) -> bool:
    """Whether JSON keeps a single label or name exactly."""
    return type(value) in _LABELS and (type(value) is not float or math.isfinite(value))


def describe_columns(columns: Any) -> dict[str, Any] | None:
    """JSON description of column labels, None if JSON can't give them back."""
    import pandas as pd

    names = list(columns.names)
    if not all(map(is_label, names)):
        return None
    if type(columns) is pd.RangeIndex:
        return {"range": [columns.start, columns.stop, columns.step], "names": names}
    if type(columns) is pd.MultiIndex:
        levels = [columns.get_level_values(i) for i in range(columns.nlevels)]
        found = [_describe_labels(level) for level in levels]
        return None if None in found else {"levels": found, "names": names}
    found_one = _describe_labels(columns) if type(columns) is pd.Index else None
    return None if found_one is None else found_one | {"names": names}


def _describe_labels(labels: Any) -> dict[str, Any] | None:
    items, dtype = labels.tolist(), describe(labels.dtype)
    if dtype is None or not all(map(is_label, items)) or (labels.dtype != object and labels.hasnans):
        return None
    return {"labels": items, "dtype": dtype}


def restore_columns(spec: dict[str, Any]) -> Any:
    """The inverse of :func:`describe_columns`."""
    import pandas as pd

    if "range" in spec:
        return pd.RangeIndex(range(*spec["range"]), name=spec["names"][0])
    if "levels" in spec:
        return pd.MultiIndex.from_arrays([_restore_labels(x) for x in spec["levels"]], names=spec["names"])
    return _restore_labels(spec).rename(spec["names"][0])


def _restore_labels(spec: dict[str, Any]) -> Any:
    import pandas as pd

    dtype = spec["dtype"]
    if isinstance(dtype, dict):  # a string dtype: an index says "str" where a column says more
        dtype = string_dtype(dtype)
    return pd.Index(spec["labels"], dtype=dtype)


def index_levels(index: Any) -> list[Any]:
    """What of an index is stored as columns of the file."""
    import pandas as pd

    if type(index) is pd.RangeIndex:
        return []
    if isinstance(index, pd.MultiIndex):
        return [index.get_level_values(i) for i in range(index.nlevels)]
    return [index]


def describe_index(index: Any) -> dict[str, Any] | str:
    """JSON description of an index without its values, or why it has none."""
    import pandas as pd

    names = list(index.names)
    if not all(map(is_label, names)):
        return f"the index has names {names!r}"
    if type(index) is pd.RangeIndex:
        return {"range": [index.start, index.stop, index.step], "names": names}
    found: dict[str, Any] = {
        "levels": [describe(level.dtype) for level in index_levels(index)],
        "names": names,
    }
    if isinstance(index, pd.MultiIndex):
        found["multi"] = True
    elif isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)) and index.freq is not None:
        found["freq"] = index.freqstr
        if not _has_name(index.freq):
            return f"the index has frequency {index.freq!r}"
    return found


def _has_name(freq: Any) -> bool:
    """Whether the text of a frequency stands for it."""
    import pandas as pd

    try:
        return bool(pd.tseries.frequencies.to_offset(freq.freqstr) == freq)
    except ValueError:
        return False


def restore_index(spec: dict[str, Any], levels: list[Any]) -> Any:
    """The inverse of :func:`describe_index`, given the values of its levels."""
    import pandas as pd

    if "range" in spec:
        return pd.RangeIndex(range(*spec["range"]), name=spec["names"][0])
    # pandas guesses a dtype for objects unless told not to.
    found = [
        pd.Index(values, dtype=object if dtype == "object" else None, copy=False)
        for values, dtype in zip(levels, spec["levels"], strict=True)
    ]
    if spec.get("multi"):
        return pd.MultiIndex.from_arrays(found, names=spec["names"])
    index = found[0].rename(spec["names"][0])
    if "freq" in spec:
        index.freq = spec["freq"]
    return index


def label_difference(one: Any, other: Any) -> bool:
    """Whether two indexes differ in class, dtype, names or labels."""
    import pandas as pd

    if type(one) is not type(other) or list(one.names) != list(other.names) or not one.equals(other):
        return True
    if isinstance(one, pd.MultiIndex):
        pairs = zip(index_levels(one), index_levels(other), strict=True)
        return any(not is_same_dtype(left.dtype, right.dtype) for left, right in pairs)
    return not is_same_dtype(one.dtype, other.dtype) or any(
        type(left) is not type(right) for left, right in zip(one.tolist(), other.tolist(), strict=True)
    )
