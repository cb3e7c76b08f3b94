from __future__ import annotations

import enum
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.errors import ParameterError, ParameterFieldFailed, ParameterFieldTypeMismatch
from daskflow.flow.parameters import (
    RESERVED_NAMES,
    JSONType,
    JSONTypeClass,
    Parameter,
    ParameterContext,
    constants_of,
    parameters_of,
)


class Flow:
    """Stands for FlowSpec: the library's base class, and artifacts by name."""

    __daskflow_flow__ = True
    library_attribute = 1

    def __init__(self, **artifacts):
        self.artifacts = artifacts

    def next(self):
        pass

    def _artifact(self, name):
        return self.artifacts[name]


@pytest.fixture
def context():
    return ParameterContext("F", "ada", "p", print, "local")


def flow_with(**attributes):
    return type("F", (Flow,), attributes)


# Reading and writing


def test_a_parameter_reads_the_artifact_of_its_variable_not_of_its_name():
    class F(Flow):
        p = Parameter("my-param")

    assert F(p=3).p == 3


def test_on_the_class_a_parameter_is_itself():
    class F(Flow):
        p = Parameter("my-param", default=1)

    assert isinstance(F.p, Parameter)
    assert (F.p.name, F.p.variable) == ("my-param", "p")
    assert repr(F.p) == "Parameter('my-param', default=1)"


@pytest.mark.parametrize("change", [lambda flow: setattr(flow, "p", 2), lambda flow: delattr(flow, "p")])
def test_a_parameter_can_be_neither_assigned_nor_deleted(change):
    flow = flow_with(p=Parameter("my-param"))(p=1)

    with pytest.raises(
        AttributeError, match=r"Parameters are not modifiable: self\.p is the parameter 'my-param'"
    ):
        change(flow)

    assert flow.p == 1


# Types and separators


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({}, str),
        ({"default": "x"}, str),
        ({"default": True}, bool),
        ({"default": 3}, int),
        ({"default": 0.5}, float),
        ({"default": {"a": 1}}, JSONType),
        ({"default": [1]}, JSONType),
        ({"default": lambda ctx: 1}, str),
        ({"default": 3, "type": float}, float),
        ({"default": "{}", "type": JSONType}, JSONType),
        ({"type": JSONTypeClass}, JSONType),
        ({"type": JSONTypeClass()}, JSONType),
        ({"default": ["a"], "separator": ","}, str),
        ({"default": [1, 2], "multiple": True}, int),
        ({"default": (0.5, 1.5), "nargs": 2}, float),
    ],
)
def test_the_type_is_the_given_one_or_that_of_the_default(declared, expected):
    assert Parameter("p", **declared).resolve_type() is expected


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"default": (1, 2)}, r"default of type tuple, \(1, 2\).*give type="),
        ({"type": dict}, "has type dict: use type=JSONType"),
        ({"type": list}, "has type list: use type=JSONType"),
    ],
)
def test_a_type_that_no_text_can_be_read_as_is_refused(declared, message):
    with pytest.raises(ParameterError, match=message):
        parameters_of(flow_with(p=Parameter("p", **declared)))


def test_a_type_that_is_not_ours_is_left_to_click():
    assert Parameter("p", type=complex).has_foreign_type
    assert not Parameter("p", type=int).has_foreign_type


@given(
    st.lists(st.text(st.characters(exclude_characters=",")), min_size=1).filter(lambda words: words != [""])
)
def test_a_separator_splits_what_it_joined(words):
    assert Parameter("p", separator=",").convert(",".join(words)) == words


def test_an_empty_text_with_a_separator_is_an_empty_list():
    assert Parameter("p", separator=",").convert("") == []


