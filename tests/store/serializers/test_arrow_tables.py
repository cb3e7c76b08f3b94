"""``pyarrow.Table``: what is Parquet, and what is a pickle because Parquet would change it."""

from __future__ import annotations

import datetime as dt
import decimal

import numpy as np
import pyarrow as pa
import pytest
from conformance import check_roundtrip, roundtrip

EXACT: dict[str, pa.Array] = {
    "null": pa.nulls(2),
    "bool": pa.array([True, None]),
    "int": pa.array([1, None]),
    "uint64": pa.array([2**64 - 1], pa.uint64()),
    "half": pa.array(np.array([1.5], dtype="float16")),
    "float": pa.array([0.1, -0.0, float("nan"), None]),
    "string": pa.array(["a", None, ""]),
    "large string": pa.array(["a"], pa.large_string()),
    "string view": pa.array(["a", None], pa.string_view()),
    "binary": pa.array([b"a", None]),
    "fixed binary": pa.array([b"ab"], pa.binary(2)),
    "date": pa.array([dt.date(2024, 1, 1)]),
    "time": pa.array([1], pa.time32("s")),
    "timestamp s": pa.array([1, None], pa.timestamp("s")),
    "timestamp ns in a zone": pa.array([1], pa.timestamp("ns", "Europe/Berlin")),
    "duration": pa.array([1], pa.duration("ms")),
    "decimal": pa.array([decimal.Decimal("1.50")]),
    "wide decimal": pa.array([decimal.Decimal("1.50")], pa.decimal256(60, 2)),
    "dictionary": pa.array(["b", "a", None]).dictionary_encode(),
    "list": pa.array([[1], [], None]),
    "list of another name": pa.array([[1]], pa.list_(pa.field("name", pa.int64(), nullable=False))),
    "large list": pa.array([[1]], pa.large_list(pa.int64())),
    "fixed list": pa.array([[1, 2]], pa.list_(pa.int64(), 2)),
    "struct": pa.array([{"a": 1}, None]),
}

PICKLED: dict[str, pa.Array] = {
    "date64": pa.array([86_400_000], pa.date64()),
    "ordered dictionary": pa.DictionaryArray.from_arrays([0], ["a"], ordered=True),
    "list of seconds": pa.array([[1]], pa.list_(pa.timestamp("s"))),
    "far future": pa.array([2**60], pa.timestamp("s")),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "union": pa.UnionArray.from_dense(
        pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])], ["a"]
    ),
    "interval": pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
}


@pytest.mark.parametrize("column", EXACT.values(), ids=EXACT)
def test_a_column_is_parquet_and_comes_back_exactly(column: pa.Array) -> None:
    table = pa.table({"x": column})

    encoded = check_roundtrip(table)

    assert encoded.encoding == "parquet", encoded.info
    assert check_roundtrip(table[:0]).encoding == "parquet"


@pytest.mark.parametrize("column", PICKLED.values(), ids=PICKLED)
def test_a_column_that_parquet_would_change_is_a_pickle_that_names_it(column: pa.Array) -> None:
    encoded = check_roundtrip(pa.table({"n": pa.nulls(len(column)), "x": column}))

    assert encoded.encoding == "pickle"
    assert "column 'x'" in encoded.info["why"]


def test_a_type_that_the_writer_refuses_is_a_pickle_that_says_why() -> None:
    encoded = check_roundtrip(pa.table({"x": pa.array([100], pa.decimal128(5, -2))}))

    assert encoded.encoding == "pickle"
    assert "Parquet can't hold it" in encoded.info["why"]


def test_metadata_and_nullability_come_back() -> None:
    schema = pa.schema(
        [pa.field("a", pa.int64(), nullable=False, metadata={"unit": "m"})], metadata={"source": "survey"}
    )

    assert check_roundtrip(pa.table({"a": [1, 2]}, schema=schema)).encoding == "parquet"


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), "column names are not unique"),
        (pa.table({}), "a table without columns"),
    ],
)
def test_a_table_that_parquet_would_change_is_a_pickle_that_says_why(table: pa.Table, why: str) -> None:
    encoded = check_roundtrip(table)

    assert encoded.encoding == "pickle"
    assert encoded.info["why"] == why


def test_the_schema_and_the_length_stand_in_the_record() -> None:
    encoded, _, _ = roundtrip(pa.table({"a": [1], "b": ["x"]}))

    assert encoded.type == encoded.info["producer"] == "pyarrow.Table"
    assert encoded.info["schema"] == [["a", "int64"], ["b", "string"]]
    assert encoded.info["rows"] == 1


@pytest.mark.parametrize(
    "value", [pa.array([1, None]), pa.chunked_array([[1], [2]]), pa.record_batch({"a": [1]})]
)
def test_what_is_not_a_table_is_a_pickle(value: object) -> None:
    assert check_roundtrip(value).encoding == "pickle"
