import pickle

import pytest

from daskflow.errors import InvalidNextException
from daskflow.flow.node import Node
from daskflow.flow.transition import (
    Request,
    Transition,
    called_twice,
    calling_line,
    check_static,
    choose,
    missing,
    missing_variable,
    not_iterable,
    parse_next,
    zero_splits,
)


class Flow:
    def a(self): ...

    def b(self): ...

    def helper(self): ...


flow = Flow()


def asked(*args, **kwargs):
    return parse_next("here", args, kwargs, 7, {"a", "b"}.__contains__)


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ([flow.a], {}, Request("here", "linear", ("a",), 7)),
        ([flow.b, flow.a], {}, Request("here", "split", ("b", "a"), 7)),
        ([flow.a], {"foreach": "xs"}, Request("here", "foreach", ("a",), 7, foreach="xs")),
        (
            [{"x": flow.a, 2: flow.b, False: flow.a}],
            {"condition": "c"},
            Request("here", "switch", ("a", "b"), 7, condition="c", cases={"x": "a", 2: "b", False: "a"}),
        ),
    ],
)
def test_each_form_of_next_is_understood(args, kwargs, expected):
    assert asked(*args, **kwargs) == expected


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ([], {}, "names no step"),
        ([], {"foreach": "xs"}, "names no step"),
        ([flow.a], {"forech": "xs"}, "no keyword 'forech', only foreach, condition"),
        ([{"x": flow.a}], {}, "a dict of cases needs condition="),
        (
            [{"x": flow.a}],
            {"condition": 1},
            "condition has to be the name of an attribute, as a string, not 1",
        ),
        (
            [{"x": flow.a}],
            {"condition": ""},
            "condition has to be the name of an attribute, as a string, not ''",
        ),
        ([{}], {"condition": "c"}, "dict of cases is empty"),
        ([flow.a], {"condition": "c"}, "with a condition it takes a dict"),
        ([{"x": flow.a}, flow.b], {"condition": "c"}, "one dict of cases and no other step"),
        ([flow.b, {"x": flow.a}], {"condition": "c"}, "one dict of cases and no other step"),
        ([{"x": flow.a}], {"condition": "c", "foreach": "xs"}, "condition and foreach exclude each other"),
        ([{"x": 3}], {"condition": "c"}, "the case 'x' is 3, not a function"),
        ([{"x": flow.helper}], {"condition": "c"}, "the case 'x' is self.helper, an unknown step"),
        (["a"], {}, "the 1. argument is 'a', not a function"),
        ([flow.a, Flow.b], {}, "the 2. argument is <function Flow.b"),
        ([flow.a, flow.helper], {}, "the 2. argument is self.helper, an unknown step"),
        ([flow.a, flow.a], {}, "step 'a' more than once"),
        ([flow.a], {"foreach": ["x"]}, "foreach has to be the name of an attribute, as a string, not ['x']"),
        ([flow.a], {"foreach": None}, "foreach has to be the name of an attribute, as a string, not None"),
        ([flow.a, flow.b], {"foreach": "xs"}, "foreach leads to exactly one step, not to 2"),
        ([flow.a], {"num_parallel": 2}, "num_parallel is not supported yet, use foreach"),
        ([], {"condition": "c"}, "with a condition it takes a dict"),
    ],
)
def test_a_misused_next_says_what_is_wrong_and_where(args, kwargs, message):
    with pytest.raises(InvalidNextException) as caught:
        asked(*args, **kwargs)

    assert message in caught.value.message
    assert "'here'" in caught.value.message
    assert caught.value.line_no == 7
    assert caught.value.headline == "Invalid self.next() transition detected on line 7"


def test_the_headline_with_its_line_survives_the_way_to_another_process():
    error = pickle.loads(pickle.dumps(called_twice("here", 12)))

    assert error.headline == "Invalid self.next() transition detected on line 12"
    assert "Multiple self.next() calls in step 'here'" in error.message


def test_a_huge_argument_does_not_flood_the_message():
    with pytest.raises(InvalidNextException) as caught:
        asked("x" * 100_000)

    assert len(caught.value.message) < 300


SWITCH = asked({"x": flow.a, 1: flow.b, False: flow.a}, condition="c")


@pytest.mark.parametrize(
    ("value", "target"), [("x", "a"), (1, "b"), (True, "b"), (1.0, "b"), (False, "a"), (0, "a")]
)
def test_a_switch_looks_its_case_up_as_a_dict_does(value, target):
    assert choose(SWITCH, value) == Transition("switch", (target,), condition="c")


