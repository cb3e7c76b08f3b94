import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.errors import LintWarn
from daskflow.flow import lint
from daskflow.flow.graph import Graph
from daskflow.flow.spec import FlowSpec


def flow_source(*steps):
    """Source of a flow: each step as "name -> what self.next gets", "name(inputs) -> ..." or "name" for the end."""
    lines = []
    for text in steps:
        head, arrow, call = (part.strip() for part in text.partition("->"))
        decorator, _, head = head.rpartition(" ") if head.startswith("@") else ("@step", "", head)
        name, _, arguments = head.partition("(")
        own = f"(self, {arguments}" if arguments else "(self)"
        lines += [decorator, f"def {name}{own}:", f"    self.next({call})" if arrow else "    pass", ""]
    return "\n".join(lines)


def checked(flow_of, source):
    graph = Graph.of(flow_of(source))
    lint.check(graph)
    return graph


SPLIT = ("start -> self.a, self.b", "a -> self.join", "b -> self.join", "join(inputs) -> self.end", "end")

GOOD = {
    "one step": ("only",),
    "one marked step": ("@step(start=True,end=True) only",),
    "linear": ("start -> self.a", "a -> self.end", "end"),
    "other names": ("@step(start=True) first -> self.last", "@step(end=True) last"),
    "digits": ("start -> self.a1_b2", "a1_b2 -> self.end", "end"),
    "split": SPLIT,
    "foreach": ("start -> self.a, foreach='xs'", "a -> self.j", "j(inputs) -> self.end", "end"),
    "nested foreach": (
        "start -> self.a, foreach='xs'",
        "a -> self.b, foreach='ys'",
        "b -> self.inner",
        "inner(inputs) -> self.outer",
        "outer(inputs) -> self.end",
        "end",
    ),
    "switch": ("start -> {'x': self.a, 'y': self.end}, condition='c'", "a -> self.end", "end"),
    "recursion": ("start -> self.a", "a -> {1: self.a, 2: self.end}, condition='c'", "end"),
    "recursion in a foreach": (
        "start -> self.a, foreach='xs'",
        "a -> {1: self.a, 2: self.b}, condition='c'",
        "b -> self.j",
        "j(inputs) -> self.end",
        "end",
    ),
    "a switch in a branch": (
        "start -> self.a, self.b",
        "a -> {1: self.x, 2: self.y}, condition='c'",
        "x -> self.j",
        "y -> self.j",
        "b -> self.j",
        "j(inputs) -> self.end",
        "end",
    ),
    "a split in a case": (
        "start -> {1: self.fan, 2: self.on}, condition='c'",
        "fan -> self.a, self.b",
        "a -> self.j",
        "b -> self.j",
        "j(inputs) -> self.on",
        "on -> self.end",
        "end",
    ),
    "a foreach in a case": (
        "start -> {1: self.fan, 2: self.end}, condition='c'",
        "fan -> self.a, foreach='xs'",
        "a -> self.j",
        "j(inputs) -> self.end",
        "end",
    ),
    "a join that goes on to a split": (
        "start -> self.a, self.b",
        "a -> self.j",
        "b -> self.j",
        "j(inputs) -> self.s",
        "s -> self.c, self.d",
        "c -> self.k",
        "d -> self.k",
        "k(inputs) -> self.end",
        "end",
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_flow_passes(flow_of, name):
    checked(flow_of, flow_source(*GOOD[name]))


BAD = {
    "no step": ("pass", "Flow 'Flow' has no steps"),
    "no start": (("a -> self.end", "end"), "has no start step.*It has: a, end"),
    "no end": (("start -> self.a", "a -> self.start"), "has no end step"),
    "no end after the only step": (
        ("start -> self.foo",),
        "Step 'start' leads to 'foo', but is the only step of the flow.*up to one called 'end'",
    ),
    "a join of a foreach that lacks its inputs": (
        ("start -> self.a, foreach='xs'", "a -> self.j", "j -> self.end", "end"),
        r"split of 'start' is still open. Write 'def j\(self, inputs\)' if 'j' is to join them. Add a join step",
    ),
    "two starts": (
        ("@step(start=True) a -> self.z", "@step(start=True) b -> self.z", "@step(end=True) z"),
        r"Only one step can be marked with @step\(start=True\), but 'a' \(line 3\), 'b' \(line 7\) are",
    ),
    "two ends": (
        ("@step(start=True) a -> self.z", "@step(end=True) b", "@step(end=True) z"),
        r"Only one step can be marked with @step\(end=True\)",
    ),
    "marked start beside start": (
        ("@step(start=True) a -> self.end", "start -> self.end", "end"),
        r"Step 'a' is marked with @step\(start=True\), but there is also a step called 'start' \(line 7\)",
    ),
    "marked end beside end": (
        ("start -> self.z", "@step(end=True) z", "end"),
        r"Step 'z' is marked with @step\(end=True\), but there is also a step called 'end'",
    ),
    "start is reached": (
        ("start -> self.a", "a -> {1: self.start, 2: self.end}, condition='c'", "end"),
        "Step 'a' leads to 'start', the first step",
    ),
    "start repeats": (
        ("start -> {1: self.start, 2: self.end}, condition='c'", "end"),
        "leads to 'start', the first",
    ),
    "end goes on": (
        ("start -> self.end", "end -> self.start"),
        "Step 'end' is the last.*can't have a self.next",
    ),
    "end goes on within": (
        "@step\ndef only(self):\n    if self.x:\n        self.next(self.only)\n    return",
        "Step 'only' is the last.*can't have a self.next",
    ),
    "end joins": (("start -> self.end", "end(inputs)"), "Step 'end' is the last.*can't take 'inputs'"),
    "upper case": (("start -> self.A", "A -> self.end", "end"), "Step name 'A' is not allowed"),
    "leading underscore": (("start -> self._a", "_a -> self.end", "end"), "Step name '_a' is not allowed"),
    "umlaut": (("start -> self.größe", "größe -> self.end", "end"), "Step name 'größe' is not allowed"),
    "three arguments": (
        ("start -> self.a", "a(x, y) -> self.end", "end"),
        r"'a' takes the arguments \(self, x, y\)",
    ),
    "star arguments": (
        ("start -> self.a", "a(*xs) -> self.end", "end"),
        r"'a' takes the arguments \(self, \*xs\)",
    ),
    "keyword argument": (
        ("start -> self.a", "a(*, x) -> self.end", "end"),
        r"'a' takes the arguments \(self, \*x\)",
    ),
    "no arguments": (
        "@step\ndef start(): self.next(self.end)\n@step\ndef end(self): pass",
        "'start' is missing self",
    ),
    "a join that splits": (
        ("start -> self.j", "j(inputs) -> self.a, self.b", "a -> self.end", "b -> self.end", "end"),
        "Step 'j' is both a join step and a split step",
    ),
    "a join that is a foreach": (
        ("start -> self.j", "j(inputs) -> self.a, foreach='x'", "a -> self.end", "end"),
        "Step 'j' is both a join step and a split step",
    ),
    "a join that is a switch": (
        ("start -> self.j", "j(inputs) -> {1: self.j, 2: self.end}, condition='c'", "end"),
        "Step 'j' is both a join step and a split step",
    ),
    "no next": (("start", "end"), "Step 'start' has no self.next"),
    "next in an if": (
        "@step\ndef start(self):\n    if self.x:\n        self.next(self.end)\n@step\ndef end(self): pass",
        "Step 'start' calls self.next.. on line 5, but not as its last statement",
    ),
    "code after next": (
        "@step\ndef start(self):\n    self.next(self.end)\n    print(1)\n@step\ndef end(self): pass",
        "Step 'start' calls self.next.. on line 4, but not as its last statement",
    ),
    "returned next": (
        "@step\ndef start(self):\n    return self.next(self.end)\n@step\ndef end(self): pass",
        "Step 'start' calls self.next.. on line 4, but not as its last statement",
    ),
    "next of something else": (
        "@step\ndef start(self):\n    it.next(self.end)\n@step\ndef end(self): pass",
        "Step 'start' has no self.next",
    ),
    "next of nothing": (("start -> ", "end"), "'start' has an invalid self.next.*names no step"),
    "next of a name": (
        ("start -> end", "end"),
        "'start' has an invalid self.next.*'end' is not a step such as",
    ),
    "next of stars": (("start -> *self.xs", "end"), r"'start' has an invalid.*'\*self.xs' is not a step"),
    "next with stars": (("start -> self.end, **x", "end"), r"'start' has an invalid.*no keyword '\*\*'"),
    "unknown keyword": (("start -> self.end, fore='x'", "end"), "'start' has an invalid.*no keyword 'fore'"),
    "the same branch twice": (
        ("start -> self.end, self.end", "end"),
        "'start' has an invalid.*'end' more than once",
    ),
    "foreach of a variable": (
        ("start -> self.end, foreach=xs", "end"),
        "foreach=xs has to be the name of an",
    ),
    "foreach of two": (("start -> self.a, self.b, foreach='x'", "end"), "exactly one step, not to 2"),
    "foreach and condition": (
        ("start -> {1: self.end}, foreach='x', condition='c'", "end"),
        "foreach and condition exclude each other",
    ),
    "condition is no literal": (
        ("start -> {1: self.end}, condition=c", "end"),
        "condition=c has to be the name",
    ),
    "dict and a step": (
        ("start -> {1: self.a}, self.end, condition='c'", "end"),
        "one dict of cases and no other",
    ),
    "case of a name": (
        ("start -> {K: self.a, 2: self.b}, condition='c'", "end"),
        "the case 'K' is not a literal",
    ),
    "case of a float": (("start -> {1.5: self.a}, condition='c'", "end"), "the case '1.5' is not a literal"),
    "case of None": (("start -> {None: self.a}, condition='c'", "end"), "the case 'None' is not a literal"),
    "case of config": (
        ("start -> {self.config.k: self.a}, condition='c'", "end"),
        "the case 'self.config.k' is not",
    ),
    "spread cases": (("start -> {**cases}, condition='c'", "end"), r"the case '\*\*' is not a literal"),
    "case to a name": (("start -> {1: a}, condition='c'", "end"), "'a' is not a step such as self.train"),
    "case twice": (
        ("start -> {1: self.a, True: self.b}, condition='c'", "end"),
        "the case True occurs twice",
    ),
    "num_parallel": (
        ("start -> self.a, num_parallel=2", "a -> self.j", "j(inputs) -> self.end", "end"),
        "Step 'start' has an invalid self.next..: num_parallel is not supported yet, use foreach",
    ),
    "no condition": (
        ("start -> {1: self.a, 2: self.end}", "a -> self.end", "end"),
        "'start' has no condition",
    ),
    "no cases": (("start -> {}, condition='c'", "end"), "'start' has a condition but no cases"),
    "no dict": (("start -> self.end, condition='c'", "end"), "'start' has a condition but no cases"),
    "one case": (("start -> {1: self.end}, condition='c'", "end"), "'start' leads only to 'end'"),
    "two cases of one step": (
        ("start -> {1: self.end, 2: self.end}, condition='c'", "end"),
        "leads only to 'end'",
    ),
    "unknown step": (("start -> self.nowhere", "end"), "'start' leads to 'nowhere', which is not a step"),
    "undecorated step": (
        "@step\ndef start(self): self.next(self.a)\ndef a(self): pass\n@step\ndef end(self): pass",
        "'start' leads to 'a', which is not a step.*is its @step missing",
    ),
    "loop": (("start -> self.a", "a -> self.b", "b -> self.a", "end"), "a loop in the flow: a -> b -> a"),
    "linear step that repeats": (("start -> self.a", "a -> self.a", "end"), "a loop in the flow: a -> a"),
    "foreach that repeats": (
        ("start -> self.a", "a -> self.a, foreach='x'", "end"),
        "a loop in the flow: a -> a",
    ),
    "loop through a switch": (
        ("start -> self.a", "a -> self.b", "b -> {1: self.a, 2: self.end}, condition='c'", "end"),
        "a loop in the flow: a -> b -> a",
    ),
    "loop seen from behind it": (
        (
            "start -> self.c",
            "d -> self.end",
            "c -> {1: self.e, 2: self.d}, condition='x'",
            "e -> self.c",
            "end",
        ),
        "a loop in the flow: e -> c -> e|a loop in the flow: c -> e -> c",
    ),
    "orphan": (("start -> self.end", "a -> self.end", "end"), "Step 'a' can't be reached from 'start'"),
    "orphaned end": (
        ("start -> self.a", "a -> {1: self.a, 2: self.a}, condition='c'", "end"),
        "leads only to 'a'",
    ),
    "foreach into a join": (
        ("start -> self.j, foreach='x'", "j(inputs) -> self.end", "end"),
        "'start' leads directly",
    ),
    "switch into a join": (
        (
            "start -> self.a, self.b",
            "a -> {1: self.x, 2: self.j}, condition='c'",
            "x -> self.j",
            "b -> self.j",
            "j(inputs) -> self.end",
            "end",
        ),
        "Switch step 'a' leads directly into the join 'j'",
    ),
    "forgotten inputs": (
        ("start -> self.a, self.b", "a -> self.j", "b -> self.j", "j -> self.end", "end"),
        "Step 'j' is reached from several branches of 'start' .through 'a' and 'b'.*def j.self, inputs",
    ),
    "into a foreach from outside": (
        (
            "start -> {1: self.fan, 2: self.body}, condition='c'",
            "fan -> self.body, foreach='x'",
            "body -> self.j",
            "j(inputs) -> self.end",
            "end",
        ),
        "Step 'body' is reached from 'start' and from 'fan', but the one is within no split, the other within "
        "the split of 'fan'",
    ),
    "end in a split": (
        ("start -> self.a, self.b", "a -> self.end", "b -> self.end", "end"),
        "'start' is still open",
    ),
    "end in a foreach": (
        ("start -> self.a, foreach='x'", "a -> self.end", "end"),
        "'end' is reached from 'a' while",
    ),
    "end in a case of a branch": (
        (
            "start -> self.a, foreach='x'",
            "a -> {1: self.b, 2: self.end}, condition='c'",
            "b -> self.j",
            "j(inputs) -> self.end",
            "end",
        ),
        "'end' is reached from 'a' while the split of 'start' is still open",
    ),
    "join without split": (
        ("start -> self.j", "j(inputs) -> self.end", "end"),
        "Join step 'j' has no split to close",
    ),
    "start is a join": (("start(inputs) -> self.end", "end"), "Join step 'start' has no split to close"),
    "one join too many": (
        (*SPLIT[:3], "join(inputs) -> self.k", "k(inputs) -> self.end", "end"),
        "Join step 'k' has no split to close on the way through 'join'",
    ),
    "a branch too few": (
        (
            "start -> self.a, self.b, self.c",
            "a -> self.j",
            "b -> self.j",
            "j(inputs) -> self.k",
            "c -> self.k",
            "k(inputs) -> self.end",
            "end",
        ),
        "Join step 'j' joins only some branches of 'start'. Missing: 'c'",
    ),
    "split into its join": (
        ("start -> self.a, self.j", "a -> self.j", "j(inputs) -> self.end", "end"),
        "Step 'start' splits directly into the join 'j'",
    ),
    "unrelated splits": (
        (
            "start -> {1: self.s, 2: self.t}, condition='c'",
            "s -> self.a, self.b",
            "t -> self.x, self.y",
            "a -> self.j",
            "b -> self.j",
            "x -> self.j",
            "y -> self.j",
            "j(inputs) -> self.end",
            "end",
        ),
        "Join step 'j' joins steps of unrelated splits: 'a' is within the split of 's', 'x' within the split of 't'",
    ),
    "two splits with one join": (
        (
            "start -> self.t, self.a",
            "t -> self.p, self.q",
            "p -> self.j",
            "q -> self.j",
            "a -> self.j",
            "j(inputs) -> self.end",
            "end",
        ),
        "Join step 'j' joins steps of unrelated splits",
    ),
    "two joins of one foreach": (
        (
            "start -> self.a, foreach='x'",
            "a -> {1: self.p, 2: self.q}, condition='c'",
            "p -> self.j",
            "q -> self.k",
            "j(inputs) -> self.end",
            "k(inputs) -> self.end",
            "end",
        ),
        "The branches of 'start' are joined in 'j' and in 'k'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_flow_is_told_what_is_wrong_and_where(flow_of, name):
    steps, message = BAD[name]
    source = steps if isinstance(steps, str) else flow_source(*steps)
    flow = flow_of(source)

    with pytest.raises(LintWarn, match=message) as caught:
        lint.check(Graph.of(flow))

    assert caught.value.headline == "Validity checker found an issue"
    if name != "no step":
        assert caught.value.source_file.startswith("<flow")
        assert 1 <= caught.value.line_no <= source.count("\n") + 2


@pytest.mark.parametrize("name", sorted(lint.RESERVED))
def test_a_reserved_word_is_no_step_name(flow_of, name):
    with pytest.raises(LintWarn, match=f"Step name '{name}' is a reserved word"):
        checked(flow_of, flow_source(f"start -> self.{name}", f"{name} -> self.end", "end"))


def test_all_that_every_flow_has_is_reserved():
    assert {name for name in dir(FlowSpec) if not name.startswith("_")} <= lint.RESERVED


def test_the_line_is_that_of_the_next_or_of_the_def(flow_of):
    def line_of(*steps):
        with pytest.raises(LintWarn) as caught:
            checked(flow_of, flow_source(*steps))
        return caught.value.line_no

    assert line_of("start -> self.nowhere", "end") == 4
    assert line_of("start -> self.end", "A -> self.end", "end") == 7


def test_every_rule_is_a_function_that_says_what_holds():
    assert all(rule.__doc__ and rule.__doc__.endswith(".") for rule in lint.RULES)


class Drawn:
    """Writes a flow of nested blocks, and remembers which join closes which split."""

    def __init__(self):
        self.steps = {}
        self.joins = {}

    def new(self, kind):
        name = f"{kind}{len(self.steps)}"
        self.steps[name] = ""
        return name

    def write(self, block, after):
        """Write the steps of a block that is followed by step ``after``; return its first step."""
        kind, children = block
        first = self.new(kind)
        if kind == "task":
            self.steps[first] = f"{first} -> self.{after}"
        elif kind == "loop":
            self.steps[first] = (
                f"{first} -> {{1: self.{first}, 2: self.{self.write(('task', []), after)}}}, condition='c'"
            )
        elif kind == "switch":
            heads = [self.sequence(child, after) for child in children]
            cases = ", ".join(f"{i}: self.{head}" for i, head in enumerate(heads))
            self.steps[first] = f"{first} -> {{{cases}}}, condition='c'"
        else:
            join = self.joins[first] = self.new("join")
            self.steps[join] = f"{join}(inputs) -> self.{after}"
            heads = [self.sequence(child, join) for child in children]
            how = ", foreach='xs'" if kind == "foreach" else ""
            self.steps[first] = f"{first} -> {', '.join('self.' + head for head in heads)}{how}"
        return first

    def sequence(self, blocks, after):
        for block in reversed(blocks):
            after = self.write(block, after)
        return after


def block_of(blocks):
    # Each sequence ends in a task, since a switch may not lead into a join.
    inside = st.lists(blocks, max_size=2).map(lambda drawn: [*drawn, ("task", [])])
    return st.one_of(
        st.tuples(st.just("split"), st.lists(inside, min_size=2, max_size=3)),
        st.tuples(st.just("switch"), st.lists(inside, min_size=2, max_size=3)),
        st.tuples(st.just("foreach"), st.lists(inside, min_size=1, max_size=1)),
    )


leaves = st.sampled_from([("task", []), ("loop", [])])
flows = st.lists(st.recursive(leaves, block_of, max_leaves=8), max_size=4)


def drawn_flow(blocks):
    drawn = Drawn()
    head = drawn.sequence(blocks, "end")
    return drawn, [f"start -> self.{head}", *drawn.steps.values(), "end"]


@given(flows)
def test_every_well_nested_flow_passes_and_its_joins_are_found(flow_of, blocks):
    drawn, steps = drawn_flow(blocks)

    graph = checked(flow_of, flow_source(*steps))

    assert {node.name: node.matching_join for node in graph if node.splits} == drawn.joins
    for split, join in drawn.joins.items():
        assert graph[join].branches == graph[split].branches
    flat = str(graph.info()["graph_structure"])
    assert all(flat.count(f"'{name}'") == 1 for name in graph.nodes)


@given(flows.filter(lambda blocks: drawn_flow(blocks)[0].joins), st.data())
def test_no_flow_passes_when_a_join_forgets_its_inputs(flow_of, blocks, data):
    drawn, steps = drawn_flow(blocks)
    join = data.draw(st.sampled_from(sorted(drawn.joins.values())))
    steps = [text.replace(f"{join}(inputs)", join) for text in steps]

    with pytest.raises(LintWarn):
        checked(flow_of, flow_source(*steps))


@given(st.text("aZ_9é", min_size=1, max_size=4).filter(str.isidentifier))
def test_a_name_is_allowed_if_and_only_if_it_is_plain(flow_of, name):
    source = flow_source(f"@step(start=True) {name} -> self.end", "end")

    if set(name) <= set("a_9") and not name.startswith("_"):
        checked(flow_of, source)
    else:
        with pytest.raises(LintWarn, match=f"{name}' is not allowed"):
            checked(flow_of, source)


def test_source_for_tests_is_written_as_meant():
    assert flow_source("@step(end=True) j(inputs) -> self.a") == textwrap.dedent(
        """\
        @step(end=True)
        def j(self, inputs):
            self.next(self.a)
        """
    )
