"""Column labels and the index of a pandas object as JSON, and back.

Of the levels of a MultiIndex, pandas makes what its labels say. Where they are otherwise (entries that no row has, an order
of their own, a frequency), those of an index are told by :func:`kept_levels`, those of column labels as JSON. A level that was a
``RangeIndex`` is one of the same whole numbers.
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
        if None in found:
            return None
        return _with_own_levels(columns, {"levels": found, "names": names})
    found_one = _describe_labels(columns) if type(columns) is pd.Index else None
    return None if found_one is None else found_one | {"names": names}


def _with_own_levels(columns: Any, spec: dict[str, Any]) -> dict[str, Any] | None:
    """The description with the levels that the labels do not say, None if JSON can't give them back."""
    own: dict[str, Any] = {
        str(i): _describe_labels(columns.levels[i])
        for i in range(columns.nlevels)
        if _level_is_its_own(columns, i)
    }
    if None in own.values() or any(
        isinstance(each["dtype"], dict) and "category" in each["dtype"] for each in own.values()
    ):
        return None
    return spec | {"own": own} if own else spec


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
        labels = [_restore_labels(x) for x in spec["levels"]]
        own: dict[int, tuple[Any, str | None]] = {
            int(i): (_restore_labels(level), None) for i, level in spec.get("own", {}).items()
        }
        return _multi_index(labels, spec["names"], own)
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


def kept_levels(index: Any) -> dict[int, Any] | str:
    """The levels of a MultiIndex that can't be made of its labels, by their place, or why one can't be kept."""
    import pandas as pd

    if not isinstance(index, pd.MultiIndex):
        return {}
    found = {i: index.levels[i] for i in range(index.nlevels) if _level_is_its_own(index, i)}
    for i, level in found.items():
        if isinstance(level.dtype, pd.CategoricalDtype) or level.hasnans:
            return f"level {i} of the index has entries that its rows do not say"
        if (index.codes[i] < 0).any() and level.dtype.kind in "iu" and not _are_exact_as_floats(level):
            return f"level {i} of the index has whole numbers that no float is, and missing ones"
        freq = level_freq(level)
        if freq is not None and not _has_name(freq):
            return f"level {i} of the index has frequency {freq!r}"
    return found


def _are_exact_as_floats(level: Any) -> bool:
    most = 2**53
    return len(level) == 0 or (-most <= level.min() and level.max() <= most)


def level_freq(level: Any) -> Any:
    """The frequency of a level of times, if it has one; that of periods is their dtype's."""
    import pandas as pd

    return level.freq if isinstance(level, (pd.DatetimeIndex, pd.TimedeltaIndex)) else None


def _level_is_its_own(index: Any, i: int) -> bool:
    """Whether pandas, given the labels alone, would make another level of them."""
    return level_freq(index.levels[i]) is not None or not labels_say_entries(index, i)


def labels_say_entries(index: Any, i: int) -> bool:
    """Whether a level of a MultiIndex has the entries, in their order, that pandas would make of the labels."""
    import numpy as np
    import pandas as pd

    level, codes = index.levels[i], index.codes[i]
    if level.dtype.kind in "iu" and (codes < 0).any():  # beside a missing one, whole numbers are floats
        return False
    if isinstance(level.dtype, pd.CategoricalDtype):
        return bool(np.array_equal(level.codes, np.arange(len(level.categories))))
    if level.hasnans or not level.is_monotonic_increasing:
        return False
    used = np.zeros(len(level), dtype=bool)
    used[codes[codes >= 0]] = True
    return bool(used.all())


def _multi_index(labels: list[Any], names: list[Any], own: dict[int, tuple[Any, str | None]]) -> Any:
    """A MultiIndex of labels; of some levels the entries are given, None if the labels say them, and the frequency."""
    import pandas as pd

    found = pd.MultiIndex.from_arrays(labels, names=names)
    if not own:
        return found
    levels, codes = list(found.levels), list(found.codes)
    for i, (entries, freq) in own.items():
        if entries is not None:
            levels[i], codes[i] = entries, entries.get_indexer(labels[i])
        if freq is not None:
            levels[i] = levels[i].copy()
            levels[i].freq = freq
    return pd.MultiIndex(levels=levels, codes=codes, names=names, verify_integrity=False)


def restore_level(values: Any, dtype: Any) -> Any:
    """An index of values that were of this dtype."""
    import pandas as pd

    # pandas guesses a dtype for objects unless told not to.
    return pd.Index(values, dtype=object if dtype == "object" else None, copy=False)


def restore_index(spec: dict[str, Any], levels: list[Any], own: dict[int, Any] | None = None) -> Any:
    """The inverse of :func:`describe_index`, given the values of its levels.

    ``own`` has of :func:`kept_levels` the entries, None if the labels say them, and the text of the frequency, if any.
    """
    import pandas as pd

    if "range" in spec:
        return pd.RangeIndex(range(*spec["range"]), name=spec["names"][0])
    found = [restore_level(*each) for each in zip(levels, spec["levels"], strict=True)]
    if spec.get("multi"):
        return _multi_index(found, spec["names"], own or {})
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


def level_difference(one: Any, other: Any) -> bool:
    """Whether the levels of two indexes with the same labels differ; those of an index that has none do not."""
    import pandas as pd

    if not isinstance(one, pd.MultiIndex):
        return False
    pairs = zip(one.levels, other.levels, strict=True)
    return any(not left.equals(right) or level_freq(left) != level_freq(right) for left, right in pairs)