# Defaults


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ({}, None),
        ({"default": "x"}, "x"),
        ({"default": 3}, 3),
        ({"default": False}, False),
        ({"default": 3, "type": float}, 3.0),
        ({"default": "3", "type": int}, 3),
        ({"default": '{"a": 1}', "type": JSONType}, {"a": 1}),
        ({"default": {"a": 1}}, {"a": 1}),
        ({"default": {1: "a"}}, {1: "a"}),
        ({"default": "a,b", "separator": ","}, ["a", "b"]),
        ({"default": ["a", "b"], "separator": ","}, ["a", "b"]),
        ({"default": lambda ctx: "a,b", "separator": ","}, ["a", "b"]),
        ({"default": lambda ctx: 3, "type": int}, 3),
        ({"default": lambda ctx: 3, "type": float}, 3.0),
        ({"default": lambda ctx: [1], "type": JSONType}, [1]),
        ({"default": lambda ctx: "[1]", "type": JSONType}, [1]),
        ({"default": lambda ctx: True, "type": bool}, True),
        ({"default": lambda ctx: f"{ctx.flow_name} {ctx.user_name} {ctx.parameter_name}"}, "F ada p"),
        ({"default": (1, 2), "nargs": 2}, (1, 2)),
    ],
)
def test_the_default_is_a_value_of_the_type(context, declared, value):
    found = Parameter("p", **declared).resolve_default(context)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"default": "x", "type": int}, r"parameter 'p' is 'x', of type str; expected int"),
        ({"default": 1.5, "type": int}, r"is 1\.5, of type float; expected int"),
        ({"default": True, "type": int}, "is True, of type bool; expected int"),
        ({"default": True, "type": float}, "is True, of type bool; expected float"),
        ({"default": 1, "type": bool}, "is 1, of type int; expected bool"),
        ({"default": 1, "type": str}, "is 1, of type int; expected str"),
        ({"default": "{bad", "type": JSONType}, r"is '\{bad', of type str; expected a JSON value"),
        ({"default": [{1}]}, r"is \[\{1\}\], of type list; expected a JSON value"),
        ({"default": [1], "separator": ","}, r"is \[1\], of type list; expected str, or a list of str"),
    ],
)
def test_a_default_of_a_wrong_type_is_found_before_anything_runs(declared, message):
    with pytest.raises(ParameterFieldTypeMismatch, match=message):
        parameters_of(flow_with(p=Parameter("p", **declared)))


@pytest.mark.parametrize(
    ("kind", "result", "message"),
    [
        (int, "5", "is '5', of type str; expected int"),
        (str, 5, "is 5, of type int; expected str"),
        (str, None, "is None, of type NoneType; expected str"),
        (JSONType, None, "is None, of type NoneType; expected a JSON value"),
        (JSONType, "{bad", r"is '\{bad', of type str; expected a JSON value"),
        (float, True, "is True, of type bool; expected float"),
    ],
)
def test_a_deploy_time_default_of_a_wrong_type_is_an_error(context, kind, result, message):
    parameter = Parameter("p", type=kind, default=lambda ctx: result)

    with pytest.raises(ParameterFieldTypeMismatch, match=f"parameter 'p' computed by .*{message}"):
        parameter.resolve_default(context)


def test_a_deploy_time_default_that_raises_names_the_parameter_and_keeps_the_cause(context):
    def broken(ctx):
        raise KeyError("region")

    with pytest.raises(
        ParameterFieldFailed, match=r"parameter 'p' .*broken.*raised KeyError: 'region'"
    ) as failure:
        Parameter("p", default=broken).resolve_default(context)

    assert isinstance(failure.value.__cause__, KeyError)


def test_a_deploy_time_default_is_not_called_when_the_flow_is_looked_at():
    calls = []

    parameters_of(flow_with(p=Parameter("p", default=calls.append)))

    assert calls == []


# The parameters of a flow


def names_of(flow_class):
    return [parameter.name for parameter in parameters_of(flow_class)]


def test_parameters_come_in_the_order_of_the_source_bases_first():
    class Base(Flow):
        z = Parameter("z")
        y = Parameter("y")

    class Derived(Base):
        b = Parameter("b")
        a = Parameter("a")

    assert names_of(Derived) == ["z", "y", "b", "a"]


