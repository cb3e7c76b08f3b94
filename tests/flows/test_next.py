"""Where ``self.next`` leads: branches, switches, recursions, each inside the others; and what it refuses."""

from __future__ import annotations

import pytest

SHAPES = """
    from daskflow import FlowSpec, current, step

    class Shapes(FlowSpec):
        @step
        def start(self):
            self.trail = ["start"]
            self.base = 100
            self.next(self.plain, self.wide, self.choosing)

        @step
        def plain(self):
            self.trail = self.trail + ["plain"]
            self.seen = self.base
            self.next(self.plain2)

        @step
        def plain2(self):
            self.trail.append("plain2")
            self.next(self.meet)

        @step
        def wide(self):
            self.xs = [3, 1]
            self.next(self.item, foreach="xs")

        @step
        def item(self):
            self.which = "odd" if self.input == 1 else "three"
            self.next({"odd": self.odd, "three": self.three}, condition="which")

        @step
        def odd(self):
            self.got = ("odd", self.index, self.input)
            self.next(self.item_done)

        @step
        def three(self):
            self.ys = "ab"
            self.next(self.deep, foreach="ys")

        @step
        def deep(self):
            self.next(self.left, self.right)

        @step
        def left(self):
            self.part = self.input + "L"
            self.next(self.sides)

        @step
        def right(self):
            self.part = self.input + "R"
            self.next(self.sides)

        @step
        def sides(self, inputs):
            self.parts = [i.part for i in inputs]
            self.inner = (self.index, self.input, len(self.foreach_stack()))
            self.next(self.deep_done)

        @step
        def deep_done(self, inputs):
            self.got = ("three", [i.parts for i in inputs], [i.inner for i in inputs], self.index, self.input)
            self.next(self.item_done)

        @step
        def item_done(self):
            self.met_here = self.index
            self.next(self.items_done)

        @step
        def items_done(self, inputs):
            self.got = [i.got for i in inputs]
            self.orders = [i.met_here for i in inputs]
            self.next(self.meet)

        @step
        def choosing(self):
            self.flag = True
            self.next({True: self.yes, False: self.no}, condition="flag")

        @step
        def yes(self):
            self.answer = "yes"
            self.number = 2
            self.next({1: self.one, 2: self.two}, condition="number")

        @step
        def no(self):
            self.answer = "no"
            self.next(self.answered)

        @step
        def one(self):
            self.next(self.answered)

        @step
        def two(self):
            self.k = 0
            self.next(self.loop)

        @step
        def loop(self):
            self.k += 1
            self.stacks = getattr(self, "stacks", []) + [self._iteration_stack]
            self.own_id = current.task_id
            self.again = "more" if self.k < 4 else "enough"
            self.next({"more": self.loop, "enough": self.answered}, condition="again")

        @step
        def answered(self):
            self.after = self._iteration_stack
            self.next(self.meet)

        @step
        def meet(self, inputs):
            self.steps = [i._current_step for i in inputs]
            self.by_name = (inputs.plain2.seen, inputs.answered.answer)
            self.k = inputs[2].k
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Shapes()
"""


@pytest.fixture(scope="module")
def shapes(run_flow):
    return run_flow(SHAPES)


def test_each_branch_sees_what_the_split_had_and_not_what_other_branches_do(shapes):
    assert shapes.value("plain2", "trail") == ["start", "plain", "plain2"]
    assert shapes.value("plain", "trail") == ["start", "plain"]
    assert shapes.value("answered", "trail") == ["start"]
    assert shapes.value("meet", "steps") == ["plain2", "items_done", "answered"]


def test_a_switch_in_a_foreach_takes_its_own_way_for_each_item(shapes):
    assert shapes.tasks("odd") == ["1"]
    assert shapes.tasks("three") == ["0"]
    assert shapes.tasks("item_done") == ["0", "1"]
    assert shapes.value("items_done", "orders") == [0, 1]


def test_a_split_in_a_foreach_in_a_switch_in_a_foreach_in_a_branch(shapes):
    assert shapes.tasks("left") == ["0-0", "0-1"]
    assert shapes.value("items_done", "got") == [
        ("three", [["aL", "aR"], ["bL", "bR"]], [(0, "a", 2), (1, "b", 2)], 0, 3),
        ("odd", 1, 1),
    ]


def test_only_the_chosen_branch_of_a_switch_has_tasks(shapes):
    assert shapes.value("answered", "answer") == "yes"
    assert shapes.run().tasks("no") == []
    assert shapes.run().tasks("one") == []


def test_a_recursion_makes_a_task_for_each_iteration_and_carries_its_artifacts_on(shapes):
    assert shapes.tasks("loop") == ["0", "0.1", "0.2", "0.3"]
    assert shapes.value("meet", "k") == 4
    assert shapes.value("loop", "stacks", "0.3") == [[0], [1], [2], [3]]
    assert shapes.value("answered", "after") == []
    assert shapes.values("loop", "own_id") == shapes.tasks("loop")
    assert shapes.record("loop", "0.3").iteration == 3
    parents = [shapes.record("loop", task).parents for task in shapes.tasks("loop")]
    assert parents == [["two/0"], ["loop/0"], ["loop/0.1"], ["loop/0.2"]]


def test_a_join_names_its_inputs_by_the_last_step_of_each_branch(shapes):
    assert shapes.value("meet", "by_name") == (100, "yes")


