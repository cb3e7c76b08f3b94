"""Pandas frames and series as Parquet: what plain ``pandas.read_parquet`` reads, and the rest in the record."""

from __future__ import annotations

import io
import json
import warnings
from typing import TYPE_CHECKING, Any

from daskflow.store.serializers.json_value import is_exact
from daskflow.store.serializers.pandas_exact import MAX_CATEGORIES, column_refusal
from daskflow.store.serializers.pandas_labels import (
    describe_columns,
    describe_index,
    index_levels,
    is_label,
    kept_levels,
    label_difference,
    labels_say_entries,
    level_difference,
    level_freq,
    restore_columns,
    restore_index,
    restore_level,
)
from daskflow.store.serializers.pandas_types import (
    arrow_type,
    describe,
    from_arrow,
    is_same_dtype,
    pack_array,
    to_arrow,
    unpack_array,
    values_of,
)
from daskflow.store.serializers.table_file import TablePlan
from daskflow.store.serializers.table_hash import hash_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    import pyarrow as pa

MAX_ATTRS = 16_384
_CATEGORIES = "daskflow.categories."
_LEVELS = "daskflow.levels."


def plan(value: pd.DataFrame | pd.Series[Any]) -> TablePlan | str:
    """How to write ``value``, or why its round trip would not be exact."""
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return _plan_frame(value, {"kind": "pandas.DataFrame"})
    if isinstance(value, pd.Index):
        return _plan_frame(pd.DataFrame(index=value), {"kind": "pandas.Index"})
    if not is_label(value.name):
        return f"its name {value.name!r} is not a plain one"
    name = value.name if isinstance(value.name, str) else "values"
    return _plan_frame(value.to_frame(name), {"kind": "pandas.Series", "name": value.name}, value)


def restore(columns: list[Any], metadata: Mapping[bytes, bytes], info: Mapping[str, Any]) -> Any:
    """The frame or series; ``columns`` is emptied on the way, so that nothing is held twice."""
    import pandas as pd

    spec = info["pandas"]
    arrays: list[Any] = []
    for position, dtype in enumerate([*spec["dtypes"], *spec["index"].get("levels", [])]):
        packed = metadata.get(f"{_CATEGORIES}{position}".encode())
        arrays.append(from_arrow(columns.pop(0), dtype, unpack_array(packed) if packed else None))
    width = len(spec["dtypes"])
    index = restore_index(spec["index"], arrays[width:], _own_levels(spec["index"], metadata))
    data = {
        # pandas guesses a dtype for objects unless told not to.
        i: pd.Series(a, index=index, dtype=object, copy=False) if spec["dtypes"][i] == "object" else a
        for i, a in enumerate(arrays[:width])
    }
    frame = pd.DataFrame(data, index=index, copy=False)
    if spec["kind"] == "pandas.Index":
        return frame.index
    frame.columns = restore_columns(spec["columns"])
    found = frame if spec["kind"] == "pandas.DataFrame" else frame.iloc[:, 0].rename(spec["name"])
    found.attrs = json.loads(json.dumps(spec["attrs"]))
    return found


def _own_levels(spec: Mapping[str, Any], metadata: Mapping[bytes, bytes]) -> dict[int, Any]:
    """The levels of an index that its file has."""
    import pyarrow as pa

    found = {}
    for i in range(len(spec.get("levels", []))):
        text = metadata.get(f"{_LEVELS}{i}".encode())
        if text is not None:
            kept = json.loads(text)
            entries = None
            if kept["entries"] is not None:
                column = pa.chunked_array([unpack_array(kept["entries"])])
                entries = restore_level(from_arrow(column, kept["dtype"], None), kept["dtype"])
            found[i] = entries, kept["freq"]
    return found


