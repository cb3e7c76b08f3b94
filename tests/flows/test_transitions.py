"""Where tasks go: every kind of transition, and each inside the others."""

from __future__ import annotations

import pytest

HEAD = "from daskflow import FlowSpec, step, current\n"
TAIL = "\nif __name__ == '__main__':\n    F()\n"


def flow(body: str) -> str:
    return HEAD + body + TAIL


ITEMS = '''
import numpy, pandas

class Thing:
    def __init__(self, n):
        self.n = n

class F(FlowSpec):
    """One foreach over each kind of thing, one after the other."""
    @step
    def start(self):
        self.kinds = {
            "list": [3, 1], "tuple": (3, 1), "str": "ab", "range": range(2), "array": numpy.array([1.5, 2.5]),
            "series": pandas.Series([7, 8], index=[5, 6]), "dict": {"k": 1, "l": 2}, "set": {"only"},
            "none": [None, 0], "objects": [Thing(4), Thing(5)], "big": ["x" * 5000, "y"],
        }
        self.names = list(self.kinds)
        self.next(self.each, foreach="names")

    @step
    def each(self):
        self.name = None if False else self.input
        self.next(self.inner, foreach="things")

    @property
    def things(self):
        value = self.kinds[self.input] if len(self.foreach_stack()) == 1 else None
        return value

    @step
    def inner(self):
        item = self.input
        self.seen = (self.index, item.n if isinstance(item, Thing) else item, type(item).__name__, isinstance(item, Thing))
        self.stack = [(i, n) for i, n, _ in self.foreach_stack()]
        self.next(self.back)

    @step
    def back(self, inputs):
        self.all = [i.seen for i in inputs]
        self.stacks = [i.stack for i in inputs]
        self.outer = (self.index, self.input)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.by_name = {i.input: i.all for i in inputs}
        self.outer = [i.outer for i in inputs]
        self.stacks = [i.stacks for i in inputs]
        self.outside = (self.index, self.input, self.foreach_stack())
        self.next(self.end)

    @step
    def end(self):
        pass
'''


def test_a_foreach_goes_over_whatever_can_be_iterated(run_flow):
    done = run_flow(flow(ITEMS.replace("        self.name = None if False else self.input\n", "")))

    seen = done.value("end", "by_name")
    assert [one[1] for one in seen["list"]] == [3, 1] == [one[1] for one in seen["tuple"]]
    assert [one[1] for one in seen["str"]] == ["a", "b"]
    assert [one[1] for one in seen["range"]] == [0, 1]
    assert [one[1:3] for one in seen["array"]] == [(1.5, "float64"), (2.5, "float64")]
    assert [one[1] for one in seen["series"]] == [7, 8]
    assert [one[1] for one in seen["dict"]] == ["k", "l"]
    assert [one[1] for one in seen["set"]] == ["only"]
    assert [one[1] for one in seen["none"]] == [None, 0]
    assert [one[1] for one in seen["objects"]] == [4, 5]
    assert all(one[3] for one in seen["objects"])
    assert [one[1] for one in seen["big"]] == ["x" * 5000, "y"]
    assert [one[0] for one in seen["list"]] == [0, 1]
    assert done.value("end", "outer") == list(enumerate(seen))
    assert done.value("end", "stacks")[3] == [[(3, 11), (0, 2)], [(3, 11), (1, 2)]]
    assert done.value("end", "outside") == (None, None, [])
    assert done.tasks("inner")[:3] == ["0-0", "0-1", "1-0"]


MIXED = """
class F(FlowSpec):
    @step
    def start(self):
        self.xs = (n for n in range(4))
        self.next(self.choose, foreach="xs")

    @step
    def choose(self):
        self.x = self.input
        self.kind = self.x % 3
        self.next({0: self.even, 1: self.odd, 2: self.loop}, condition="kind")

    @step
    def even(self):
        self.way = ["even"]
        self.next(self.left, self.right)

    @step
    def left(self):
        self.side = "l"
        self.next(self.both)

    @step
    def right(self):
        self.side = "r"
        self.next(self.both)

    @step
    def both(self, inputs):
        self.way = ["both", inputs.left.side, inputs.right.side, [i.side for i in inputs], len(inputs)]
        self.x = inputs[0].x
        self.next(self.merge)

    @step
    def odd(self):
        self.way = ["odd"]
        self.parts = "ab"
        self.next(self.part, foreach="parts")

    @step
    def part(self):
        self.piece = (self.input, self.index)
        self.next(self.parted)

    @step
    def parted(self, inputs):
        self.way = [i.piece for i in inputs]
        self.x = inputs[0].x
        self.next(self.merge)

    @step
    def loop(self):
        self.count = getattr(self, "count", 0) + 1
        self.again = "more" if self.count < 3 else "enough"
        self.where = current.task_id
        self.next({"more": self.loop, "enough": self.after}, condition="again")

    @step
    def after(self):
        self.way = ["looped", self.count, self.where]
        self.next(self.merge)

    @step
    def merge(self):
        self.merged = (self.x, self.way, self.index)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.result = [i.merged for i in inputs]
        self.kept = [inputs[2].xs]  # the others came through joins
        self.next(self.fork)

    @step
    def fork(self):
        self.next(self.one, self.two)

    @step
    def one(self):
        self.flag = True
        self.next({True: self.yes, False: self.no}, condition="flag")

    @step
    def yes(self):
        self.next(self.met)

    @step
    def no(self):
        self.next(self.met)

    @step
    def met(self):
        self.said = "yes"
        self.next(self.last)

    @step
    def two(self):
        self.more = [1]
        self.next(self.single, foreach="more")

    @step
    def single(self):
        self.next(self.alone)

    @step
    def alone(self, inputs):
        self.said = len(inputs)
        self.next(self.last)

    @step
    def last(self, inputs):
        self.said = [i.said for i in inputs]
        self.merge_artifacts(inputs, include=["result", "kept"])
        self.next(self.end)

    @step
    def end(self):
        pass
"""


