from __future__ import annotations

import json
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.flow.parameter_types import JSONType, fits, parse_value


def test_json_type_stays_one_object_when_pickled():
    assert pickle.loads(pickle.dumps(JSONType)) is JSONType


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("abc", str, "abc"),
        ("", str, ""),
        ("-3", int, -3),
        ("1e3", float, 1000.0),
        ("True", bool, True),
        ("no", bool, False),
        ("OFF", bool, False),
        ("1", bool, True),
        ('{"a": [1, null]}', JSONType, {"a": [1, None]}),
        ("3", JSONType, 3),
    ],
)
def test_text_becomes_a_value_of_the_type(text, kind, value):
    found = parse_value(text, kind)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("3.5", int, r"'3\.5' is not a valid integer"),
        ("x", float, "'x' is not a valid float"),
        ("maybe", bool, "'maybe' is not a valid boolean: give True or False"),
        ("", bool, "'' is not a valid boolean"),
        ("{bad", JSONType, r"'\{bad' is not a valid JSON object: .*column 2"),
        ("", JSONType, "'' is not a valid JSON object"),
    ],
)
def test_text_of_another_type_is_an_error_that_names_both(text, kind, message):
    with pytest.raises(ValueError, match=message):
        parse_value(text, kind)


@given(st.integers())
def test_every_integer_survives_its_text(value):
    assert parse_value(str(value), int) == value


@given(st.floats(allow_nan=False))
def test_every_float_survives_its_text(value):
    assert parse_value(repr(value), float) == value


def test_not_a_number_is_a_float():
    assert math.isnan(parse_value("nan", float))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda values: st.lists(values) | st.dictionaries(st.text(), values),
        max_leaves=10,
    )
)
def test_every_json_value_survives_its_text(value):
    assert parse_value(json.dumps(value), JSONType) == value


@pytest.mark.parametrize(
    ("value", "kind", "answer"),
    [
        ("x", str, True),
        (1, str, False),
        (1, int, True),
        (True, int, False),
        (1.5, int, False),
        (1, float, True),
        (True, float, False),
        (True, bool, True),
        (1, bool, False),
        ([{"a": None}], JSONType, True),
        ([{1}], JSONType, False),
        (None, JSONType, False),
    ],
)
def test_a_default_fits_its_own_type_and_an_integer_a_float(value, kind, answer):
    assert fits(value, kind) is answer