def some_columns(
    schema: pa.Schema, info: Mapping[str, Any], labels: Sequence[Any]
) -> tuple[list[str] | None, tuple[dict[bytes, bytes], dict[str, Any]]]:
    """Which fields of a file to read for some columns, the index included, and with what to restore them then.

    The first is None if columns have no plain labels, or fields can't be named one by one.
    """
    spec, metadata = info["pandas"], schema.metadata or {}
    all_labels = spec["columns"].get("labels", [])
    names = schema.names
    if (
        not set(labels) <= set(all_labels)
        or any("." in name for name in names)
        or len(set(names)) < len(names)
    ):
        return None, ({}, {})
    # In the order of the file: that is how they are read.
    places = [place for place, label in enumerate(all_labels) if label in labels]
    kept = [*places, *range(len(all_labels), len(names))]
    moved = {
        f"{_CATEGORIES}{new}".encode(): metadata[key]
        for new, old in enumerate(kept)
        if (key := f"{_CATEGORIES}{old}".encode()) in metadata
    }
    moved |= {key: value for key, value in metadata.items() if key.startswith(_LEVELS.encode())}
    less = spec | {
        "dtypes": [spec["dtypes"][place] for place in places],
        "columns": spec["columns"] | {"labels": [all_labels[place] for place in places]},
    }
    return [names[place] for place in kept], (moved, {"pandas": less})


def _plan_frame(frame: pd.DataFrame, about: dict[str, Any], owner: Any = None) -> TablePlan | str:
    """The plan of a frame; ``owner`` is the series it was made from, if it was."""
    owner = frame if owner is None else owner
    columns, index = describe_columns(frame.columns), describe_index(frame.index)
    reason = _outer_refusal(frame, owner)
    if reason:
        return reason
    if columns is None:
        return f"its column labels are not plain and of one type ({type(frame.columns).__name__})"
    if isinstance(index, str):
        return index
    parts = [frame.iloc[:, i] for i in range(frame.shape[1])] + index_levels(frame.index)
    values = [values_of(part) for part in parts]
    kinds = [arrow_type(part) for part in values]
    for position, (part, kind) in enumerate(zip(values, kinds, strict=True)):
        reason = column_refusal(part, kind)
        if reason:
            return f"{_place(frame, position)} {reason}"
    dtypes = [describe(part.dtype) for part in values[: frame.shape[1]]]
    kept = _kept(frame.index)
    if isinstance(kept, str):
        return kept
    spec = about | {"columns": columns, "index": index, "dtypes": dtypes, "attrs": owner.attrs}
    return _checked_plan(frame, spec, values, kinds, kept)


def _kept(index: Any) -> dict[int, tuple[pa.Array | None, str | None]] | str:
    """What the labels of an index do not say of its levels, entries and frequency, or why it can't be kept."""
    levels = kept_levels(index)
    if isinstance(levels, str):
        return levels
    found = {}
    for i, level in levels.items():
        entries = None if labels_say_entries(index, i) else _entries(level)
        if isinstance(entries, str):
            return f"level {i} of the index {entries}"
        freq = level_freq(level)
        found[i] = entries, None if freq is None else freq.freqstr
    return found


def _level_texts(index: Any, kept: dict[int, tuple[pa.Array | None, str | None]]) -> dict[str, str]:
    """What :func:`_kept` found, for the metadata of the file."""
    return {
        f"{_LEVELS}{i}": json.dumps(
            {
                "dtype": describe(index.levels[i].dtype),
                "entries": None if entries is None else pack_array(entries).decode(),
                "freq": freq,
            }
        )
        for i, (entries, freq) in kept.items()
    }


def _entries(level: Any) -> pa.Array | str:
    """The entries of a level, as many as the footer of a file can have, or why there are none."""
    values = values_of(level)
    kind = arrow_type(values)
    reason = column_refusal(values, kind)
    if reason:
        return reason
    if level.memory_usage(deep=True) > MAX_CATEGORIES:
        return f"has {len(level):,} entries, of which some have no rows or which are not sorted"
    return to_arrow(values, kind)