STOPPED = """
    import sys
    import threading
    from daskflow import FlowSpec, step

    class Stopped(FlowSpec):
        @step
        def start(self):
            self.kept = "kept"
            self.items = {items}
            {before}
            self.next(self.a, foreach="items")

        @step
        def a(self):
            self.next(self.j)

        @step
        def j(self, inputs):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Stopped()
"""

FAILING = {
    "nothing": ("[]", "pass", "InvalidNextException", "produced zero splits"),
    "an empty generator": ("iter(())", "pass", "InvalidNextException", "produced zero splits"),
    "a number": ("5", "pass", "InvalidNextException", "can't be iterated"),
    "a lock": ("[threading.Lock()]", "pass", "UnpicklableArtifactException", "an item of foreach='items'"),
    "no variable": ("[1]", "del self.items", "InvalidNextException", "self.items does not exist"),
    "two nexts": (
        "[1]",
        "self.next(self.a, foreach='items')",
        "InvalidNextException",
        "Multiple self.next()",
    ),
    "another target": (
        "[1]",
        "self.next(self.end); self.next = lambda *a, **k: None",
        "InvalidNextException",
        "Based on static analysis of the code, step start was expected to transition",
    ),
    "return": ("[1]", "return", "InvalidNextException", "Step 'start' ended without calling self.next()"),
    "sys.exit(0)": (
        "[1]",
        "sys.exit(0)",
        "InvalidNextException",
        "Step 'start' ended without calling self.next()",
    ),
    "a failing generator": ("(1 + '' for _ in [1])", "pass", "builtins.TypeError", "unsupported operand"),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_step_fails_that_can_not_go_on_and_says_why(run_flow, case):
    items, before, kind, words = FAILING[case]

    result = run_flow(STOPPED.format(items=items, before=before), expect=1)

    error = result.failed("start").error
    assert error["type"].endswith(kind)
    assert words in error["exception"]
    assert f"Step failure: Step start (task-id 0) failed: {error['type']}: " in result.stdout
    assert result.status() == "failed"
    if kind == "InvalidNextException":
        assert "line 1" in error["exception"]
        assert "Traceback" not in result.text
    assert result.run().load("kept", result.failed("start").artifacts["kept"]) == "kept"


MISUSES = """
    from daskflow import FlowSpec, step

    CALLS = {
        "unknown keyword": lambda f: f.next(f.a, each="xs"),
        "dict without condition": lambda f: f.next({1: f.a}),
        "condition that is no text": lambda f: f.next({1: f.a}, condition=3),
        "no cases": lambda f: f.next({}, condition="x"),
        "condition and foreach": lambda f: f.next({1: f.a}, condition="x", foreach="xs"),
        "no function": lambda f: f.next("a"),
        "no step": lambda f: f.next(f.foreach_stack),
        "foreach that is no text": lambda f: f.next(f.a, foreach=[1]),
        "foreach to two": lambda f: f.next(f.a, f.end, foreach="xs"),
        "num_parallel": lambda f: f.next(f.a, num_parallel=2),
        "no target": lambda f: f.next(),
    }

    class Misuses(FlowSpec):
        @step
        def start(self):
            self.errors = {}
            for name, call in CALLS.items():
                try:
                    call(self)
                except Exception as error:
                    self.errors[name] = (type(error).__name__, error.headline, error.message, error.line_no)
            self.next(self.a)

        @step
        def a(self):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Misuses()
"""

REFUSALS = {
    "unknown keyword": "no keyword 'each'",
    "dict without condition": "needs condition=",
    "condition that is no text": "as a string, not 3",
    "no cases": "dict of cases is empty",
    "condition and foreach": "exclude each other",
    "no function": "the 1. argument is 'a', not a function",
    "no step": "an unknown step",
    "foreach that is no text": "as a string, not [1]",
    "foreach to two": "exactly one step, not to 2",
    "num_parallel": "num_parallel is not supported yet",
    "no target": "names no step",
}


def test_each_misuse_of_next_has_an_error_that_names_it_and_its_line(run_flow):
    errors = run_flow(MISUSES).value("start", "errors")

    assert list(errors) == list(REFUSALS)
    for line, (name, expected) in enumerate(REFUSALS.items(), start=4):
        kind, headline, message, found = errors[name]
        assert (kind, found) == ("InvalidNextException", line), name
        assert headline == f"Invalid self.next() transition detected on line {line}"
        assert expected in message


SWITCHES = """
    from daskflow import FlowSpec, Parameter, step

    class Switches(FlowSpec):
        value = Parameter("value", default="x")

        @step
        def start(self):
            if self.value != "missing":
                self.which = {"list": [1], "none": None}.get(self.value, self.value)
            self.next({"x": self.a, "1": self.b}, condition="which")

        @step
        def a(self):
            self.next(self.end)

        @step
        def b(self):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Switches()
"""


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ("other", "RuntimeError", "Switch condition variable 'which' of step 'start' is 'other'"),
        ("list", "RuntimeError", "is [1] (list), which is none of its cases: 'x', '1'"),
        ("missing", "InvalidNextException", "self.which does not exist"),
    ],
)
def test_a_switch_without_a_case_for_its_value_fails_the_step(run_flow, value, kind, words):
    result = run_flow(SWITCHES, "--value", value, expect=1)

    assert result.failed("start").error["type"].endswith(kind)
    assert words in result.failed("start").error["exception"]
    assert words in result.stdout
