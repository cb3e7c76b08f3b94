"""Values of everyday types that JSON has not: in the record, exact in type, read without a pickle."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import io
import json
import math
import pickle
import re
import struct
import subprocess
import sys
import zoneinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from conformance import roundtrip
from hypothesis import given, settings
from hypothesis import strategies as st

from daskflow.errors import DataException, DataMissing
from daskflow.store.serializers import decode, encode
from daskflow.store.serializers.typed_json import NUMPY

ROOT = Path(__file__).parents[3]
TOKYO = zoneinfo.ZoneInfo("Asia/Tokyo")
NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 5)

FORMS: dict[str, tuple[Any, Any]] = {
    "nan": (math.nan, {"$float": "nan"}),
    "negative nan": (-math.nan, {"$float": "-nan"}),
    "infinity": ([math.inf, -math.inf], [{"$float": "inf"}, {"$float": "-inf"}]),
    "negative zero": ((-0.0,), {"$tuple": [-0.0]}),
    "tuple": ((1, "a", (None,)), {"$tuple": [1, "a", {"$tuple": [None]}]}),
    "empty tuple": ((), {"$tuple": []}),
    "set of numbers": ({10, 9, 1.5}, {"$set": [1.5, 9, 10]}),
    "set of names": ({"b", "aa"}, {"$set": ["aa", "b"]}),
    "mixed set": ({"b", 2, None, (1,)}, {"$set": [2, "b", None, {"$tuple": [1]}]}),
    "frozenset": (frozenset({True}), {"$frozenset": [True]}),
    "keys that are numbers": ({2: "two", 1: "one"}, {"$dict": [[2, "two"], [1, "one"]]}),
    "keys that are pairs": ({(1, "a"): [2]}, {"$dict": [[{"$tuple": [1, "a"]}, [2]]]}),
    "a key like a tag": ({"$tuple": (1,)}, {"$dict": [["$tuple", {"$tuple": [1]}]]}),
    "no key like a tag": ({"$a": 1, "b": (2,)}, {"$a": 1, "b": {"$tuple": [2]}}),
    "float64": (np.float64(0.5), {"$numpy.float64": 0.5}),
    "float64 that is not finite": (np.float64("nan"), {"$numpy.float64": "nan"}),
    "float32": (np.float32(0.1), {"$numpy.float32": 0.10000000149011612}),
    "int64": (np.int64(-7), {"$numpy.int64": -7}),
    "uint8": (np.uint8(255), {"$numpy.uint8": 255}),
    "bool": (np.True_, {"$numpy.bool": True}),
    "text of an array": (np.str_("ä"), {"$numpy.str_": "ä"}),
    "empty text of an array": (np.array([""])[0], {"$numpy.str_": ""}),
    "metrics": (
        {"auc": np.float64(0.75), "n": 3, "by": {"a": [np.int64(1)]}},
        {"auc": {"$numpy.float64": 0.75}, "n": 3, "by": {"a": [{"$numpy.int64": 1}]}},
    ),
    "date": (dt.date(2024, 2, 29), {"$datetime.date": "2024-02-29"}),
    "time": (dt.time(3, 4), {"$datetime.time": "03:04:00"}),
    "datetime": (NOON, {"$datetime.datetime": "2024-02-29T12:00:00.000005"}),
    "datetime of UTC": (
        NOON.replace(tzinfo=dt.UTC),
        {"$datetime.datetime": "2024-02-29T12:00:00.000005+00:00"},
    ),
    "datetime of a zone": (
        NOON.replace(tzinfo=TOKYO),
        {"$datetime.datetime": ["2024-02-29T12:00:00.000005", "Asia/Tokyo"]},
    ),
    "timedelta": (
        dt.timedelta(-1, 5, 7),
        {"$datetime.timedelta": {"days": -1, "seconds": 5, "microseconds": 7}},
    ),
    "decimal": (Decimal("1.10"), {"$decimal.Decimal": "1.10"}),
    "bytes": (b"\0\1", {"$bytes": "AAE="}),
    "timestamp": (
        pd.Timestamp(NOON).as_unit("ns"),
        {"$pandas.Timestamp": ["2024-02-29T12:00:00.000005", "ns"]},
    ),
    "timestamp of a zone": (
        pd.Timestamp("2024-02-29 12:00", tz=TOKYO).as_unit("s"),
        {"$pandas.Timestamp": ["2024-02-29T12:00:00+09:00", "s", "Asia/Tokyo"]},
    ),
    "pandas' duration": (pd.Timedelta(1, "D").as_unit("ns"), {"$pandas.Timedelta": ["P1DT0H0M0S", "ns"]}),
}


@pytest.mark.parametrize(("value", "form"), FORMS.values(), ids=FORMS)
def test_a_value_stands_in_the_record_where_anyone_can_read_it(value: Any, form: Any) -> None:
    encoded, back, files = roundtrip(value)

    assert (encoded.encoding, encoded.file, files.created) == ("typed-json", None, [])
    assert json.dumps(encoded.inline) == json.dumps(form)
    assert encoded.size == len(json.dumps(form, ensure_ascii=False, separators=(",", ":")).encode())
    assert "why" not in encoded.info
    assert told(back) == told(value)


def told(value: Any) -> Any:
    """All that makes a value: types all the way down, and the pickle of what has no parts."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [told(item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted(repr(told(item)) for item in value)
    if kind is dict:
        return kind, [(told(key), told(item)) for key, item in value.items()]
    return kind, repr(value), None if kind is np.str_ else pickle.dumps(value)