def _checked_plan(
    frame: pd.DataFrame,
    spec: dict[str, Any],
    values: list[Any],
    kinds: list[Any],
    kept: dict[int, tuple[pa.Array | None, str | None]],
) -> TablePlan | str:
    import pandas as pd

    schema = _schema(frame, values, kinds)
    if isinstance(schema, str):
        return schema
    if kept:
        schema = schema.with_metadata((schema.metadata or {}) | _level_texts(frame.index, kept))
    reason = _probe(frame, spec, schema)
    if reason:
        return reason
    import pyarrow as pa

    def rows_of(start: int, length: int) -> pa.Table:
        arrays = [to_arrow(v[start : start + length], k) for v, k in zip(values, kinds, strict=True)]
        return pa.Table.from_arrays(arrays, schema=schema)

    categories = {
        str(position): hash_array(_categories(part))
        for position, part in enumerate(values)
        if isinstance(part.dtype, pd.CategoricalDtype)
    }
    identity = spec | {"types": [str(kind) for kind in kinds], "categories": categories}
    if kept:
        identity["levels_kept"] = {
            str(i): [None if entries is None else hash_array(entries), freq]
            for i, (entries, freq) in kept.items()
        }
    return TablePlan(
        schema=schema,
        rows=len(frame),
        rows_of=rows_of,
        about=identity,
        info={"pandas": spec},
    )


def _outer_refusal(frame: pd.DataFrame, owner: Any) -> str:
    if not frame.columns.is_unique:
        return "its column labels are not unique"
    if not is_exact(owner.attrs, MAX_ATTRS):
        return "its attrs are not plain values, or large"
    if not owner.flags.allows_duplicate_labels:
        return "its flags forbid duplicate labels"
    return ""


def _place(frame: pd.DataFrame, position: int) -> str:
    return f"column {frame.columns[position]!r}" if position < frame.shape[1] else "the index"


def _schema(frame: pd.DataFrame, values: list[Any], kinds: list[Any]) -> pa.Schema | str:
    """The file's schema, with the metadata by which plain pandas restores index and dtypes."""
    import pandas as pd
    import pyarrow as pa

    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # of labels that become text: restored from the record
            found = pa.Schema.from_pandas(frame.iloc[:0])
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError) as error:
        return f"Arrow can't hold it: {error}"
    if len(set(found.names)) < len(found.names) or len(found.names) != len(kinds):
        return "its column labels are not unique as text"
    fields = [pa.field(name, kind) for name, kind in zip(found.names, kinds, strict=True)]
    known = json.loads(found.metadata[b"pandas"])
    known["attributes"] = {}
    if type(frame.index) is pd.RangeIndex:
        known["index_columns"][0] |= {
            "start": frame.index.start,
            "stop": frame.index.stop,
            "step": frame.index.step,
        }
    for position, (part, kind) in enumerate(zip(values, kinds, strict=True)):
        if part.dtype == object and not pa.types.is_null(kind):
            known["columns"][position]["pandas_type"] = _PANDAS_TYPES.get(str(kind), "object")
    metadata = {b"pandas": json.dumps(known).encode()}
    for position, part in enumerate(values):
        if isinstance(part.dtype, pd.CategoricalDtype):
            metadata[f"{_CATEGORIES}{position}".encode()] = pack_array(_categories(part))
    return pa.schema(fields, metadata=metadata)


def _categories(values: Any) -> pa.Array:
    labels = values_of(values.categories)
    return to_arrow(labels, arrow_type(labels))


_PANDAS_TYPES = {"large_string": "unicode", "large_binary": "bytes", "bool": "bool", "int64": "int64"}


def _probe(frame: pd.DataFrame, spec: dict[str, Any], schema: pa.Schema) -> str:
    """Send the frame without its rows through a Parquet file; returns what does not come back."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    empty = frame.iloc[:0]
    file = io.BytesIO()
    described = describe_index(empty.index)
    try:
        pq.write_table(schema.empty_table(), file)
        table = pq.ParquetFile(file).read(use_threads=False)
        info = {"pandas": spec | {"kind": "pandas.DataFrame", "index": described}}
        back = restore(list(table.columns), table.schema.metadata, info)
    except (pa.ArrowException, OSError, TypeError, ValueError, NotImplementedError) as error:
        return f"Parquet can't hold it: {error}"
    if label_difference(empty.columns, back.columns) or level_difference(empty.columns, back.columns):
        return "its column labels would change"
    if label_difference(empty.index, back.index):
        return "its index would change"
    for position, (one, other) in enumerate(zip(empty.dtypes, back.dtypes, strict=True)):
        if not is_same_dtype(one, other):
            return f"{_place(frame, position)} would change its dtype from {one} to {other}"
    return ""