@pytest.mark.parametrize("value", ["1", "y", None, 2, ["x"], {"x": 1}, ()])
def test_a_value_without_a_case_is_an_error_that_names_variable_value_and_cases(value):
    with pytest.raises(RuntimeError) as caught:
        choose(SWITCH, value)

    text = str(caught.value)
    assert text.startswith("Switch condition variable 'c' of step 'here'")
    assert repr(value) in text
    assert text.endswith("cases: 'x', 1, False.")


def test_what_is_no_switch_follows_as_it_was_asked():
    assert asked(flow.a, foreach="xs").transition() == Transition("foreach", ("a",), foreach="xs")
    assert asked(flow.a, flow.b).transition() == Transition("split", ("a", "b"))


def test_a_request_tells_which_variable_it_depends_on():
    assert SWITCH.variable == "c"
    assert asked(flow.a, foreach="xs").variable == "xs"
    assert asked(flow.a).variable is None


WRITTEN = {
    "linear": Node(name="here", type="linear", targets=("a",)),
    "join": Node(name="here", type="join", targets=("a",)),
    "split": Node(name="here", type="split", targets=("a", "b")),
    "foreach": Node(name="here", type="foreach", targets=("a",), foreach="xs"),
    "switch": Node(
        name="here",
        type="switch",
        targets=("a", "b"),
        condition="c",
        cases=(("x", "a"), (1, "b"), (False, "a")),
    ),
    "end": Node(name="here", type="end"),
}
CALLED = {
    "linear": asked(flow.a),
    "other": asked(flow.b),
    "split": asked(flow.a, flow.b),
    "foreach": asked(flow.a, foreach="xs"),
    "other foreach": asked(flow.a, foreach="ys"),
    "switch": SWITCH,
    "other switch": asked({"x": flow.a, 1: flow.b, False: flow.a}, condition="d"),
    "other cases": asked({"x": flow.a, 1: flow.b}, condition="c"),
}
SAME = {(kind, kind) for kind in WRITTEN} | {("join", "linear")}


@pytest.mark.parametrize("called", CALLED)
@pytest.mark.parametrize("written", WRITTEN)
def test_only_what_the_source_says_may_be_asked_for(written, called):
    if (written, called) in SAME:
        check_static(WRITTEN[written], CALLED[called])
        return
    with pytest.raises(InvalidNextException) as caught:
        check_static(WRITTEN[written], CALLED[called])
    assert caught.value.message.startswith("Based on static analysis of the code, step here was expected")
    assert caught.value.line_no == 7


def test_a_mismatch_names_both_sides():
    with pytest.raises(
        InvalidNextException, match=r"transition to a, b, but it went on to a \(foreach 'xs'\)"
    ):
        check_static(WRITTEN["split"], CALLED["foreach"])
    with pytest.raises(InvalidNextException, match=r"to be the last, but it went on to b\."):
        check_static(WRITTEN["end"], CALLED["other"])
    with pytest.raises(InvalidNextException, match=r"'x': a, 1: b, False: a \(condition 'c'\), but"):
        check_static(WRITTEN["switch"], CALLED["linear"])


def test_a_step_that_returned_early_is_told_where_its_next_is():
    error = missing(Node(name="here", targets=("a",), next_line=31, source_file="flow.py"))

    assert "'here' ended without calling self.next()" in error.message
    assert "line 31" in error.message
    assert (error.line_no, error.source_file) == (31, "flow.py")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (missing_variable(asked(flow.a, foreach="xs")), "foreach='xs', but self.xs does not exist"),
        (missing_variable(SWITCH), "condition='c', but self.c does not exist"),
        (
            not_iterable(asked(flow.a, foreach="xs"), 5),
            "Foreach over self.xs in step 'here' is not possible: it is 5 (int)",
        ),
        (zero_splits(asked(flow.a, foreach="xs"), []), "produced zero splits: the list is empty"),
    ],
)
def test_a_variable_that_does_not_serve_is_named(error, message):
    assert message in error.message
    assert error.headline.endswith("on line 7")


def test_the_calling_line_is_that_of_the_step():
    def next_():
        return calling_line()

    first = next_()
    second = next_()

    assert second == first + 1
    assert first == test_the_calling_line_is_that_of_the_step.__code__.co_firstlineno + 4