NO_FORM: dict[str, tuple[Any, str]] = {
    "subclass of int": (enum.IntEnum("Color", {"RED": 1}, module=__name__).RED, "type .*Color"),
    "named tuple": (NamedTuple("Pair", [("a", int)])(1), "type .*Pair"),
    "ordered dict within": (
        [collections.OrderedDict(a=1)],
        r"holds a value of type collections\.OrderedDict",
    ),
    "enum as a key": ({enum.Enum("Word", {"A": 1}, module=__name__).A: 1}, "type .*Word"),
    "array": (np.zeros(3), r"^values of type numpy\.ndarray have no other form$"),
    "array in a dict": ({"a": np.zeros(3)}, r"holds a value of type numpy\.ndarray"),
    "wide float": (np.longdouble(1), r"type numpy\.longdouble"),
    "other integer": (np.longlong(1), r"type numpy\.longlong"),
    "complex": (1j, "type complex"),
    "class": (dt.date, "type type"),
    "range": (range(3), "type range"),
    "shared list": ([[1]] * 2, "holds the same list twice"),
    "nan with a payload": (struct.unpack("<d", b"\1\0\0\0\0\0\xf8\x7f")[0], "would come back changed"),
    "second of two equal hours": (
        dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        "would come back changed",
    ),
    "zone with a name of its own": (
        dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(0), "GMT")),
        r"datetime\.datetime\(2024, 1, 1.* would come back changed",
    ),
    "surrogate": (("\ud800",), "no valid Unicode"),
    "surrogate in NumPy": (np.str_("\ud800"), "no valid Unicode"),
    "long integer": (2**20_000, "more than 8,192 bits"),
    "deep": (json.loads("[" * 51 + "]" * 51), "more than 50 levels"),
    "large": (tuple(range(9_000)), "larger than 16,384 bytes"),
    "large text": ("x" * 20_000, "larger than 16,384 bytes"),
    "large bytes": (b"x" * 15_000, "larger than 16,384 bytes"),
}


@pytest.mark.parametrize(("value", "why"), NO_FORM.values(), ids=NO_FORM)
def test_what_would_not_come_back_exactly_is_a_pickle_that_says_why(value: Any, why: str) -> None:
    encoded = encode(value, lambda _suffix: io.BytesIO())

    assert encoded.encoding == "pickle"
    assert re.search(why, encoded.info["why"]), encoded.info["why"]


class Float64(float):
    """A class that bears the name of another."""


Float64.__module__, Float64.__name__, Float64.__qualname__ = "numpy", "float64", "float64"


def test_a_class_that_only_has_the_name_of_a_known_one_has_no_form() -> None:
    from daskflow.store.serializers.typed_json import TypedJsonSerializer

    assert not TypedJsonSerializer().takes(Float64(1))


def test_a_cycle_through_a_tuple_is_a_pickle() -> None:
    value: tuple[list[Any]] = ([],)
    value[0].append(value)

    encoded, back, _ = roundtrip(value)

    assert encoded.encoding == "pickle"
    assert back[0][0] is back


def test_a_tower_of_shared_tuples_is_given_up_at_once() -> None:
    value: Any = ()
    for _ in range(40):
        value = (value, value)

    assert roundtrip(value)[0].encoding == "pickle"


def test_a_set_has_one_identity_however_it_was_made() -> None:
    words = [f"w{n}" for n in range(50)]

    assert roundtrip(set(words))[0].hash == roundtrip(set(reversed(words)))[0].hash


def test_types_tell_identities_apart() -> None:
    values = [
        1, (1,), [1], {1}, frozenset({1}), {1: 1}, {"1": 1}, np.int64(1), np.int32(1), np.float64(1), np.True_,
        Decimal(1), Decimal("1.0"), "1", b"1", {"$tuple": [1]}, [{"$tuple": [1]}], [(1,)], math.nan, -math.nan,
    ]  # fmt: skip

    assert len({roundtrip(value)[0].hash for value in values}) == len(values)


def test_plain_json_is_stored_and_read_as_ever() -> None:
    value = {"$tuple": [1], "other": {"$set": [1], "x": None}}

    encoded, back, _ = roundtrip(value)

    assert (encoded.encoding, encoded.inline) == ("json", value)
    assert back == value
    assert decode("json", {}, {"$tuple": [1]}, _no_file) == {"$tuple": [1]}


DAMAGED = {
    "not a list": {"$tuple": 5},
    "not a pair": {"$dict": [[1]]},
    "list in a set": {"$set": [[1]]},
    "not a date": {"$datetime.date": "2024-02-30"},
    "not a number": {"$decimal.Decimal": "x"},
    "out of range": {"$numpy.int8": 300},
    "not base64": {"$bytes": "A"},
    "no field": {"$datetime.timedelta": {}},
    "too few": {"$pandas.Timestamp": ["2024-01-01"]},
    "a zone outside": {"$datetime.datetime": ["2024-01-01", "../../etc/passwd"]},
}


