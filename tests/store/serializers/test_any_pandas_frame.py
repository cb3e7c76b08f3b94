"""Frames that nobody thought of: of any dtypes, index and labels, each comes back exactly."""

from __future__ import annotations

import decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
from conformance import check_roundtrip, roundtrip
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

MICROSECONDS = st.integers(-(2**55), 2**55)
ELEMENTS: dict[str, SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint8": st.integers(0, 255),
    "float64": st.floats(),
    "float32": st.floats(width=32),
    "str": st.none() | st.text(max_size=5),
    "string": st.none() | st.text(max_size=5),
    "Int64": st.none() | st.integers(-(2**63), 2**63 - 1),
    "boolean": st.none() | st.booleans(),
    "category": st.none() | st.sampled_from(["b", "a", "ü"]),
    "datetime64[us]": MICROSECONDS,
    "datetime64[s]": MICROSECONDS,
    "datetime64[ns, Europe/Berlin]": MICROSECONDS,
    "timedelta64[us]": MICROSECONDS,
    "int64[pyarrow]": st.none() | st.integers(-(2**63), 2**63 - 1),
}
OBJECTS = [
    st.text(st.characters(), max_size=5),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.binary(max_size=5),
    st.dates(),
    st.times(),
    st.decimals(allow_nan=False, places=2),
    st.decimals(allow_nan=False) | st.just(decimal.Decimal("NaN")),
    st.lists(st.integers(), max_size=2),
    st.one_of(st.integers(), st.text(max_size=2)),
]
LABELS = st.text(max_size=4) | st.integers(-5, 5) | st.booleans() | st.none() | st.floats(allow_nan=False)


@st.composite
def columns(draw: DrawFn, rows: int, hashable: bool = False) -> pd.Series:
    if hashable or draw(st.booleans()):
        kind = draw(st.sampled_from(sorted(ELEMENTS)))
        values = draw(st.lists(ELEMENTS[kind], min_size=rows, max_size=rows))
        return pd.Series(values, dtype=kind)
    of = st.none() | draw(st.sampled_from(OBJECTS))
    return pd.Series(draw(st.lists(of, min_size=rows, max_size=rows)), dtype=object)


@st.composite
def frames(draw: DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(0, 4))
    data = draw(st.lists(columns(rows), max_size=4))
    frame = pd.DataFrame(dict(enumerate(data)), index=range(rows))
    labels = draw(st.lists(LABELS, min_size=len(data), max_size=len(data)))
    frame.columns = pd.Index(labels, name=draw(LABELS), dtype=draw(st.sampled_from([None, object])))
    if draw(st.booleans()):
        frame.index = pd.Index(draw(columns(rows)), name=draw(LABELS))
    elif draw(st.booleans()):
        frame.index = pd.MultiIndex.from_arrays(
            [draw(columns(rows, True)), range(rows)], names=[draw(LABELS), "n"]
        )
        if draw(st.booleans()):  # entries of the levels that no row has
            frame = frame.iloc[draw(st.integers(0, rows)) :]
    frame.attrs = draw(st.dictionaries(st.text(max_size=2), LABELS, max_size=2))
    return frame


@given(frames())
@settings(max_examples=150, deadline=None)
def test_any_frame_comes_back_exactly(frame: pd.DataFrame) -> None:
    encoded = check_roundtrip(frame)

    assert encoded.encoding == "parquet" or encoded.info["why"]


@given(st.integers(1, 4).flatmap(columns), LABELS)
@settings(max_examples=100, deadline=None)
def test_any_series_comes_back_exactly(series: pd.Series, name: Any) -> None:
    check_roundtrip(series.rename(name))


@given(frames())
@settings(max_examples=60, deadline=None)
def test_slices_of_a_frame_have_the_identity_of_their_copies(frame: pd.DataFrame) -> None:
    for piece in (frame.iloc[1:], frame.iloc[::2], frame.iloc[:, 1:]):
        encoded = roundtrip(piece)[0]
        if encoded.encoding == "parquet":
            assert roundtrip(piece.copy())[0].hash == encoded.hash


@given(frames(), frames())
@settings(max_examples=60, deadline=None)
def test_frames_of_one_identity_are_the_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    if roundtrip(one)[0].hash == roundtrip(other)[0].hash:
        pd.testing.assert_frame_equal(one, other, check_freq=False)
