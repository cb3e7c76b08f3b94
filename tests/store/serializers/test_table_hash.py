"""The identity of a table is what it says, not how it lies in memory."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from conformance import roundtrip

from daskflow.store.serializers.table_hash import BLOCK, can_hash, hash_array

ARRAYS: dict[str, pa.Array] = {
    "null": pa.nulls(5),
    "bool": pa.array([True, None, False, True, None]),
    "int8": pa.array([1, None, -3, 4, 5], pa.int8()),
    "float": pa.array([1.5, None, float("nan"), -0.0, 0.0]),
    "half": pa.array(np.array([1, 2, 3, 4, 5], dtype="float16")),
    "string": pa.array(["a", None, "", "ü", "longer than twelve bytes"]),
    "large string": pa.array(["a", None, "", "ü", "x"], pa.large_string()),
    "string view": pa.array(["a", None, "", "ü", "longer than twelve bytes"], pa.string_view()),
    "binary": pa.array([b"a", None, b"", b"\0", b"xyz"]),
    "fixed binary": pa.array([b"ab", None, b"cd", b"ef", b"gh"], pa.binary(2)),
    "timestamp": pa.array([1, None, 3, 4, 5], pa.timestamp("us", "UTC")),
    "date": pa.array([dt.date(2024, 1, 1), None, dt.date(1, 1, 1), None, None]),
    "decimal": pa.array([decimal.Decimal("1.5"), None, decimal.Decimal("-2.5"), None, None]),
    "dictionary": pa.array(["a", "b", None, "a", "c"]).dictionary_encode(),
    "list": pa.array([[1, 2], None, [], [None], [3]]),
    "fixed list": pa.array([[1, 2], None, [3, None], [5, 6], [7, 8]], pa.list_(pa.int64(), 2)),
    "struct": pa.array(
        [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}, {"a": 2, "b": None}, {"a": 3, "b": "z"}]
    ),
    "list of structs": pa.array([[{"a": ["x"]}], None, [], [{"a": None}, None], [{"a": []}]]),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_chunks_slices_and_offsets_do_not_count(array: pa.Array) -> None:
    assert can_hash(array.type)
    whole = hash_array(array)
    padded = pa.concat_arrays([array[3:], array, array[:2]])

    assert hash_array(padded.slice(2, 5)) == whole
    assert hash_array(pa.chunked_array([array[:1], array[1:1], array[1:4], array[4:]])) == whole


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_each_value_and_each_gap_counts(array: pa.Array) -> None:
    gaps = [pa.concat_arrays([array[:i], pa.nulls(1, array.type), array[i + 1 :]]) for i in range(5)]
    variants = [array, array[:4], *gaps]
    distinct = {repr(variant.to_pylist()): variant for variant in variants}

    assert len({hash_array(variant) for variant in distinct.values()}) == len(distinct)


def test_what_lies_in_memory_under_a_null_does_not_count() -> None:
    mask = np.array([False, True])

    for one, other in [(np.array([1, 2]), np.array([1, 3])), (np.array(["a", "b"]), np.array(["a", "ccc"]))]:
        left = pa.array(one.astype(object) if one.dtype.kind == "U" else one, mask=mask)
        right = pa.array(other.astype(object) if other.dtype.kind == "U" else other, mask=mask)
        assert hash_array(left) == hash_array(right)


def test_garbage_under_a_null_string_does_not_count() -> None:
    offsets = pa.array([0, 1, 4], pa.int32()).buffers()[1]
    valid = pa.array([1, 0], pa.uint8()).cast(pa.bool_()).buffers()[1]
    garbage = pa.Array.from_buffers(pa.string(), 2, [valid, offsets, pa.py_buffer(b"axyz")])

    assert garbage.to_pylist() == ["a", None]
    assert hash_array(garbage) == hash_array(pa.array(["a", None]))


def test_words_cut_elsewhere_differ() -> None:
    assert hash_array(pa.array(["ab", "c"])) != hash_array(pa.array(["a", "bc"]))
    assert hash_array(pa.array([[1], [2, 3]])) != hash_array(pa.array([[1, 2], [3]]))


def test_types_count() -> None:
    kinds = [pa.int8(), pa.int64(), pa.uint64(), pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC")]

    assert len({hash_array(pa.array([1, 2]).cast(kind)) for kind in kinds}) == len(kinds)


@pytest.mark.parametrize(
    "kind", [pa.map_(pa.string(), pa.int64()), pa.list_(pa.dense_union([pa.field("a", pa.int8())]))]
)
def test_what_can_not_be_hashed_is_known_by_its_type(kind: pa.DataType) -> None:
    assert not can_hash(kind)


def _pandas(rows: int = 3 * BLOCK + 17) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "i": np.arange(rows),
            "f": np.where(np.arange(rows) % 7 == 0, np.nan, np.arange(rows) / 3),
            "s": pd.Series(["a", "bc", None, ""] * (rows // 4 + 1))[:rows],
            "c": pd.Categorical.from_codes(np.arange(rows) % 3, ["x", "y", "z"]),
        }
    )


def test_pandas_frames_made_in_different_ways_have_one_identity() -> None:
    frame = _pandas()
    double = pd.concat([frame, frame], ignore_index=True)
    pieces = pd.concat([frame.iloc[:5], frame.iloc[5:BLOCK], frame.iloc[BLOCK:]])
    by_column = pd.DataFrame(index=frame.index)
    for name in frame:
        by_column[name] = frame[name].copy()

    hashes = {
        roundtrip(each)[0].hash for each in (frame, _pandas(), double.iloc[: len(frame)], pieces, by_column)
    }

    assert len(hashes) == 1


def test_polars_frames_made_in_different_ways_have_one_identity() -> None:
    frame = pl.from_pandas(_pandas())
    pieces = pl.concat([frame[:5], frame[5:BLOCK], frame[BLOCK:]], rechunk=False)
    double = pl.concat([frame, frame])

    hashes = {roundtrip(each)[0].hash for each in (frame, pieces, double[: frame.height])}

    assert len(hashes) == 1


def test_arrow_tables_made_in_different_ways_have_one_identity() -> None:
    table = pa.table(_pandas().drop(columns="c"))
    pieces = pa.concat_tables([table[:5], table[5:BLOCK], table[BLOCK:]])
    double = pa.concat_tables([table, table])

    hashes = {
        roundtrip(each)[0].hash
        for each in (table, pieces, double[: table.num_rows], pa.table(table.columns, schema=table.schema))
    }

    assert len(hashes) == 1


BASE = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
DIFFERENT: dict[str, Any] = {
    "the same": BASE,
    "a value": pd.DataFrame({"a": [1, 3], "b": ["x", "y"]}),
    "a dtype": BASE.astype({"a": "int32"}),
    "equal floats": BASE.astype({"a": "float64"}),
    "bools": pd.DataFrame({"a": [True, True], "b": ["x", "y"]}),
    "a label": BASE.rename(columns={"a": "c"}),
    "order of columns": BASE[["b", "a"]],
    "order of rows": BASE.iloc[::-1],
    "the index": BASE.set_axis([5, 6]),
    "range or list as index": BASE.set_axis([0, 1]),
    "name of the index": BASE.rename_axis("n"),
    "name of the columns": BASE.rename_axis(columns="n"),
    "object strings": BASE.astype({"b": object}),
    "category": BASE.astype({"b": "category"}),
    "more categories": BASE.astype({"b": pd.CategoricalDtype(["x", "y", "z"])}),
    "order of categories": BASE.astype({"b": pd.CategoricalDtype(["y", "x"])}),
    "ordered categories": BASE.astype({"b": pd.CategoricalDtype(["x", "y"], ordered=True)}),
    "fewer rows": BASE.iloc[:1],
    "no rows": BASE.iloc[:0],
    "series": BASE["a"],
    "series of another name": BASE["a"].rename("z"),
    "frame of one column": BASE[["a"]],
    "polars": pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
    "polars series": pl.Series("a", [1, 2]),
    "pyarrow": pa.table({"a": [1, 2], "b": ["x", "y"]}),
    "pyarrow with metadata": pa.table({"a": [1, 2], "b": ["x", "y"]}).replace_schema_metadata({"k": "v"}),
}


def test_tables_that_differ_in_anything_differ_in_identity() -> None:
    with_attrs = BASE.copy()
    with_attrs.attrs["k"] = 1
    stored = {name: roundtrip(value)[0] for name, value in (DIFFERENT | {"attrs": with_attrs}).items()}

    assert {encoded.encoding for encoded in stored.values()} == {"parquet"}
    assert len({encoded.hash for encoded in stored.values()}) == len(stored)