def test_what_a_derived_class_declares_again_replaces_the_base():
    class Base(Flow):
        p = Parameter("p", default=1)
        q = Parameter("q")

    class Derived(Base):
        p = Parameter("p", default=2)
        q = 5

    (only,) = parameters_of(Derived)
    assert only.default == 2
    assert constants_of(Derived) == {"q": 5}


def test_a_diamond_has_each_parameter_once():
    class Base(Flow):
        p = Parameter("p")

    class Left(Base):
        left = Parameter("left")

    class Right(Base):
        right = Parameter("right")

    class Bottom(Left, Right):
        pass

    assert names_of(Bottom) == ["p", "right", "left"]


def test_a_mixin_that_is_no_flow_brings_its_parameters_from_either_side():
    class Mixin:
        p = Parameter("p")
        limit = 3

    class Before(Mixin, Flow):
        pass

    class After(Flow, Mixin):
        pass

    for flow_class in (Before, After):
        assert names_of(flow_class) == ["p"]
        assert constants_of(flow_class) == {"limit": 3}


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
@pytest.mark.parametrize("spelling", [str, str.upper, lambda name: name.replace("_", "-")])
def test_reserved_names_are_refused_in_any_spelling(name, spelling):
    with pytest.raises(ParameterError, match=f"'{spelling(name)}' is a reserved word"):
        parameters_of(flow_with(p=Parameter(spelling(name))))


@pytest.mark.parametrize("name", ["", "two words", "1st", "-x", "_x", "a.b", "größe", None, 3])
def test_names_that_can_be_no_option_are_refused(name):
    with pytest.raises(ParameterError, match="is not valid: use letters"):
        parameters_of(flow_with(p=Parameter(name)))


@pytest.mark.parametrize(("one", "other"), [("p", "p"), ("alpha", "Alpha"), ("my-param", "my_param")])
def test_a_name_can_not_be_specified_twice(one, other):
    with pytest.raises(ParameterError, match=f"'{other}' is specified twice: as 'a' and as 'b'"):
        parameters_of(flow_with(a=Parameter(one), b=Parameter(other)))


def test_one_parameter_under_two_variables_is_specified_twice():
    with pytest.raises(ParameterError, match="specified twice"):
        parameters_of(flow_with(**dict.fromkeys(("a", "b"), Parameter("p"))))


def test_a_parameter_can_not_hide_what_every_flow_has():
    with pytest.raises(ParameterError, match="assigned to 'next', which is an attribute that every flow has"):
        parameters_of(flow_with(next=Parameter("following")))


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"separator": ",", "type": int}, "has a separator, which is only for type str"),
        ({"separator": ",", "default": "a", "type": JSONType}, "has a separator, which is only for type str"),
        ({"separator": ""}, "has an empty separator"),
    ],
)
def test_a_separator_is_for_strings_and_not_empty(declared, message):
    with pytest.raises(ParameterError, match=message):
        parameters_of(flow_with(p=Parameter("p", **declared)))


# Constants


def test_constants_are_the_public_data_of_the_class():
    class Colour(enum.Enum):
        RED = 1

    class F(Flow):
        number = 3
        nothing = None
        table = {"a": [1]}  # noqa: RUF012 - what users write
        red = Colour.RED
        p = Parameter("p")
        _private = 1
        module = json
        Inner = Colour

        def method(self):
            pass

        short = lambda self: 1  # noqa: E731 - a lambda in a class body is a method

        @property
        def computed(self):
            return 1

        @staticmethod
        def static():
            pass

        @classmethod
        def of(cls):
            pass

    assert constants_of(F) == {"number": 3, "nothing": None, "table": {"a": [1]}, "red": Colour.RED}


def test_constants_are_inherited_and_overridden_but_never_those_of_the_library():
    class Base(Flow):
        depth = 1
        width = 2

    class Derived(Base):
        depth = 3

        def width(self):
            pass

    assert constants_of(Derived) == {"depth": 3}
