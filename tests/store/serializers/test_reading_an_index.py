"""What pandas keeps of a read in an index or in an array of times is no change of the frame; a changed index is one."""

from __future__ import annotations

import datetime
import warnings
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from conformance import roundtrip

from daskflow.store.serializers import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

N = 60
DAYS = pd.date_range("2020-01-01", periods=N, freq="D")


class Days(pd.DataFrame):
    @property
    def _constructor(self) -> type[Days]:
        return Days


INDEXES: dict[str, Callable[[], pd.Index]] = {
    "days": lambda: pd.date_range("2020-01-01", periods=N, freq="D"),
    "days without a frequency": lambda: pd.DatetimeIndex(DAYS.to_numpy()),
    "days by the second": lambda: pd.DatetimeIndex(DAYS.to_numpy()).as_unit("s"),
    "days with NaT": lambda: pd.DatetimeIndex([pd.NaT, *DAYS[1:]]),
    "hours of a zone": lambda: pd.date_range("2020-01-01", periods=N, freq="h", tz="Europe/Berlin"),
    "hours of UTC": lambda: pd.date_range("2020-01-01", periods=N, freq="h", tz=datetime.UTC),
    "business days": lambda: pd.bdate_range("2020-01-01", periods=N, name="when"),
    "durations": lambda: pd.timedelta_range("1h", periods=N, freq="h"),
    "durations without a frequency": lambda: pd.TimedeltaIndex(
        pd.timedelta_range("1h", periods=N).to_numpy()
    ),
    "periods": lambda: pd.period_range("2020-01", periods=N, freq="M"),
    "levels with days": lambda: pd.MultiIndex.from_product([["a", "b"], DAYS[: N // 2]], names=["k", "t"]),
    "levels of hours of a zone": lambda: pd.MultiIndex.from_arrays(
        [range(N), pd.date_range("2020-01-01", periods=N, freq="h", tz="UTC")]
    ),
    "categories": lambda: pd.CategoricalIndex(["a", "b", "c"] * (N // 3)),
    "categories of days": lambda: pd.CategoricalIndex(DAYS),
    "intervals": lambda: pd.interval_range(0, N),
    "intervals of days": lambda: pd.interval_range(pd.Timestamp("2020-01-01"), periods=N),
    "range": lambda: pd.RangeIndex(N),
    "numbers": lambda: pd.Index(np.linspace(0, 1, N)),
    "text": lambda: pd.Index([f"k{n}" for n in range(N)]),
    "objects": lambda: pd.Index([n if n % 2 else str(n) for n in range(N)], dtype=object),
    "objects of dates": lambda: pd.Index(DAYS.date, dtype=object),
    "nullable integers": lambda: pd.Index(range(N), dtype="Int64"),
}


def _frame(index: pd.Index) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "x": np.arange(N),
            "day": DAYS.to_numpy(),
            "zone": DAYS.tz_localize("UTC"),
            "cat": pd.Categorical(DAYS),
        },
        index=index,
    )


SHAPES: dict[str, Callable[[pd.Index], Any]] = {
    "rows": _frame,
    "series": lambda index: pd.Series(np.arange(N), index=index),
    "columns": lambda index: pd.DataFrame(np.zeros((3, N)), columns=index),
    "in a dict": lambda index: {"frame": _frame(index)},
    "subclass": lambda index: Days({"x": np.arange(N), "zone": DAYS.tz_localize("UTC")}, index=index),
    "the index itself": lambda index: index,
}


def _index_of(value: Any) -> Any:
    if isinstance(value, dict):
        value = value["frame"]
    if isinstance(value, pd.Index):
        return value
    return value.columns if value.shape[-1] == N and value.ndim == 2 else value.index


def _indexes_within(value: Any) -> list[Any]:
    index = _index_of(value)
    return [index, *(index.levels if isinstance(index, pd.MultiIndex) else [])]


def _of_each(read: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    return lambda value: [read(index) for index in _indexes_within(value)]


def _of_frame(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def apply(value: Any) -> Any:
        frame = value["frame"] if isinstance(value, dict) else value
        return read(pd.Series(0, index=frame) if isinstance(frame, pd.Index) else frame)

    return apply


READS: dict[str, Callable[[Any], Any]] = {
    "a day by its text": _of_frame(lambda f: f.loc["2020-01-02"]),
    "days by their text": _of_frame(lambda f: f.loc["2020-01-02":"2020-01-05"]),
    "days of the columns": _of_frame(lambda f: f.loc[:, "2020-01-02":"2020-01-05"]),
    "a day of a level": _of_frame(lambda f: f.loc[("a", "2020-01-02")]),
    "cross section": _of_frame(lambda f: f.xs("2020-01-02", level="t")),
    "first label": _of_frame(lambda f: f.loc[f.index[0]]),
    "slice of labels": _of_frame(lambda f: f.loc[f.index[3] : f.index[7]]),
    "position": _of_frame(lambda f: f.iloc[3]),
    "print": _of_frame(repr),
    "describe": _of_frame(lambda f: f.describe()),
    "resample": _of_frame(lambda f: f.resample("W").first()),
    "between times": _of_frame(lambda f: f.between_time("03:00", "05:00")),
    "asfreq": _of_frame(lambda f: f.asfreq("12h")),
    "shift": _of_frame(lambda f: f.shift(freq="D")),
    "sort": _of_frame(lambda f: f.sort_index(ascending=False)),
    "group by month": _of_frame(lambda f: f.groupby(f.index.month).first()),
    "group by date": _of_frame(lambda f: f.groupby(f.index.date).first()),
    "group by a level": _of_frame(lambda f: f.groupby(level=0).first()),
    "join": _of_frame(lambda f: pd.concat([f, f], axis=1)),
    "reindex": _of_frame(lambda f: f.reindex(f.index[::2])),
    "rolling": _of_frame(lambda f: f[["x"]].rolling("2D").sum()),
    "copy": _of_frame(lambda f: f.copy()),
    "zone": _of_frame(lambda f: f.tz_localize("UTC").tz_convert("Asia/Tokyo")),
    "dates of a column": _of_frame(lambda f: (f["day"].dt.date, f["zone"].dt.month, f["zone"].dt.floor("h"))),
    "a column as index": _of_frame(lambda f: f.set_index("zone").loc["2020-01-02"]),
    "categories of a column": _of_frame(lambda f: f["cat"].cat.categories.month),
    "month": _of_each(lambda i: i.month),
    "resolution": _of_each(lambda i: i.resolution),
    "inferred frequency": _of_each(lambda i: i.inferred_freq),
    "is unique": _of_each(lambda i: (i.is_unique, i.is_monotonic_increasing, i.hasnans)),
    "place of a label": _of_each(lambda i: i.get_loc(i[3])),
    "places of labels": _of_each(lambda i: i.get_indexer(i[::2])),
    "list": _of_each(lambda i: (list(i), i.tolist(), i.to_numpy())),
    "components": _of_each(lambda i: i.components),
    "ends of intervals": _of_each(lambda i: (i.left, i.right, i.mid, i.is_overlapping)),
    "codes": _of_each(lambda i: (i.codes, i.categories)),
    "union": _of_each(lambda i: i.union(i[:3])),
    "text": _of_each(lambda i: (repr(i), i.astype(str))),
    "freq of its array": _of_each(lambda i: i.array.freq),
    "hash": _of_each(lambda i: pd.util.hash_pandas_object(i)),
}


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_no_read_of_an_index_is_a_change(
    shape: Callable[[pd.Index], Any], index: Callable[[], pd.Index]
) -> None:
    """Reads that a kind of index does not have fail; what they left behind is no change either."""
    made = shape(index())
    for value in (made, roundtrip(made)[1]):
        before, succeeded = fingerprint(value), 0
        for name, read in READS.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    read(value)
                except Exception:
                    continue
            succeeded += 1
            assert fingerprint(value) == before, name
        assert succeeded >= 8


@pytest.mark.parametrize("wrap", [lambda index: _frame(index), lambda index: [index]], ids=["frame", "index"])
def test_each_index_has_a_fingerprint_of_its_own(wrap: Callable[[pd.Index], Any]) -> None:
    others = {
        "other days": lambda: pd.date_range("2020-01-02", periods=N, freq="D"),
        "days of another zone": lambda: pd.date_range("2020-01-01", periods=N, freq="D", tz="UTC"),
        "named days": lambda: DAYS.rename("when"),
        "days named by a number": lambda: DAYS.rename(1),
        "the same moments, one NaT": lambda: pd.DatetimeIndex([*DAYS[:-1], pd.NaT]),
        "other range": lambda: pd.RangeIndex(1, N + 1),
        "numbers of a range": lambda: pd.Index(np.arange(N)),
        "ordered categories": lambda: pd.CategoricalIndex(["a", "b", "c"] * (N // 3), ordered=True),
        "more categories": lambda: pd.CategoricalIndex(["a", "b", "c"] * (N // 3), categories=list("abcd")),
        "periods by the quarter": lambda: pd.period_range("2020-01", periods=N, freq="Q"),
        "intervals closed elsewhere": lambda: pd.interval_range(0, N, closed="left"),
        "levels with other codes": lambda: pd.MultiIndex.from_product(
            [["b", "a"], DAYS[: N // 2]], names=["k", "t"]
        ),
        "levels with other names": lambda: pd.MultiIndex.from_product(
            [["a", "b"], DAYS[: N // 2]], names=["k", "u"]
        ),
    }

    found = {name: fingerprint(wrap(make())) for name, make in (INDEXES | others).items()}

    assert [pair for pair in combinations(found, 2) if found[pair[0]] == found[pair[1]]] == []


def test_a_frequency_is_part_of_an_index() -> None:
    frame = _frame(DAYS.copy())
    before = fingerprint(frame)

    frame.index.freq = None

    assert fingerprint(frame) != before


def test_a_change_of_an_index_is_found_in_a_container_too() -> None:
    value = {"frames": [_frame(DAYS.copy())]}
    before = fingerprint(value)

    value["frames"][0].index = DAYS.shift(1)

    assert fingerprint(value) != before
