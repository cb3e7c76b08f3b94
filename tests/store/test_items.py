"""The items of a foreach: each comes back alone, exactly."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskflow.errors import DataException, DataMissing, StoreError, UnpicklableArtifactException
from daskflow.pathspec import TaskName
from daskflow.store import items as module
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.items import INLINE_BYTES, Items, save_items
from daskflow.store.records import TaskRecord, decode, encode, timestamp
from daskflow.store.runs import RunStore

if TYPE_CHECKING:
    from daskflow.store.storage import LocalStorage

PATH = "F/1/start/0/0.a/_foreach.pack"


@dataclass(frozen=True)
class Point:
    x: int
    y: float


class Memory:
    """A storage of one file that counts what is read of it."""

    url = "memory"

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.read_bytes = 0

    def locate(self, path: str) -> str:
        return f"/memory/{path}"

    def open(self, path: str) -> BinaryIO:
        counting = self

        class Reader(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
                found = super().read(size)
                counting.read_bytes += len(found)
                return found

        return Reader(self.data)


def saved(items: list[Any]) -> tuple[dict[str, Any], Memory]:
    """What is in the record, after it was written and read, and the file."""
    file = io.BytesIO()
    made: list[str] = []

    def create(suffix: str) -> BinaryIO:
        made.append(suffix)
        return file

    stored = save_items(items, create)
    if made:
        assert made == ["pack"]
        stored["path"] = PATH
    now = timestamp()
    record = TaskRecord("F", "1", "start", "0", 0, "0.a", "ok", now, now, foreach=stored)
    again = TaskRecord.of_json(decode(encode(record.to_json()), "task.json")).foreach
    assert again is not None
    return again, Memory(file.getvalue())


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, float):
        assert one == other or (math.isnan(one) and math.isnan(other))
        assert math.copysign(1, one) == math.copysign(1, other)
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif type(one).__module__ in ("numpy", "pandas"):
        assert one.equals(other) if hasattr(one, "equals") else (one == other).all()
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None)
    else:
        assert one == other


any_text = st.text(st.characters(exclude_categories=()), max_size=10)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | any_text
    | st.binary(max_size=5)
    | st.complex_numbers(allow_nan=False)
)
nested = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(any_text | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)
points = st.builds(Point, st.integers(), st.floats(allow_nan=False))


@settings(deadline=None)
@given(st.lists(nested | points, min_size=1, max_size=12))
def test_any_item_comes_back_alone_and_exactly(items: list[Any]):
    stored, storage = saved(items)

    for index, item in enumerate(items):
        assert_same(Items(storage).load(stored, index), item)


@settings(deadline=None, max_examples=30)
@given(st.lists(scalars, min_size=1, max_size=12))
def test_many_items_come_back_as_few_do(some: list[Any]):
    items = some * (INLINE_BYTES // len(some) + 1)

    stored, storage = saved(items)

    assert "items" not in stored
    for index in (0, len(items) // 2, len(items) - 1):
        assert_same(Items(storage).load(stored, index), items[index])


def test_arrays_and_frames_come_back_exactly():
    items = [
        numpy.arange(5, dtype="int16"),
        numpy.float32(0.5),
        pandas.DataFrame({"a": [1, 2], "b": ["x", None]}),
        pandas.Series([0.5], name="s"),
        7,
        numpy.zeros(300_000),
        "last",
    ]

    stored, storage = saved(items)

    for index, item in enumerate(items):
        assert_same(Items(storage).load(stored, index), item)


def test_each_load_gives_a_value_of_its_own():
    for items in ([{"a": [1]}], [{"a": [1]}] * 2000):
        stored, storage = saved(items)
        Items(storage).load(stored, 0)["a"].append(2)

        assert Items(storage).load(stored, 0) == {"a": [1]}


@pytest.mark.parametrize(
    "items",
    [
        [1, 2, 3],
        ["a", "ü"],
        [None],
        [True, False],
        [0.5, -0.0],
        [{"lr": 0.1, "layers": [8, 8]}, {"lr": 1}],
        [""],
        list(range(1000)),
    ],
    ids=lambda items: repr(items)[:30],
)
def test_few_and_small_items_stand_in_the_record(items: list[Any]):
    stored, storage = saved(items)

    assert stored == {"size": len(items), "items": items}
    assert storage.data == b""


@pytest.mark.parametrize(
    "items",
    [
        [(1, 2)],
        [float("nan")],
        ["\ud800"],
        [1 << 20_000],
        [b"x"],
        ["x" * INLINE_BYTES],
        [{1: 2}],
        [Point(1, 2.0)],
    ],
    ids=lambda items: repr(items)[:20] if items[0] != 1 << 20_000 else "large int",
)
def test_items_that_json_does_not_hold_or_that_are_large_are_in_a_pack(items: list[Any]):
    stored, _ = saved(items)

    assert stored == {"size": 1, "path": PATH}


def test_plain_items_of_a_pack_are_text_that_a_person_can_read():
    _, storage = saved([*range(5000), "last"])

    assert storage.data.startswith(b"0123456789101112")
    assert b'4999"last"' in storage.data


def test_loading_plain_items_unpickles_nothing(monkeypatch: pytest.MonkeyPatch):
    stored, storage = saved([{"a": n, "b": [n, "x"]} for n in range(5000)])
    monkeypatch.setattr(module, "decode", lambda *_args: pytest.fail("a serializer was asked"))

    assert Items(storage).load(stored, 4321) == {"a": 4321, "b": [4321, "x"]}


@pytest.mark.parametrize("index", [0, 1, 2, 4999])
def test_one_items_load_reads_only_its_own_bytes(index: int):
    items = ["x" * 10_000, *[(n, "y" * 100) for n in range(4998)], "end"]
    stored, storage = saved(items)
    footer = 16
    start, end = struct.unpack_from("<QQ", storage.data, len(storage.data) - footer - 8 * (5001 - index))

    assert Items(storage).load(stored, index) == items[index]

    assert storage.read_bytes == end - start + 16 + footer
    assert end - start < 12_000


@pytest.mark.parametrize("index", [-1, 3, 10**9])
@pytest.mark.parametrize("items", [[1, 2, 3], [(1,), (2,), (3,)]], ids=["in the record", "in a pack"])
def test_there_is_no_item_outside_of_the_foreach(items: list[Any], index: int):
    stored, storage = saved(items)

    with pytest.raises(IndexError, match=f"has 3 items; there is none at {index}"):
        Items(storage).load(stored, index)


def test_an_item_that_can_not_be_stored_is_named_by_its_index():
    with pytest.raises(UnpicklableArtifactException, match="item 2: .*generator"):
        save_items([1, 2, (n for n in ())], lambda suffix: io.BytesIO())


# Damage


@pytest.mark.parametrize(
    "item",
    [5, "text", {"a": [1]}, (1, 2), Point(1, 2.0), b"\0\1"],
    ids=["int", "str", "dict", "tuple", "object", "bytes"],
)
def test_a_pack_that_ends_too_early_anywhere_is_missing_data_that_names_the_file(item: Any):
    stored, whole = saved([item, float("nan"), item])

    for length in range(len(whole.data)):
        for index in (0, 2):
            with pytest.raises(DataMissing, match=f"/memory/{PATH}"):
                Items(Memory(whole.data[:length])).load(stored, index)


def test_bytes_that_are_no_items_are_missing_data_that_names_the_file():
    stored, whole = saved([(1, 2), "text", Point(1, 2.0)])
    table = len(whole.data) - 16 - 8 * 4

    for index, junk in [
        (0, b"\xff" * table),
        (1, b"{" * table),
        (2, b"\0" * table),
        (0, b"\0\5\0\0\0[1,2]".ljust(table)),
    ]:
        damaged = Memory(junk + whole.data[table:])
        with pytest.raises(DataMissing, match=PATH):
            Items(damaged).load(stored, index)


def test_a_pack_of_one_digit_items_that_lost_one_number_at_its_end_is_damaged():
    stored, whole = saved([5] * 5000)  # as many bytes as items: any number at the end may look right

    with pytest.raises(DataMissing):
        Items(Memory(whole.data[:-8])).load(stored, 1)


@pytest.mark.parametrize(("start", "end"), [(2, 1), (1, 1), (0, 2**63), (2**40, 2**41)])
def test_an_item_that_is_said_to_be_where_it_can_not_be_is_damaged(start: int, end: int):
    stored, whole = saved([(1,), 2])
    data = bytearray(whole.data)
    struct.pack_into("<QQ", data, len(data) - 16 - 8 * 2, start, end)

    with pytest.raises(DataMissing, match=f"item 1 is said to be at {start:,} to {end:,}"):
        Items(Memory(bytes(data))).load(stored, 1)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10**6), st.integers(1, 255), st.integers(0, 2))
def test_one_changed_byte_never_ends_in_an_unknown_error(place: int, flip: int, index: int):
    stored, whole = saved([(1, 2), "text", {"a": 1.5}, b"x"])
    data = bytearray(whole.data)
    data[place % len(data)] ^= flip

    with contextlib.suppress(DataMissing, DataException):
        Items(Memory(bytes(data))).load(stored, index)


def test_a_pack_that_is_gone_is_missing_data_that_names_the_file(storage: LocalStorage):
    with pytest.raises(DataMissing, match=f"{storage.locate(PATH)}, are missing"):
        Items(storage).load({"size": 1, "path": PATH}, 0)


def test_a_pack_that_can_not_be_opened_is_an_error_of_the_store(storage: LocalStorage):
    storage.create(f"{PATH}/a-folder-there", b"")

    with pytest.raises(StoreError, match="Is a directory"):
        Items(storage).load({"size": 1, "path": PATH}, 0)


# With a store


def test_items_of_a_split_lie_with_its_execution(storage: LocalStorage):
    writer = ArtifactWriter(RunStore(storage, "F", "1"), TaskName("start", "0"), "0.a")

    few = writer.save_items([1, 2])
    many = writer.save_items([(n, str(n)) for n in range(100)])

    assert few == {"size": 2, "items": [1, 2]}
    assert many == {"size": 100, "path": PATH}
    assert storage.names("F/1/start/0/0.a") == ["_foreach.pack"]
    assert Items(storage).load(json.loads(json.dumps(many)), 42) == (42, "42")


def test_items_that_can_not_be_stored_leave_no_file(storage: LocalStorage):
    writer = ArtifactWriter(RunStore(storage, "F", "1"), TaskName("start", "0"), "0.a")

    with pytest.raises(UnpicklableArtifactException):
        writer.save_items([(1,), (n for n in ())])

    assert [path for path in Path(storage.url).rglob("*") if path.is_file()] == []


@given(
    st.lists(st.one_of(st.text(max_size=30), st.integers(), st.binary(max_size=5)), min_size=1),
    st.integers(2, 40),
)
def test_items_can_be_read_as_texts_that_are_cut_and_nothing_is_unpickled(
    items: list[Any], longest: int
) -> None:
    padded = [*items, "x" * INLINE_BYTES]
    stored, memory = saved(padded)

    texts = Items(memory).texts(stored, 0, len(padded), longest)  # type: ignore[arg-type]

    assert texts[-1] == "x" * (longest - 1) + "…"
    for item, text in zip(items, texts, strict=False):
        whole = str(item)
        assert text == whole or text == f"{whole[: longest - 1]}…"


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("<é>" * 5_000_000, "<é>" * 66 + "<…"),
        ("a\ud800", "a\ud800"),
        ({"k": list(range(100_000))}, "{" + f'"k": {list(range(54))}'[:-1]),
        (list(range(100_000)), str(list(range(60)))[:-1]),
        ((1, "a"), "(1, 'a')"),
        (b"ab", "b'ab'"),
        (float("inf"), "inf"),
        (numpy.int64(5), "5"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (bytes(100_000), "(bytes)"),
        ([object(), "x" * 20_000], "(list)"),
        (pandas.DataFrame({f"column {number}": [1] for number in range(500)}), "(pandas.DataFrame)"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_large_text_is_shown_cut_plain_values_as_python_has_them_and_of_others_the_type(
    item: Any, text: str
) -> None:
    stored, memory = saved([item, "x" * INLINE_BYTES])
    memory.read_bytes = 0

    shown = Items(memory).texts(stored, 0, 2, 200)[0]  # type: ignore[arg-type]

    assert shown == text or (shown.endswith("…") and len(shown) == 200 and shown.startswith(text[:150]))


def test_items_of_stores_that_are_older_are_shown_by_how_they_are_kept() -> None:
    stored, whole = saved([b"ab" * 9, "x" * INLINE_BYTES])
    older = Memory(whole.data.replace(b'"shown"', b'"other"'))

    assert Items(older).texts(stored, 0, 1, 200) == ["(pickle)"]  # type: ignore[arg-type]


def test_of_an_item_of_ten_megabytes_no_more_is_read_than_is_shown() -> None:
    stored, memory = saved(["x" * 16_000] * 700)
    memory.read_bytes = 0

    (text,) = Items(memory).texts(stored, 350, 1, 50)  # type: ignore[arg-type]
    everything = Items(memory).texts(stored, 0, 700, 50)  # type: ignore[arg-type]

    assert text == "x" * 49 + "…"
    assert everything == [text] * 700
    assert memory.read_bytes < 1_000_000
