"""Polars frames and series: Parquet by polars itself, each type exact."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import polars as pl
import pytest
from conformance import check_roundtrip, roundtrip
from hypothesis import given, settings
from polars.testing.parametric import dataframes

S = pl.Series
EXACT: dict[str, pl.Series] = {
    "null": S([None, None]),
    "bool": S([True, None]),
    **{str(kind): S([0, 1, None], dtype=kind) for kind in (pl.Int8, pl.Int16, pl.Int32, pl.Int64)},
    **{str(kind): S([0, 1, None], dtype=kind) for kind in (pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)},
    "float": S([0.1, -0.0, float("nan"), float("inf"), None]),
    "float32": S([0.1, None], dtype=pl.Float32),
    "str": S(["a", "", None, "ü\0", "longer than twelve bytes"]),
    "binary": S([b"a", None, b"\0"]),
    "date": S([dt.date(2024, 1, 1), None]),
    "time": S([dt.time(1, 2, 3, 4), None]),
    "datetime": S([dt.datetime(2024, 1, 1), None]),
    "datetime ms in a zone": S([0, None], dtype=pl.Datetime("ms", "Europe/Berlin")),
    "datetime ns": S([1, None], dtype=pl.Datetime("ns")),
    "duration": S([dt.timedelta(1), None]),
    "duration ms": S([1, None], dtype=pl.Duration("ms")),
    "decimal": S([decimal.Decimal("1.50"), None], dtype=pl.Decimal(10, 2)),
    "categorical": S(["b", "a", None, "b"], dtype=pl.Categorical),
    "enum": S(["b", None], dtype=pl.Enum(["z", "b"])),
    "list": S([[1], [], None, [None]]),
    "array": S([[1, 2], None], dtype=pl.Array(pl.Int8, 2)),
    "struct": S([{"a": 1, "b": "x"}, {"a": None, "b": None}]),
    "nested": S([[{"a": ["b"]}], None]),
}


@pytest.mark.parametrize("column", EXACT.values(), ids=EXACT)
def test_a_column_is_parquet_and_comes_back_exactly(column: pl.Series) -> None:
    frame = pl.DataFrame({"x": column, "n": range(len(column))})

    assert check_roundtrip(frame).encoding == "parquet"
    assert check_roundtrip(frame.clear()).encoding == "parquet"
    assert check_roundtrip(column.alias("name")).encoding == "parquet"


def test_empty_frames_come_back_exactly() -> None:
    assert check_roundtrip(pl.DataFrame()).encoding == "parquet"
    assert check_roundtrip(pl.DataFrame({"a": []})).encoding == "parquet"
    assert check_roundtrip(pl.Series("", [], dtype=pl.Int8)).encoding == "parquet"


def test_a_type_that_arrow_does_not_know_is_a_pickle_that_says_why() -> None:
    encoded = check_roundtrip(pl.DataFrame({"x": pl.Series([2**100, None], dtype=pl.Int128)}))

    assert encoded.encoding == "pickle"
    assert "polars can't write it as Parquet" in encoded.info["why"]


def test_python_objects_in_cells_are_refused_by_column() -> None:
    from daskflow.errors import UnpicklableArtifactException
    from daskflow.store.serializers.polars_frames import refusal

    frame = pl.DataFrame({"n": [1], "x": [object()]})

    assert refusal(frame) == "column 'x' has type Object"
    with pytest.raises(UnpicklableArtifactException, match=r"polars.DataFrame can't be pickled"):
        roundtrip(frame)


def test_a_subclass_is_a_pickle_that_says_why() -> None:
    encoded, back, _ = roundtrip(Sub({"a": [1]}))

    assert encoded.info["why"] == f"it is of {__name__}.Sub, a subclass of polars.DataFrame"
    assert type(back) is Sub


class Sub(pl.DataFrame):
    """A subclass."""


def test_a_loaded_frame_may_be_changed_in_place() -> None:
    _, back, _ = roundtrip(pl.DataFrame({"a": [1, 2]}))

    back[0, "a"] = 5
    back.insert_column(0, pl.Series("b", [3, 4]))

    assert back.to_dict(as_series=False) == {"b": [3, 4], "a": [5, 2]}


def test_the_schema_and_the_length_stand_in_the_record() -> None:
    encoded, _, _ = roundtrip(pl.DataFrame({"a": [1], "b": ["x"]}))

    assert encoded.type == encoded.info["producer"] == "polars.DataFrame"
    assert encoded.info["schema"] == [["a", "Int64"], ["b", "String"]]
    assert encoded.info["rows"] == 1


@given(frame=dataframes(max_cols=4, max_size=8, excluded_dtypes=[pl.Object]))
@settings(max_examples=60, deadline=None)
def test_any_frame_comes_back_exactly(frame: Any) -> None:
    check_roundtrip(frame)
