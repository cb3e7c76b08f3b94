"""Which small plain values stand in the record as JSON, and that they come back exactly."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import pytest
from conformance import check_roundtrip, roundtrip
from hypothesis import given, settings
from hypothesis import strategies as st

SHARED: list[Any] = []
CYCLE: list[Any] = []
CYCLE.append(CYCLE)


class Text(str):
    """A subclass, which JSON would give back as a plain string."""


EXACT: dict[str, Any] = {
    "None": None,
    "True": True,
    "int": -5,
    "int beyond 64 bits": 2**70,
    "int of 8,000 bits": 2**8_000,
    "float": 0.1,
    "negative zero": -0.0,
    "smallest float": 5e-324,
    "float of an integer": 1e22,
    "empty str": "",
    "str": 'ü"\\\n\0\u2028😀',
    "empty list": [],
    "empty dict": {},
    "nested": {"a": [1, 2.5, {"b": [None, True]}], "": "x"},
    "order of keys": {"z": 1, "a": 2},
    "equal, not shared": [[1], [1]],
    "50 levels": json.loads("[" * 50 + "]" * 50),
}

NOT_JSON: dict[str, Any] = {
    "lone surrogate": "\ud800",
    "surrogate in a key": {"\ud800": 1},
    "subclass of str": Text("x"),
    "subclass of dict": OrderedDict(a=1),
    "shared": [SHARED, SHARED],
    "int that JSON readers refuse": 2**20_000,
    "51 levels": json.loads("[" * 51 + "]" * 51),
}


@pytest.mark.parametrize("value", EXACT.values(), ids=EXACT)
def test_a_plain_value_is_json_in_the_record(value: Any) -> None:
    encoded = check_roundtrip(value)

    assert encoded.encoding == "json"
    assert encoded.inline == value
    assert encoded.file is None


@pytest.mark.parametrize("value", NOT_JSON.values(), ids=NOT_JSON)
def test_what_json_would_change_is_a_pickle(value: Any) -> None:
    assert check_roundtrip(value).encoding == "pickle"


def test_a_list_that_contains_itself_is_a_pickle() -> None:
    encoded, back, _ = roundtrip(CYCLE)

    assert encoded.encoding == "pickle"
    assert back[0] is back


def test_what_is_shared_within_a_value_stays_shared() -> None:
    inner: list[int] = []
    _, back, _ = roundtrip([inner, inner])

    assert back[0] is back[1]


@pytest.mark.parametrize(
    "value", ["x" * 16_383, list(range(5_000)), "ü" * 8_192], ids=["str", "list", "UTF-8"]
)
def test_what_is_too_large_for_the_record_is_a_file(value: Any) -> None:
    encoded = check_roundtrip(value)

    assert encoded.file == "pickle"
    assert encoded.inline is None


def test_the_largest_value_that_fits_stays_in_the_record() -> None:
    assert check_roundtrip("x" * 16_382).encoding == "json"
    assert check_roundtrip("x" * 98, inline_limit=100).encoding == "json"
    assert check_roundtrip("x" * 99, inline_limit=100).encoding == "pickle"


def test_values_that_python_calls_equal_have_identities_of_their_own() -> None:
    values = [1, 1.0, True, "1", [1], [1.0], [True], "[1]", 0, 0.0, -0.0, False, None, "null", "", [], {}]

    hashes = [roundtrip(value)[0].hash for value in values]

    assert len(set(hashes)) == len(values)


def test_the_order_of_a_dict_is_part_of_its_identity() -> None:
    assert roundtrip({"a": 1, "b": 2})[0].hash != roundtrip({"b": 2, "a": 1})[0].hash


def test_changing_a_value_changes_neither_its_record_nor_the_next_reader() -> None:
    value = {"a": [1]}
    encoded, first, _ = roundtrip(value)
    value["a"].append(2)
    assert encoded.inline == {"a": [1]}

    from daskflow.store.serializers import decode

    inline = {"a": [1]}
    first = decode("json", {}, inline, _no_file)
    first["a"].append(2)
    assert decode("json", {}, inline, _no_file) == {"a": [1]}


def _no_file() -> Any:
    raise AssertionError("A value in the record needs no file.")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
VALUES = st.recursive(
    SCALARS | st.binary(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters()), inner) | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(VALUES)
@settings(max_examples=150, deadline=None)
def test_any_nested_value_comes_back_exactly(value: Any) -> None:
    check_roundtrip(value)


@given(VALUES, VALUES)
@settings(max_examples=100, deadline=None)
def test_values_have_one_identity_only_if_they_are_the_same(one: Any, other: Any) -> None:
    same = repr(one) == repr(other)

    if roundtrip(one)[0].hash == roundtrip(other)[0].hash:
        assert same
