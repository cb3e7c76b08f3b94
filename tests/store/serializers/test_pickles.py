"""What is pickled: exactness, buffers beside the stream, memory, and what is said if it fails."""

from __future__ import annotations

import base64
import collections
import datetime as dt
import enum
import fractions
import functools
import io
import operator
import pathlib
import pickle
import threading
import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conformance import Files, check_roundtrip, roundtrip

from daskflow.errors import DataException, DataMissing, UnpicklableArtifactException
from daskflow.flow.spec import FlowSpec
from daskflow.store.serializers import decode, encode

MIB = 1024 * 1024
LARGE = 32 * MIB


class Color(enum.Enum):
    RED = 1


@dataclass
class Point:
    x: int
    y: Any = None


class Node:
    """A linked list, which pickle walks by recursion."""

    def __init__(self, following: Node | None) -> None:
        self.following = following


class Picky:
    """Fails in code of its own while it is pickled."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> Any:
        raise self._error


def _read_only() -> Any:
    values = np.arange(5)
    values.flags.writeable = False
    return values


EXACT: dict[str, Any] = {
    "complex": 1 + 2j,
    "bytearray": bytearray(b"abc"),
    "range": range(3),
    "Ellipsis": ...,
    "type": int,
    "function": operator.add,
    "second of two equal times": dt.datetime(2024, 3, 31, 2, 30, fold=1, tzinfo=dt.UTC),
    "Fraction": fractions.Fraction(1, 3),
    "path": pathlib.PurePosixPath("a/b"),
    "deque": collections.deque([1, 2], maxlen=3),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "Counter": collections.Counter("aab"),
    "Enum": Color.RED,
    "dataclass": Point(1, [Point(2)]),
    "array": np.arange(6.0).reshape(2, 3),
    "Fortran array": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "array with gaps": np.arange(20)[::3],
    "read-only array": _read_only(),
    "array of structs": np.array([(1, "a")], dtype=[("n", "i4"), ("s", "U3")]),
    "array of objects": np.array([1, "a", None], dtype=object),
    "scalar array": np.array(5),
    "big-endian array": np.arange(3, dtype=">i4"),
    "NA": pd.NA,
    "list of frames": [pd.DataFrame({"a": [1, 2]}), pd.Series([1.5], name="s")],
    "large array": np.arange(MIB),
    "large Fortran array": np.asfortranarray(np.arange(MIB).reshape(1024, 1024)),
    "large array with gaps": np.arange(2 * MIB)[::2],
    "two large arrays": {"a": np.ones(MIB + 1, dtype=np.uint8), "b": np.zeros(MIB // 8 + 1)},
    "large bytes": bytes(2 * MIB),
    "large bytearray": bytearray(2 * MIB),
    "large set": set(range(10_000)),
}


@pytest.mark.parametrize("value", EXACT.values(), ids=EXACT)
def test_a_pickled_value_comes_back_exactly(value: Any) -> None:
    assert check_roundtrip(value).encoding == "pickle"


def test_a_small_pickle_stands_in_the_record_as_base64() -> None:
    encoded, _, files = roundtrip(Point(1))

    assert files.created == []
    assert encoded.size == len(encoded.inline)
    assert pickle.loads(base64.b64decode(encoded.inline)) == Point(1)


@pytest.mark.parametrize("value", [set(range(10_000)), {"a": np.arange(50_000)}], ids=["set", "small array"])
def test_a_file_without_large_buffers_is_an_ordinary_pickle(value: Any) -> None:
    encoded, _, files = roundtrip(value)

    assert encoded.file == "pickle"
    assert set(encoded.info["parts"]) == {"pickle"}
    assert repr(pickle.load(files.open())) == repr(value)


def test_large_buffers_lie_beside_the_stream_each_once_and_aligned() -> None:
    shared = np.arange(MIB // 8)
    small = np.arange(10)
    encoded, back, files = roundtrip({"a": shared, "again": shared, "small": small})

    (place,) = encoded.info["parts"]["buffers"]
    assert place[0] % 64 == 0
    assert place[1] == MIB
    assert files.file.getvalue()[place[0] :] == shared.tobytes()
    assert encoded.info["parts"]["pickle"] < 2_000
    assert back["a"] is back["again"]


def test_a_large_buffer_makes_a_file_whatever_the_limit() -> None:
    encoded, back, _ = roundtrip(np.arange(MIB), inline_limit=100 * MIB)

    assert encoded.file == "pickle"
    assert back[-1] == MIB - 1


@pytest.mark.parametrize("size", [10, 100_000, 2 * MIB], ids=["inline", "in the stream", "beside it"])
def test_a_loaded_array_may_be_changed_in_place(size: int) -> None:
    _, back, _ = roundtrip(np.zeros(size, dtype=np.uint8))

    back[:] = 7

    assert back.sum() == 7 * size


def test_a_read_only_array_stays_read_only() -> None:
    value = np.zeros(2 * MIB, dtype=np.uint8)
    value.flags.writeable = False

    assert not roundtrip(value)[1].flags.writeable


def _large_values() -> dict[str, Any]:
    return {
        "array": np.ones(LARGE // 8),
        "bytes": bytes(LARGE),
        "array in an object": Point(1, {"deep": [np.ones(LARGE // 8)]}),
        "pickled frame": pd.DataFrame({"c": np.ones(LARGE // 16, dtype=complex)}),
    }


@pytest.mark.parametrize("name", _large_values())
def test_there_are_never_two_copies_of_a_large_buffer(name: str, tmp_path: pathlib.Path) -> None:
    value = _large_values()[name]
    path = tmp_path / "value"
    tracemalloc.start()
    try:
        with path.open("wb") as file:
            encoded = encode(value, lambda _: file)
        _, peak_of_writing = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        back = decode(encoded.encoding, encoded.info, None, lambda: path.open("rb"))
        _, peak_of_reading = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert encoded.encoding == "pickle"
    assert type(back) is type(value)
    assert peak_of_writing < LARGE // 8
    assert LARGE // 2 < peak_of_reading - before < LARGE + LARGE // 8


class Flow(FlowSpec):
    """Never run."""


@pytest.mark.parametrize(
    "wrap", [lambda f: f, lambda f: [f], lambda f: Point(1, f)], ids=["flow", "list", "attribute"]
)
def test_a_flow_can_not_be_stored(wrap: Any) -> None:
    flow = object.__new__(Flow)

    with pytest.raises(
        UnpicklableArtifactException, match=r"Flows can't be serialized\. Maybe you tried to assign"
    ):
        roundtrip(wrap(flow))


def test_what_calls_itself_a_flow_can_not_be_stored() -> None:
    inputs = type("Inputs", (), {"__daskflow_flow__": True})()

    with pytest.raises(UnpicklableArtifactException, match=r"\*self\* or one of the \*inputs\*"):
        roundtrip(inputs)


@pytest.mark.parametrize(
    ("value", "message", "cause"),
    [
        (
            threading.Lock(),
            "type _thread.lock can't be pickled: TypeError: cannot pickle '_thread.lock'",
            TypeError,
        ),
        ([threading.Lock()], "type list can't be pickled", TypeError),
        ((i for i in ()), "type generator can't be pickled", TypeError),
        (Picky(ZeroDivisionError("oh")), "Picky can't be pickled: ZeroDivisionError: oh", ZeroDivisionError),
        (functools.reduce(lambda node, _: Node(node), range(50_000), None), "nested too deeply", Exception),
    ],
    ids=["lock", "lock in a list", "generator", "own error", "linked list"],
)
def test_what_can_not_be_pickled_says_why(value: Any, message: str, cause: type[Exception]) -> None:
    with pytest.raises(UnpicklableArtifactException) as caught:
        roundtrip(value)

    assert message in str(caught.value)
    assert isinstance(caught.value.__cause__, cause)


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()], ids=["memory", "interrupt"])
def test_what_is_no_fault_of_the_value_passes_through(error: BaseException) -> None:
    with pytest.raises(type(error)):
        roundtrip(Picky(error))


def test_lambdas_and_closures_are_artifacts() -> None:
    factor = 3
    _, back, _ = roundtrip(
        {"times": lambda x: x * factor, "partial": functools.partial(lambda a, b: a - b, 5)}
    )

    assert back["times"](4) == 12
    assert back["partial"](2) == 3


@pytest.mark.parametrize("value", [set(range(10_000)), np.arange(MIB)], ids=["stream", "buffers"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_file_that_was_cut_is_reported_as_damaged(value: Any, keep: float) -> None:
    encoded, _, files = roundtrip(value)
    data = files.file.getvalue()

    with pytest.raises(DataMissing, match=r"damaged|too early"):
        decode(encoded.encoding, encoded.info, None, lambda: io.BytesIO(data[: int(len(data) * keep)]))


@pytest.mark.parametrize("name", [b"no_such_module\nThing\n", b"collections\nNoSuchThing\n"])
def test_a_type_that_is_not_installed_is_named(name: bytes) -> None:
    inline = base64.b64encode(b"c" + name + b".").decode()

    with pytest.raises(DataException, match="NoSuchThing|no_such_module") as caught:
        decode("pickle", {"parts": {"pickle": 1}}, inline, Files().open)

    assert "It needs the module that defines its type" in str(caught.value)


class RemoteFile:
    """A file that has no ``readinto``, and gives less than one asks for."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.readline = self._file.readline
        self.seek = self._file.seek

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, 65_536))

    def __enter__(self) -> RemoteFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def test_buffers_are_read_from_files_that_give_a_little_at_a_time() -> None:
    value = np.arange(MIB)
    encoded, _, files = roundtrip(value)

    back = decode(encoded.encoding, encoded.info, None, lambda: RemoteFile(files.file.getvalue()))

    assert np.array_equal(back, value)
