"""A foreach over every kind of thing, as deep as one likes, as wide as it is allowed to be."""

from __future__ import annotations

import pytest

ITERABLES = """
    import numpy as np
    import pandas as pd
    from daskflow import FlowSpec, step

    class Money:
        def __init__(self, amount):
            self.amount = amount

    KINDS = {
        "list": lambda: [10, "x", 2.5],
        "tuple": lambda: ("a", "b"),
        "text": lambda: "abc",
        "range": lambda: range(3),
        "array": lambda: np.array([1.5, 2.5]),
        "series": lambda: pd.Series([7, 8], index=["p", "q"]),
        "mapping": lambda: {"k1": 1, "k2": 2},
        "set": lambda: {"only", "these", "words"},
        "generator": lambda: (n * n for n in range(3)),
        "objects": lambda: [Money(1), Money(2)],
        "nones": lambda: [None, None],
        "one": lambda: [["nested", {"deep": 1}]],
        "long": lambda: ["x" * 5000, "y"],
    }

    class Iterables(FlowSpec):
        @step
        def start(self):
            self.kinds = list(KINDS)
            self.next(self.split, foreach="kinds")

        @step
        def split(self):
            self.kind = self.input
            self.items = KINDS[self.kind]()
            if self.kind == "set":
                self.order = list(self.items)
            self.next(self.body, foreach="items")

        @step
        def body(self):
            self.got = self.input
            self.stack = self.foreach_stack()
            self.consistent = (self.index, self.input) == (self.stack[-1][0], self.stack[-1][2])
            self.items = "something else"
            self.next(self.after)

        @step
        def after(self):
            self.still = type(self.input) is type(self.got) and self.index == self.stack[-1][0]
            self.next(self.close)

        @step
        def close(self, inputs):
            self.got = [i.got for i in inputs]
            self.own = all(type(i.got) is Money for i in inputs)
            self.indices = [i.index for i in inputs]
            self.fine = all(i.consistent and i.still for i in inputs)
            self.outer = (self.input, self.index, self.foreach_stack())
            self.merge_artifacts(inputs, include=["kind", "order"] if inputs[0].kind == "set" else ["kind"])
            self.next(self.gather)

        @step
        def gather(self, inputs):
            self.all = {i.kind: i.got for i in inputs}
            self.fine = all(i.fine for i in inputs)
            self.own = {i.kind for i in inputs if i.own}
            self.order = inputs[self.kinds_in(inputs).index("set")].order
            self.outside = (self.index, self.input, self.foreach_stack())
            self.next(self.end)

        def kinds_in(self, inputs):
            return [i.kind for i in inputs]

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Iterables()
"""


@pytest.fixture(scope="module")
def iterables(run_flow):
    return run_flow(ITERABLES)


def test_a_foreach_goes_over_anything_that_can_be_iterated(iterables):
    got = iterables.value("gather", "all")

    assert got["list"] == [10, "x", 2.5]
    assert got["tuple"] == ["a", "b"]
    assert got["text"] == ["a", "b", "c"]
    assert got["range"] == [0, 1, 2]
    assert got["array"] == [1.5, 2.5]
    assert got["series"] == [7, 8]
    assert got["mapping"] == ["k1", "k2"]
    assert got["set"] == iterables.value("gather", "order")
    assert got["generator"] == [0, 1, 4]
    assert [money.amount for money in got["objects"]] == [1, 2]
    assert got["nones"] == [None, None]
    assert got["one"] == [["nested", {"deep": 1}]]
    assert got["long"] == ["x" * 5000, "y"]


def test_items_of_a_class_of_the_flow_file_are_instances_of_that_class(iterables):
    assert iterables.value("gather", "own") == {"objects"}


def test_each_task_of_a_nested_foreach_knows_the_items_around_it_until_the_join(iterables):
    assert iterables.value("body", "stack", "0-1") == [(0, 13, "list"), (1, 3, "x")]
    assert iterables.value("close", "outer", "0") == ("list", 0, [(0, 13, "list")])
    assert iterables.value("close", "indices", "0") == [0, 1, 2]
    assert iterables.value("gather", "outside") == (None, None, [])
    assert iterables.value("gather", "fine") is True


def test_a_spent_generator_is_kept_as_the_list_of_its_items(iterables):
    kinds = list(iterables.value("gather", "all"))

    assert iterables.value("split", "items", str(kinds.index("generator"))) == [0, 1, 4]


DEEP = """
    from daskflow import FlowSpec, step

    class Deep(FlowSpec):
        sizes = [2, 3]

        @step
        def start(self):
            self.next(self.outer, foreach="sizes")

        @property
        def b(self):
            return range(self.input)

        @step
        def outer(self):
            self.next(self.middle, foreach="b")

        @step
        def middle(self):
            self.c = ["x", "y"]
            self.next(self.inner, foreach="c")

        @step
        def inner(self):
            self.n = 0
            self.path = [index for index, _, _ in self.foreach_stack()]
            self.next(self.spin)

        @step
        def spin(self):
            self.n += 1
            self.same = [index for index, _, _ in self.foreach_stack()] == self.path
            self.go = self.n <= self.index
            self.next({True: self.spin, False: self.spun}, condition="go")

        @step
        def spun(self):
            self.next(self.inner_done)

        @step
        def inner_done(self, inputs):
            self.gather(inputs, "path")
            self.next(self.middle_done)

        @step
        def middle_done(self, inputs):
            self.gather(inputs, "paths")
            self.next(self.outer_done)

        @step
        def outer_done(self, inputs):
            self.gather(inputs, "paths")
            self.next(self.end)

        def gather(self, inputs, name):
            self.paths = [getattr(i, name) for i in inputs]
            self.n = [i.n for i in inputs]
            self.same = all(i.same for i in inputs)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Deep()
"""


def test_three_foreachs_deep_with_a_recursion_inside(run_flow):
    deep = run_flow(DEEP)

    assert deep.value("end", "paths") == [
        [[[o, m, 0], [o, m, 1]] for m in range(size)] for o, size in enumerate((2, 3))
    ]
    assert deep.value("end", "n") == [[[1, 2]] * 2, [[1, 2]] * 3]
    assert deep.value("end", "same") is True
    ids = [f"{o}-{m}-{i}" for o, size in enumerate((2, 3)) for m in range(size) for i in (0, 1)]
    assert deep.tasks("inner") == ids
    assert deep.tasks("spin")[:3] == ["0-0-0", "0-0-1", "0-0-1.1"]
    assert deep.tasks("outer_done") == ["0"]


WIDE = """
    from daskflow import FlowSpec, step

    class Wide(FlowSpec):
        @step
        def start(self):
            self.items = range(120)
            self.next(self.a, foreach="items")

        @step
        def a(self):
            self.next(self.j)

        @step
        def j(self, inputs):
            self.inputs_in_order = [i.input for i in inputs] == list(range(120))
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Wide()
"""


def test_a_foreach_wider_than_the_cap_fails_the_run_but_not_its_split(run_flow):
    result = run_flow(WIDE, "--max-num-splits", "100", expect=1)

    assert (
        "Foreach in step start yielded 120 child steps which is more than the current maximum of 100"
        in result.stdout
    )
    assert result.record("start").ok
    assert result.run().tasks("a") == []
    assert result.status() == "failed"


@pytest.mark.parametrize("cap", [(), ("--max-num-splits", "120")], ids=["no cap", "just within the cap"])
def test_a_foreach_is_as_wide_as_its_items(run_flow, cap):
    assert run_flow(WIDE, *cap).value("end", "inputs_in_order") is True
