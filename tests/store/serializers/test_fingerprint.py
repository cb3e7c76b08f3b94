"""Whether a value was changed in place, told within one process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from conformance import roundtrip

from daskflow.store.serializers import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable


class Model:
    def __init__(self) -> None:
        self.weights = {"a": np.zeros(3)}


class SubFrame(pd.DataFrame):
    @property
    def _constructor(self) -> type[SubFrame]:
        return SubFrame


def _frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "i": np.arange(300_000),
            "f": np.linspace(0, 1, 300_000),
            "s": ["a"] * 300_000,
            "o": pd.Series([[1]] * 300_000, dtype=object),
            "c": pd.Categorical(["x", "y"] * 150_000),
            "n": pd.array([1, None] * 150_000, dtype="Int64"),
            "t": pd.date_range("2024", periods=300_000, freq="s", tz="UTC"),
            "p": pd.arrays.SparseArray(np.zeros(300_000)),
            "z": pd.array([1.5] * 300_000, dtype="float64[pyarrow]"),
        }
    )


def _set(column: str, value: Any) -> Callable[[pd.DataFrame], None]:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[299_999, column] = value

    return change


def _rename_index(frame: pd.DataFrame) -> None:
    frame.index.name = "x"


def _add_row(frame: pd.DataFrame) -> None:
    frame.loc[300_000] = frame.loc[299_999]


CHANGES_OF_A_FRAME: dict[str, Callable[[Any], Any]] = {
    "int": _set("i", -1),
    "float": _set("f", 0.5),
    "negative zero": lambda frame: frame.__setitem__("f", frame["f"].where(frame["f"] > 0, -0.0)),
    "str": _set("s", "b"),
    "missing str": _set("s", None),
    "object": lambda frame: frame["o"].iloc[0].append(2),
    "category": _set("c", "x"),
    "missing category": _set("c", None),
    "nullable int": _set("n", 7),
    "time": _set("t", pd.Timestamp("2030", tz="UTC")),
    "Arrow": _set("z", 2.5),
    "sparse": lambda frame: frame.__setitem__("p", pd.arrays.SparseArray(np.ones(300_000))),
    "categories": lambda frame: frame.__setitem__("c", frame["c"].cat.rename_categories(["x", "z"])),
    "order of categories": lambda frame: frame.__setitem__("c", frame["c"].cat.as_ordered()),
    "dtype": lambda frame: frame.__setitem__("i", frame["i"].astype("uint64")),
    "column": lambda frame: frame.__setitem__("new", 1),
    "name of a column": lambda frame: frame.__setattr__("columns", ["j", *frame.columns[1:]]),
    "name of the columns": lambda frame: setattr(frame.columns, "name", "x"),
    "order of columns": lambda frame: frame.insert(1, "i", frame.pop("i")),
    "index": lambda frame: frame.__setattr__("index", frame.index + 1),
    "name of the index": _rename_index,
    "rows": _add_row,
    "attrs": lambda frame: frame.attrs.update(source="x"),
    "nested attrs": lambda frame: frame.attrs["list"].append(1),
    "flags": lambda frame: setattr(frame.flags, "allows_duplicate_labels", False),
}


@pytest.mark.parametrize("change", CHANGES_OF_A_FRAME.values(), ids=CHANGES_OF_A_FRAME)
def test_any_change_of_a_frame_is_found(change: Callable[[Any], Any]) -> None:
    frame = _frame()
    frame.attrs["list"] = []
    before = fingerprint(frame)
    assert before is not None
    assert fingerprint(frame) == before

    change(frame)

    assert fingerprint(frame) != before


READS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "aggregate": lambda frame: frame[["i", "f"]].sum(),
    "describe": lambda frame: frame.describe(),
    "values": lambda frame: frame.values,
    "copy": lambda frame: frame.copy(),
    "sort": lambda frame: frame.sort_values("f"),
    "group": lambda frame: frame.groupby("s")["i"].mean(),
    "look up": lambda frame: (frame.loc[7], frame["s"].iloc[3], frame.index.is_unique),
    "print": repr,
    "merge": lambda frame: frame.head(10).merge(frame.head(10), on="i"),
    "consolidate": lambda frame: frame._consolidate_inplace(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_reading_a_frame_is_no_change(read: Callable[[Any], Any]) -> None:
    frame = _frame().head(1_000)
    for i in range(5):
        frame[f"added{i}"] = float(i)
    _, loaded, _ = roundtrip(frame)
    prints = fingerprint(frame), fingerprint(loaded)

    read(frame)
    read(loaded)

    assert (fingerprint(frame), fingerprint(loaded)) == prints


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "list": (lambda: [1, 2], lambda v: v.append(3)),
    "int to equal float": (lambda: [1], lambda v: v.__setitem__(0, 1.0)),
    "int to equal bool": (lambda: [1], lambda v: v.__setitem__(0, True)),
    "nested list": (lambda: {"a": [[1]]}, lambda v: v["a"][0].append(2)),
    "list in a tuple": (lambda: (1, [2]), lambda v: v[1].append(3)),
    "order of a dict": (lambda: {"a": 1, "b": 2}, lambda v: v.__setitem__("a", v.pop("a"))),
    "set": (lambda: {1, 2}, lambda v: v.add(3)),
    "bytearray": (lambda: bytearray(5), lambda v: v.__setitem__(0, 1)),
    "array": (lambda: np.zeros(10), lambda v: v.__setitem__(3, 1)),
    "large array": (lambda: np.zeros(10**6), lambda v: v.__setitem__(-1, 1)),
    "array with gaps": (lambda: np.zeros((100, 100))[:, ::3], lambda v: v.__setitem__((99, 33), 1)),
    "array of objects": (lambda: np.array([[1], None], dtype=object), lambda v: v[0].append(2)),
    "shape": (lambda: np.zeros((2, 3)), lambda v: v.__setattr__("shape", (3, 2))),
    "object": (Model, lambda v: v.weights["a"].__setitem__(0, 1)),
    "frame in a dict": (
        lambda: {"x": pd.DataFrame({"a": [1, 2]})},
        lambda v: v["x"].__setitem__("a", [1, 3]),
    ),
    "subclass of a frame": (lambda: SubFrame({"a": [1, 2]}), lambda v: v.__setitem__("a", [1, 3])),
    "series": (lambda: pd.Series([1, 2]), lambda v: v.__setitem__(0, 3)),
    "name of a series": (lambda: pd.Series([1, 2]), lambda v: v.__setattr__("name", "x")),
    "polars frame": (lambda: pl.DataFrame({"a": [1, 2]}), lambda v: v.__setitem__((0, "a"), 5)),
    "polars column": (lambda: pl.DataFrame({"a": [1]}), lambda v: v.insert_column(0, pl.Series("b", [1]))),
    "polars name": (lambda: pl.DataFrame({"a": [1]}), lambda v: v.__setattr__("columns", ["b"])),
    "polars series": (lambda: pl.Series("a", [1, 2]), lambda v: v.__setitem__(0, 5)),
    "polars Int128": (lambda: pl.Series("a", [1], dtype=pl.Int128).to_frame(), lambda v: v.extend(v.clone())),
}


@pytest.mark.parametrize(("make", "change"), CHANGES.values(), ids=CHANGES)
def test_a_change_in_place_is_found(make: Callable[[], Any], change: Callable[[Any], Any]) -> None:
    value = make()
    before = fingerprint(value)
    assert before is not None
    assert fingerprint(value) == before

    change(value)

    assert fingerprint(value) != before


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1,
        1.5,
        1j,
        "x",
        b"x",
        range(3),
        ...,
        (),
        (1, ("a", None)),
        frozenset({1}),
        pa.table({"a": [1]}),
    ],
    ids=repr,
)
def test_what_can_not_change_needs_no_fingerprint(value: Any) -> None:
    assert fingerprint(value) is None


class Hostile:
    def __reduce__(self) -> Any:
        raise ZeroDivisionError


def _deep(depth: int) -> tuple[Any, ...]:
    value: tuple[Any, ...] = ()
    for _ in range(depth):
        value = (value,)
    return value


def _cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        Hostile(),
        threading.Lock(),
        _deep(100_000),
        (i for i in ()),
        pl.DataFrame({"a": [object()]}),
        pd.DataFrame({"a": pd.Series([threading.Lock()], dtype=object)}),
        [Hostile()],
    ],
    ids=["hostile", "lock", "deep", "generator", "polars objects", "frame of locks", "list"],
)
def test_where_it_can_not_tell_each_answer_is_a_new_one(value: Any) -> None:
    one, other = fingerprint(value), fingerprint(value)

    assert one is not None
    assert other is not None
    assert one != other


def test_a_list_that_contains_itself_has_a_fingerprint() -> None:
    value = _cycle()

    assert fingerprint(value) == fingerprint(value)


def test_a_flow_is_no_reason_to_fail() -> None:
    flow = type("Inputs", (), {"__daskflow_flow__": True})()

    assert fingerprint([flow]) != fingerprint([flow])


def test_a_block_of_a_frame_is_all_that_is_copied() -> None:
    import tracemalloc

    frame = pd.DataFrame({"a": np.zeros(4_000_000), "b": np.arange(4_000_000)})
    tracemalloc.start()
    try:
        fingerprint(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2_000_000