@pytest.mark.parametrize("form", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_is_named_as_such(form: Any) -> None:
    with pytest.raises(DataMissing, match="damaged"):
        decode("typed-json", {}, form, _no_file)


@pytest.mark.parametrize("tag", ["os.system", "builtins.eval", "numpy.load", "numpy.ndarray", "object", ""])
def test_a_tag_that_is_not_known_names_itself_and_runs_nothing(tag: str) -> None:
    with pytest.raises(DataException, match="does not know. Install a newer one"):
        decode("typed-json", {}, [{f"${tag}": "echo"}], _no_file)


def test_a_time_zone_that_is_not_here_is_named() -> None:
    with pytest.raises(DataException, match="time zone Moon/Tranquility"):
        decode("typed-json", {}, {"$datetime.datetime": ["2024-01-01", "Moon/Tranquility"]}, _no_file)


def test_reading_imports_numpy_and_pandas_only_for_a_value_of_theirs() -> None:
    program = """
import sys
from daskflow.store.serializers import decode, encode
forms = ({"$tuple": [1]}, {"$datetime.datetime": ["2024-01-01", "Asia/Tokyo"]}, {"$decimal.Decimal": "1"},
         {"$bytes": ""}, {"$float": "nan"}, {"$numpy.int64": 1}, {"$pandas.Timestamp": ["2024-01-01", "ns"]})
for form in forms:
    decode("typed-json", {}, form, None)
    print(*[name for name in ("numpy", "pandas", "pyarrow", "polars") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.splitlines()[:6] == ["", "", "", "", "", "numpy"]
    assert "pandas" in done.stdout.splitlines()[6]


def test_the_precision_of_decimal_arithmetic_does_not_matter() -> None:
    value = Decimal("1." + "1" * 60)
    with decimal.localcontext(decimal.Context(prec=3)):
        encoded, back, _ = roundtrip(value)

    assert encoded.encoding == "typed-json"
    assert str(back) == str(value)


def _no_file() -> Any:
    raise AssertionError("A value in the record needs no file.")


def _numpy_scalars() -> st.SearchStrategy[Any]:
    def bits(name: str) -> st.SearchStrategy[Any]:
        kind = getattr(np, "bool_" if name == "bool" else name)
        if name == "str_":
            return st.text(max_size=9).map(np.str_)
        if name == "bool":
            return st.booleans().map(np.bool_)
        size = np.dtype(kind).itemsize
        return st.binary(min_size=size, max_size=size).map(lambda raw: np.frombuffer(raw, kind)[0])

    return st.one_of(*map(bits, NUMPY))


ZONES = st.none() | st.just(dt.UTC) | st.sampled_from([TOKYO, zoneinfo.ZoneInfo("America/New_York")]) | st.builds(
    dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))
)  # fmt: skip
_ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(min_size=8, max_size=8).map(lambda raw: struct.unpack("<d", raw)[0]),
    st.text(st.characters(), max_size=9),
    st.binary(max_size=9),
    st.decimals(allow_nan=False),
    st.sampled_from(["NaN", "-NaN17", "Infinity", "-0", "0E+9"]).map(Decimal),
    st.dates(),
    st.times(timezones=ZONES),
    st.datetimes(timezones=ZONES),
    st.timedeltas(),
    st.integers(-(2**62), 2**62).map(pd.Timestamp),
    st.integers(-(2**62), 2**62).map(lambda n: pd.Timestamp(n, tz="UTC").tz_convert(TOKYO)),
    st.integers(-(2**40), 2**40).map(lambda n: pd.Timedelta(n).as_unit("us")),
    _numpy_scalars(),
)


@st.composite
def _scalars(draw: Any) -> Any:
    """A function, so that what is made of it has a short name in hypothesis' messages."""
    return draw(_ANY)


SCALARS = _scalars()
HASHABLE = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3)
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.sets(HASHABLE, max_size=4),
        st.dictionaries(st.sampled_from(["$tuple", "$float", "a", "b"]), inner, max_size=2),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.tuples(inner, inner),
    ),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=600, deadline=None)
def test_any_value_comes_back_exactly_and_a_pickle_says_why(value: Any) -> None:
    encoded, back, _ = roundtrip(value)

    assert told(back) == told(value)
    assert (encoded.encoding == "pickle") == ("why" in encoded.info)
    if encoded.encoding != "pickle":
        assert json.loads(json.dumps(encoded.inline, allow_nan=False)) == encoded.inline
        assert roundtrip(back)[0].hash == encoded.hash


@given(SCALARS)
@settings(max_examples=400, deadline=None)
def test_of_simple_values_hardly_any_is_a_pickle(value: Any) -> None:
    encoded, _, _ = roundtrip(value)

    if encoded.encoding == "pickle":
        assert any(word in encoded.info["why"] for word in ("changed", "Unicode", "bits"))