def test_every_transition_works_inside_the_others(run_flow):
    done = run_flow(flow(MIXED))

    assert done.value("end", "result") == [
        (0, ["both", "l", "r", ["l", "r"], 2], 0),
        (1, [("a", 0), ("b", 1)], 1),
        (2, ["looped", 3, "2.2"], 2),
        (3, ["both", "l", "r", ["l", "r"], 2], 3),
    ]
    assert done.value("end", "kept") == [[0, 1, 2, 3]]
    assert done.value("end", "said") == ["yes", 1]
    assert done.tasks("loop") == ["2", "2.1", "2.2"]
    assert done.tasks("even") == ["0", "3"]
    assert done.tasks("part") == ["1-0", "1-1"]
    assert done.tasks("no") == []
    assert done.record("loop", "2.2").iteration == 2


NESTED = """
class F(FlowSpec):
    @step
    def start(self):
        self.a = [1, 2]
        self.next(self.one, foreach="a")
    @step
    def one(self):
        self.b = [10, 20, 30]
        self.next(self.two, foreach="b")
    @step
    def two(self):
        self.c = [100, 200]
        self.next(self.three, foreach="c")
    @step
    def three(self):
        self.total = sum(value for _, _, value in self.foreach_stack())
        self.next(self.j3)
    @step
    def j3(self, inputs):
        self.total = [i.total for i in inputs]
        self.next(self.j2)
    @step
    def j2(self, inputs):
        self.total = [i.total for i in inputs]
        self.next(self.j1)
    @step
    def j1(self, inputs):
        self.total = [i.total for i in inputs]
        self.next(self.end)
    @step
    def end(self):
        pass
"""


def test_foreaches_nest_to_any_depth(run_flow):
    done = run_flow(flow(NESTED))

    assert done.value("end", "total") == [
        [[a + b + c for c in (100, 200)] for b in (10, 20, 30)] for a in (1, 2)
    ]
    assert len(done.tasks("three")) == 12


ONE = """
class F(FlowSpec):
    @step
    def {name}(self):
        {body}
        self.next(self.end{options})

    @step
    def end(self):
        pass
"""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "self.xs = []\n        self.next(self.w, foreach='xs')",
            ["produced zero splits", "'start'", "self.xs"],
        ),
        ("self.xs = 5\n        self.next(self.w, foreach='xs')", ["can't be iterated", "int", "self.xs"]),
        ("self.next(self.w, foreach='nothing')", ["self.nothing", "does not exist"]),
        ("self.xs = [1]\n        return\n        self.next(self.w, foreach='xs')", ["'start'", "line 8"]),
    ],
)
def test_a_foreach_that_cannot_be_followed_fails_its_step_with_the_reason(
    run_flow, body: str, words: list[str]
):
    done = run_flow(
        flow(
            f"""
class F(FlowSpec):
    @step
    def start(self):
        {body}
    @step
    def w(self):
        self.next(self.j)
    @step
    def j(self, inputs):
        self.next(self.end)
    @step
    def end(self):
        pass
"""
        ),
        expect=1,
    )

    error = done.failed("start").error["exception"]
    assert all(word in error for word in words), error
    assert "Traceback" not in done.text


SWITCH = """
class F(FlowSpec):
    @step
    def start(self):
        self.which = {value}
        self.next({{"a": self.a, 1: self.b}}, condition="which")
    @step
    def a(self):
        self.next(self.end)
    @step
    def b(self):
        self.next(self.end)
    @step
    def end(self):
        pass
"""


def test_a_switch_follows_its_value(run_flow):
    assert run_flow(flow(SWITCH.format(value="True"))).tasks("b") == ["0"]
    error = run_flow(flow(SWITCH.format(value="'c'")), expect=1).failed("start").error["exception"]
    assert "Switch condition variable 'which'" in error
    assert "'c'" in error


def test_a_next_that_the_source_does_not_show_fails_the_step(run_flow):
    done = run_flow(
        flow(
            """
class F(FlowSpec):
    @step
    def start(self):
        getattr(self, 'next')(self.end)
        self.next(self.end)
    @step
    def end(self):
        pass
"""
        ),
        expect=1,
    )

    assert "Multiple self.next() calls in step 'start'" in done.failed("start").error["exception"]


def test_the_width_of_a_foreach_can_be_capped(run_flow):
    source = flow(
        """
class F(FlowSpec):
    @step
    def start(self):
        self.xs = range(15)
        self.next(self.w, foreach='xs')
    @step
    def w(self):
        self.next(self.j)
    @step
    def j(self, inputs):
        self.next(self.end)
    @step
    def end(self):
        pass
"""
    )
    done = run_flow(source, "--max-num-splits", "10", expect=1)

    text = "Foreach in step start yielded 15 child steps which is more than the current maximum"
    assert text in done.stdout
    assert done.record("start").ok
    assert done.tasks("w") == []
    assert run_flow(source, "--max-num-splits", "15").tasks("w")[-1] == "14"
