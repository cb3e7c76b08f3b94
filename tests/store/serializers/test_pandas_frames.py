"""What of pandas is Parquet, what is a pickle, and that both come back exactly."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
import zoneinfo
from dataclasses import dataclass
from typing import Any

import dateutil.tz
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conformance import check_roundtrip, roundtrip

from daskflow.store.serializers import table_file
from daskflow.store.serializers.table_hash import BLOCK

D = decimal.Decimal


class Frame(pd.DataFrame):
    """A subclass, as geopandas has one."""

    @property
    def _constructor(self) -> type[Frame]:
        return Frame


@dataclass(frozen=True)
class Label:
    text: str


class Text(str):
    """A subclass of str."""


def _days(**kwargs: Any) -> pd.DatetimeIndex:
    return pd.date_range("2024-03-30", periods=3, **kwargs)


EXACT_COLUMNS: dict[str, Any] = {
    "bool": pd.Series([True, False]),
    **{
        f"{n}": pd.Series([0, 1], dtype=n)
        for n in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
    },
    "uint64": pd.Series([0, 2**64 - 1], dtype="uint64"),
    "float16": pd.Series([1.5, np.nan], dtype="float16"),
    "float32": pd.Series([1.5, np.nan], dtype="float32"),
    "float64": pd.Series([0.1, -0.0, 0.0, np.inf, -np.inf, np.nan, 5e-324]),
    "str": pd.Series(["a", "", None, "ü\0"]),
    "string python NA": pd.Series(["a", None], dtype=pd.StringDtype("python")),
    "string python nan": pd.Series(["a", None], dtype=pd.StringDtype("python", na_value=np.nan)),
    "string pyarrow NA": pd.Series(["a", None], dtype=pd.StringDtype("pyarrow")),
    "object of str": pd.Series(["a", None], dtype=object),
    "object of bytes": pd.Series([b"a", None], dtype=object),
    "object of bool": pd.Series([True, None], dtype=object),
    "object of int": pd.Series([1, None], dtype=object),
    "object of float": pd.Series([1.5, None, float("nan")], dtype=object),
    "object of None": pd.Series([None, None], dtype=object),
    "object of date": pd.Series([dt.date(2024, 1, 1), None], dtype=object),
    "object of time": pd.Series([dt.time(1, 2, 3, 4), None], dtype=object),
    "object of UUID": pd.Series([uuid.UUID(int=1), None], dtype=object),
    "object of Decimal": pd.Series([D("1.50"), None, D("-20.25")], dtype=object),
    "datetime64 ns": pd.Series(_days(unit="ns")),
    "datetime64 us": pd.Series([pd.Timestamp("1700-01-01"), pd.NaT], dtype="datetime64[us]"),
    "datetime64 ms": pd.Series(_days(unit="ms")),
    "datetime64 s": pd.Series(_days(unit="s")),
    "UTC": pd.Series(_days(tz="UTC")),
    "Berlin, over a change": pd.Series(_days(tz="Europe/Berlin", unit="ns")),
    "zone in seconds": pd.Series(_days(tz="Europe/Berlin", unit="s")),
    "UTC as Arrow has it": pd.Series(_days(tz=zoneinfo.ZoneInfo("UTC"))),
    "category in a zone": pd.Series(pd.Categorical(_days(tz=zoneinfo.ZoneInfo("UTC"))._with_freq(None))),
    "fixed offset": pd.Series(_days(tz=dt.timezone(dt.timedelta(hours=2)))),
    "timedelta64 ns": pd.Series(pd.to_timedelta([1, None], unit="s").as_unit("ns")),
    "timedelta64 s": pd.Series(pd.to_timedelta([1, 2], unit="s").as_unit("s")),
    "Int64": pd.Series([1, None, 2**62 + 1], dtype="Int64"),
    "UInt8": pd.Series([1, None], dtype="UInt8"),
    "Float64": pd.Series([1.5, None], dtype="Float64"),
    "Float32": pd.Series([1.5, None], dtype="Float32"),
    "boolean": pd.Series([True, None], dtype="boolean"),
    "period": pd.Series(pd.period_range("2024-01", periods=2, freq="M")),
    "interval": pd.Series(pd.interval_range(0, 3)),
    "interval of floats": pd.Series(pd.arrays.IntervalArray.from_breaks([0.0, 0.5, 2.0], closed="left")),
    "category of str, unused ones": pd.Series(pd.Categorical(["b", None, "a"], categories=["z", "b", "a"])),
    "category, ordered": pd.Series(
        pd.Categorical(["lo", "hi"], categories=["lo", "mid", "hi"], ordered=True)
    ),
    "category of int": pd.Series(pd.Categorical([3, 1, None, 3], categories=[3, 2, 1])),
    "category of bool": pd.Series(pd.Categorical([True, False, None])),
    "category of float": pd.Series(pd.Categorical([1.5, 0.5])),
    "category of times": pd.Series(pd.Categorical(pd.DatetimeIndex(["2024", "2025", "2027"]))),
    "category without any": pd.Series(pd.Categorical([None, None], categories=["a"])),
    "Arrow int": pd.Series([1, None], dtype="int64[pyarrow]"),
    "Arrow string": pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string())),
    "Arrow decimal": pd.Series([D("1.5"), None], dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
    "Arrow timestamp": pd.Series([1, None], dtype=pd.ArrowDtype(pa.timestamp("us", "UTC"))),
}

PICKLED_COLUMNS: dict[str, tuple[Any, str]] = {
    "str and NaN": (pd.Series(["a", np.nan], dtype=object), "column 'x' holds objects of several types"),
    "int and str": (pd.Series([1, "a"], dtype=object), "holds objects of several types (int, str)"),
    "large int": (pd.Series([2**70, None], dtype=object), "column 'x' can't be held by Arrow"),
    "lone surrogate": (pd.Series(["\ud800", None], dtype=object), "column 'x' can't be held by Arrow"),
    "Decimals of two scales": (pd.Series([D("1.5"), D("1.50")], dtype=object), "different scales"),
    "Decimal NaN": (pd.Series([D("NaN"), D("1")], dtype=object), "different scales"),
    "negative zero Decimal": (pd.Series([D("-0.0"), D("1.0")], dtype=object), "values that Arrow changes"),
    "time with fold": (pd.Series([dt.time(1, fold=1)], dtype=object), "values that Arrow changes"),
    "dicts": (pd.Series([{"a": 1}, {"b": 2}]), "holds objects of type dict"),
    "lists": (pd.Series([[1], [2, 3]]), "holds objects of type list"),
    "UUIDs that say how they were made": (
        pd.Series([uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe)]),
        "holds objects of type UUID",
    ),
    "sets": (pd.Series([{1}, {2}]), "holds objects of type set"),
    "tuples": (pd.Series([(1,), (2,)]), "holds objects of type tuple"),
    "objects of a class": (pd.Series([Label("a")]), "holds objects of type Label"),
    "subclass of str": (pd.Series([Text("a")], dtype=object), "holds objects of type Text"),
    "datetimes": (pd.Series([dt.datetime(2024, 1, 1)], dtype=object), "holds objects of type datetime"),
    "Arrow list": (
        pd.Series([[1]], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
        "column 'x' would change its dtype",
    ),
    "big-endian": (pd.Series(np.arange(3, dtype=">i4")), "column 'x' has dtype"),
    "NumPy scalars": (pd.Series([np.float64(1), None], dtype=object), "holds objects of type float64"),
    "complex": (pd.Series([1j]), "column 'x' has dtype complex128"),
    "longdouble": (pd.Series(np.array([1], dtype=np.longdouble)), "column 'x' has dtype"),
    "sparse": (pd.Series(pd.arrays.SparseArray([0, 1])), "column 'x' has dtype Sparse[int64, 0]"),
    "category of intervals": (pd.Series(pd.cut([1, 2], [0, 1, 2])), "column 'x' has dtype category"),
    "category of several types": (
        pd.Series(pd.Categorical([1, "a"])),
        "categories of which the set holds objects",
    ),
    "category of a frequency": (
        pd.Series(pd.Categorical(_days())),
        "column 'x' has categories that have a name or",
    ),
    "category of a name": (
        pd.Series(pd.Categorical(["a"], categories=pd.Index(["a"], name="n"))),
        "column 'x' has categories that have a name or",
    ),
    "many long categories": (pd.Series(pd.Categorical(["a" * 9_000_000])), "column 'x' has 1 categories"),
    "far future": (pd.Series(np.array([2**60], dtype="M8[s]")), "times that milliseconds can't express"),
}

EXACT_INDEXES: dict[str, Any] = {
    "range": pd.RangeIndex(3),
    "range from 5 in steps": pd.RangeIndex(5, 11, 2, name="r"),
    "str": pd.Index(["a", "b", "c"], name="x"),
    "object": pd.Index(["a", "b", None], dtype=object),
    "int": pd.Index([3, 1, 3]),
    "float": pd.Index([0.5, np.nan, 1]),
    "days": _days(name="day"),
    "business days": _days(freq="B"),
    "days in a zone": _days(tz="Europe/Berlin"),
    "days of a zone before 1900": pd.date_range("1850-01-01 12:34:56", periods=3, tz="Europe/Amsterdam"),
    "days of a zone in nanoseconds before 1900": pd.date_range("1700", periods=3, tz="Asia/Tokyo", unit="ns"),
    "times without frequency": pd.DatetimeIndex(["2024-01-01", "2024-01-03", "2024-01-04"]),
    "timedelta": pd.timedelta_range("1h", periods=3, freq="h"),
    "period": pd.period_range("2024-01", periods=3, freq="Q"),
    "interval": pd.interval_range(0, 3),
    "category": pd.CategoricalIndex(["a", "b", "a"]),
    "two levels": pd.MultiIndex.from_arrays(
        [["a", "a", "b"], pd.DatetimeIndex(["2024", "2025", "2027"])], names=["k", None]
    ),
    "levels of which entries are not used": pd.MultiIndex.from_product([["a", "b", "c"], [1, 2]])[[0, 1, 4]],
    "levels in an order of their own": pd.MultiIndex(
        levels=[["z", "a"], [3.5, 1.5]], codes=[[0, 1, -1], [0, 1, 0]], names=["k", "l"]
    ),
    "levels with a frequency": pd.MultiIndex.from_product(
        [_days(tz="Asia/Tokyo"), ["a"]], names=["day", "k"]
    ),
    "a level of whole numbers, one of which is missing": pd.MultiIndex.from_arrays(
        [[7, 300, None], [1, 2, 3]]
    ),
    "a level of whole numbers in an order of their own, one of which is missing": pd.MultiIndex(
        levels=[pd.Index([9, 5, 7], dtype="int16"), ["a"]], codes=[[0, -1, 2], [0, 0, 0]]
    ),
    "levels with periods": pd.MultiIndex.from_product([pd.period_range("2024", periods=3, freq="M"), ["a"]]),
    "a level of dates that are not used": pd.MultiIndex.from_product(
        [[dt.date(2024, 1, day) for day in range(1, 5)], ["a"]]
    )[:3],
    "named like a column": pd.Index([1, 2, 3], name="x"),
    "named by a number": pd.Index([1, 2, 3], name=0),
}

EXACT_LABELS: dict[str, Any] = {
    "str": ["a", "b"],
    "int": [3, 1],
    "range": pd.RangeIndex(2),
    "named": pd.Index(["a", "b"], name="columns"),
    "object": pd.Index(["a", "b"], dtype=object),
    "levels": pd.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["u", None]),
    "levels in an order of their own": pd.MultiIndex(levels=[["z", "a"], [2, 1, 3]], codes=[[0, 1], [1, 0]]),
    "int and str": pd.Index([1, "a"], dtype=object),
    "bool": [True, False],
    "float": [0.5, 1.0],
}


@pytest.mark.parametrize("column", EXACT_COLUMNS.values(), ids=EXACT_COLUMNS)
def test_a_column_is_parquet_and_comes_back_exactly(column: pd.Series) -> None:
    frame = pd.DataFrame({"x": column, "n": range(len(column))})

    encoded = check_roundtrip(frame)

    assert encoded.encoding == "parquet", encoded.info
    assert check_roundtrip(column.rename(None)).encoding == "parquet"
    assert check_roundtrip(frame.iloc[:0]).encoding == "parquet"


@pytest.mark.parametrize(("column", "why"), PICKLED_COLUMNS.values(), ids=PICKLED_COLUMNS)
def test_a_column_that_parquet_would_change_is_a_pickle_that_says_why(column: pd.Series, why: str) -> None:
    encoded, back, _ = roundtrip(pd.DataFrame({"x": column}))

    assert encoded.encoding == "pickle"
    assert why in encoded.info["why"]
    assert list(map(type, back["x"])) == list(map(type, column))


@pytest.mark.parametrize("index", EXACT_INDEXES.values(), ids=EXACT_INDEXES)
def test_an_index_comes_back_exactly(index: pd.Index) -> None:
    frame = pd.DataFrame({"x": [1.5, 2.5, 3.5]}, index=index)

    encoded = check_roundtrip(frame)

    assert encoded.encoding == "parquet", encoded.info
    assert check_roundtrip(frame["x"]).encoding == "parquet"
    assert check_roundtrip(frame.iloc[:0]).encoding == "parquet"


@pytest.mark.parametrize("labels", EXACT_LABELS.values(), ids=EXACT_LABELS)
def test_column_labels_come_back_exactly(labels: Any) -> None:
    assert check_roundtrip(pd.DataFrame([[1, 2], [3, 4]], columns=labels)).encoding == "parquet"


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "its column labels are not unique"),
        (pd.DataFrame([[1, 2]], columns=pd.Index([1, "1"], dtype=object)), "not unique as text"),
        (pd.DataFrame([[1, 2]], columns=[7, 7]), "its column labels are not unique"),
        (pd.DataFrame([[1, 2]], columns=[None, "a"]), "its column labels are not plain"),
        (pd.DataFrame([[1, 2]], columns=[("a", 1), "a"]), "its column labels are not plain"),
        (pd.DataFrame([[1, 2]], columns=_days()[:2]), "its column labels are not plain"),
        (Frame({"a": [1]}), "a subclass of pandas.DataFrame"),
        (pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False), "flags"),
        (pd.Series([1], name=("a", "b")), "its name ('a', 'b')"),
        (
            pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2024", periods=2, freq=pd.DateOffset(months=1))),
            "the index has frequency",
        ),
        (
            pd.DataFrame(
                {"a": [1]}, index=pd.MultiIndex(levels=[pd.CategoricalIndex(["b"], ["a", "b"])], codes=[[0]])
            ),
            "level 0 of the index has entries",
        ),
        (
            pd.DataFrame(
                {"a": [1, 2]}, index=pd.MultiIndex(levels=[[2**53 + 1], ["a"]], codes=[[0, -1], [0, 0]])
            ),
            "level 0 of the index has whole numbers",
        ),
        (
            pd.DataFrame({"a": [1]}, index=pd.Index([(1, "a")], tupleize_cols=False)),
            "the index holds objects",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_frame_that_parquet_would_change_is_a_pickle_that_says_why(frame: Any, why: str) -> None:
    encoded, back, _ = roundtrip(frame)

    assert encoded.encoding == "pickle"
    assert why in encoded.info["why"]
    assert type(back) is type(frame)
    assert back.equals(frame)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame(index=pd.RangeIndex(4)),
        pd.DataFrame(index=pd.Index(["a", "b"])),
        pd.DataFrame({"a": []}),
        pd.Series(dtype="float64"),
    ],
    ids=["nothing", "rows only", "index only", "no rows", "series"],
)
def test_empty_frames_come_back_exactly(frame: Any) -> None:
    assert check_roundtrip(frame).encoding == "parquet"


def test_attrs_come_back_and_those_that_are_no_json_make_a_pickle() -> None:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs = {"source": "survey", "scale": [1, 2.5, None]}
    assert check_roundtrip(frame).encoding == "parquet"

    frame.attrs = {"shape": (1, 2)}
    encoded = check_roundtrip(frame)
    assert encoded.encoding == "pickle"
    assert "attrs" in encoded.info["why"]


@pytest.mark.parametrize("name", [None, "x", 0, 1.5, True])
def test_the_name_of_a_series_comes_back(name: Any) -> None:
    assert check_roundtrip(pd.Series([1, 2], name=name)).encoding == "parquet"


@pytest.mark.parametrize("rows", [10, 300])
def test_a_loaded_frame_may_be_changed_in_place(rows: int) -> None:
    parts = {name: pd.concat([column] * rows, ignore_index=True) for name, column in EXACT_COLUMNS.items()}
    frame = pd.DataFrame({name: column.iloc[: 2 * rows] for name, column in parts.items()})
    _, back, _ = roundtrip(frame)

    for position in range(frame.shape[1]):
        back.iloc[0, position] = frame.iloc[1, position]
        array = back.iloc[:, position].array
        if not isinstance(array, (pd.arrays.ArrowExtensionArray, pd.arrays.IntervalArray)):
            array[1] = array[0]

    assert back.iloc[0].astype(str).equals(frame.iloc[1].astype(str).rename(0))


def test_categories_keep_their_order_over_row_groups_that_meet_them_differently() -> None:
    rows = 300_000
    codes = np.r_[np.full(rows // 2, 2), np.zeros(rows // 2)].astype("int8")
    values = pd.Categorical.from_codes(codes, categories=["a", "never", "c"])

    assert check_roundtrip(pd.DataFrame({"x": values, "wide": np.zeros(rows)})).encoding == "parquet"


def test_the_schema_and_the_length_of_a_table_stand_in_the_record() -> None:
    encoded, _, _ = roundtrip(pd.DataFrame({"a": [1], "b": ["x"]}))

    assert encoded.info["schema"] == [["a", "int64"], ["b", "large_string"]]
    assert encoded.info["rows"] == 1
    assert encoded.info["producer"] == encoded.type == "pandas.DataFrame"


def test_a_zone_that_has_no_name_to_find_it_again_is_a_pickle() -> None:
    zone = dateutil.tz.gettz("Europe/Berlin")

    encoded, back, _ = roundtrip(pd.DataFrame({"x": _days(tz=zone)}))

    assert encoded.encoding == "pickle"
    assert "column 'x' has dtype datetime64[us, tzfile(" in encoded.info["why"]
    assert type(back["x"].dtype.tz) is type(zone)


def test_long_values_make_small_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_file, "GROUP_BYTES", 16 * 1024 * 1024)
    long = pd.Series([b"x" * 100] * 3 * BLOCK, dtype=object)

    _, _, files = roundtrip(pd.DataFrame({"x": long}))

    assert pq.ParquetFile(files.open()).metadata.num_row_groups == 3
