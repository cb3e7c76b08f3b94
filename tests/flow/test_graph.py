import functools
import json
import linecache

import pytest

from daskflow.errors import LintWarn
from daskflow.flow.decorator import StepDecorator
from daskflow.flow.graph import Graph

LINEAR = """
@step
def start(self):
    self.next(self.middle)

@step
def middle(self):
    self.next(self.end)

@step
def end(self):
    pass
"""

EVERYTHING = """
@step
def start(self):
    self.xs = [1, 2]
    self.next(self.body, foreach="xs")

@step
def body(self):
    self.next({"deep": self.loop, True: self.flat}, condition="how")

@step
def loop(self):
    self.next({"again": self.loop, "on": self.fan}, condition="more")

@step
def fan(self):
    self.next(self.right, self.left)

@step
def left(self):
    self.next(self.both)

@step
def right(self):
    self.next(self.both)

@step
def both(self, inputs):
    self.next(self.merged)

@step
def flat(self):
    self.next(self.merged)

@step
def merged(self):
    self.next(self.inner, foreach="ys")

@step
def inner(self):
    self.next(self.inner_join)

@step
def inner_join(self, inputs):
    self.next(self.join)

@step
def join(self, inputs):
    self.next(self.end)

@step
def end(self):
    pass
"""


def test_a_graph_is_a_collection_of_its_nodes(flow_of):
    graph = Graph.of(flow_of(LINEAR))

    assert [node.name for node in graph] == ["start", "middle", "end"]
    assert len(graph) == 3
    assert "middle" in graph
    assert "center" not in graph
    assert graph["middle"].targets == ("end",)
    assert graph["middle"].in_nodes == ("start",)
    assert (graph.start, graph.end) == ("start", "end")


def test_each_form_of_next_gives_a_type(flow_of):
    graph = Graph.of(flow_of(EVERYTHING))

    assert {node.name: node.type for node in graph} == {
        "start": "foreach",
        "body": "switch",
        "loop": "switch",
        "fan": "split",
        "left": "linear",
        "right": "linear",
        "both": "join",
        "flat": "linear",
        "merged": "foreach",
        "inner": "linear",
        "inner_join": "join",
        "join": "join",
        "end": "end",
    }
    assert graph["start"].foreach == "xs"
    assert graph["fan"].targets == ("right", "left")
    assert graph["body"].condition == "how"
    assert graph["body"].cases == (("deep", "loop"), (True, "flat"))
    assert graph["body"].targets == ("loop", "flat")
    assert all(node.has_next and not node.problem for node in graph if node.name != "end")


def test_a_step_knows_the_splits_around_it(flow_of):
    graph = Graph.of(flow_of(EVERYTHING))

    assert {node.name: tuple(split for split, _ in node.branches) for node in graph} == {
        "start": (),
        "body": ("start",),
        "loop": ("start",),
        "fan": ("start",),
        "left": ("start", "fan"),
        "right": ("start", "fan"),
        "both": ("start",),
        "flat": ("start",),
        "merged": ("start",),
        "inner": ("start", "merged"),
        "inner_join": ("start",),
        "join": (),
        "end": (),
    }
    assert graph["left"].branches == (("start", "body"), ("fan", "left"))


def test_a_split_knows_its_join_and_a_join_its_split(flow_of):
    graph = Graph.of(flow_of(EVERYTHING))

    pairs = {"start": "join", "fan": "both", "merged": "inner_join"}
    assert {node.name: node.matching_join for node in graph if node.matching_join} == pairs
    assert {node.matching_split: node.name for node in graph if node.matching_split} == pairs


def test_the_inputs_of_a_join_are_in_the_order_of_the_branches(flow_of):
    assert Graph.of(flow_of(EVERYTHING))["both"].in_nodes == ("right", "left")


def test_a_recursive_switch_is_among_its_own_inputs(flow_of):
    graph = Graph.of(flow_of(EVERYTHING))

    assert graph["loop"].recursive
    assert not graph["body"].recursive
    assert graph["loop"].in_nodes == ("body", "loop")
    assert list(graph.arriving("loop")) == ["body"]


def test_steps_come_in_topological_order_whatever_their_order_in_the_source(flow_of):
    backwards = """
    @step
    def end(self): pass

    @step
    def join(self, inputs): self.next(self.end)

    @step
    def b(self): self.next(self.join)

    @step
    def a(self): self.next(self.join)

    @step
    def start(self): self.next(self.a, self.b)
    """
    assert [node.name for node in Graph.of(flow_of(backwards))] == ["start", "b", "a", "join", "end"]


def test_a_graph_of_a_flow_with_a_loop_can_still_be_read(flow_of):
    graph = Graph.of(
        flow_of(
            """
            @step
            def start(self): self.next(self.a)

            @step
            def a(self): self.next(self.b)

            @step
            def b(self): self.next(self.a)
            """
        )
    )

    assert [node.name for node in graph] == ["start", "a", "b"]
    assert graph.end == ""


def test_lines_are_those_of_the_file(flow_of):
    node = Graph.of(
        flow_of(
            """
            class Flow:

                @step
                def start(
                    self,
                ):
                    text = '''
                    self.next(self.nowhere)
                    '''
                    self.next(
                        self.end,
                    )

                @step
                def end(self):
                    pass
            """
        )
    )["start"]

    assert (node.line, node.next_line) == (4, 10)
    assert node.source_file.startswith("<flow")


def test_a_graph_knows_name_file_line_and_docstrings_of_its_flow(flow_of):
    graph = Graph.of(
        flow_of(
            '''
            import math

            class Tides(object):
                """When the water comes.

                And how much.
                  A table.
                """

                @step
                def moon(self):
                    """
                    Where is it?
                      Up there.
                    """
            '''
        )
    )

    assert graph.name == "Tides"
    assert graph.line == 3
    assert graph.file == graph["moon"].source_file
    assert graph.doc == "When the water comes.\n\nAnd how much.\n  A table."
    assert graph["moon"].doc == "Where is it?\n  Up there."


def test_a_flow_without_docstrings_has_empty_ones(flow_of):
    graph = Graph.of(flow_of(LINEAR))

    assert graph.doc == ""
    assert graph["start"].doc == ""


def test_the_only_step_of_a_flow_is_its_start_and_end(flow_of):
    graph = Graph.of(flow_of("@step\ndef only(self):\n    self.x = 1"))

    assert (graph.start, graph.end) == ("only", "only")
    assert graph["only"].type == "end"
    assert not graph["only"].has_next


def test_any_step_can_be_marked_as_start_and_end(flow_of):
    graph = Graph.of(
        flow_of(
            """
            @step(start=True, node_info={"owner": "tides"})
            def first(self): self.next(self.last)

            @step(end=True)
            def last(self): pass
            """
        )
    )

    assert (graph.start, graph.end) == ("first", "last")
    assert graph["last"].type == "end"
    assert graph["first"].node_info == {"owner": "tides"}


@pytest.mark.parametrize(
    ("call", "label"), [("'x'", "x"), ("3", 3), ("-1", -1), ("True", True), ("'a' 'b'", "ab"), ("''", "")]
)
def test_a_case_is_any_literal_string_integer_or_boolean(flow_of, call, label):
    source = f"@step\ndef start(self): self.next({{{call}: self.a, 'other': self.b}}, condition='c')"
    ((found, target), _) = Graph.of(flow_of(source))["start"].cases

    assert (found, type(found), target) == (label, type(label), "a")


def test_self_may_have_another_name(flow_of):
    node = Graph.of(flow_of("@step\ndef start(this): this.next(this.end)"))["start"]

    assert node.targets == ("end",)


def test_decorators_are_listed_with_their_options(flow_of):
    class again(StepDecorator):
        name = "again"
        defaults = {"times": 1}  # noqa: RUF012 - as the base class says

    flow = flow_of(LINEAR)
    again(times=3)(flow.middle)

    assert Graph.of(flow)["middle"].decorators == ({"name": "again", "options": {"times": 3}},)


def test_a_wrapped_step_is_read_from_what_it_wraps(flow_of):
    def logged(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args)

        return wrapper

    source = """
    class Flow:
        @logged
        @step
        def start(self):
            self.next(self.end)

        @step
        @logged
        def end(self):
            pass
    """
    graph = Graph.of(flow_of(source, logged=logged))

    assert graph["start"].targets == ("end",)
    assert graph["start"].line == 4
    assert graph["end"].arguments == ("self",)


def test_steps_are_inherited_through_diamonds_and_overridden(flow_of):
    graph = Graph.of(
        flow_of(
            """
            class Base:
                @step
                def start(self): self.next(self.work)

                @step
                def work(self): self.next(self.end)

                @step
                def end(self): pass

            class Left(Base):
                @step
                def work(self):
                    "left"
                    self.next(self.more)

            class Right(Base):
                @step
                def work(self):
                    "right"
                    self.next(self.end)

                @step
                def more(self): self.next(self.end)

            class Both(Left, Right):
                pass
            """
        )
    )

    assert graph.name == "Both"
    assert [node.name for node in graph] == ["start", "work", "more", "end"]
    assert graph["work"].doc == "left"


def test_what_is_overridden_by_something_else_is_no_step(flow_of):
    graph = Graph.of(
        flow_of(
            """
            class Base:
                @step
                def start(self): pass

                @step
                def extra(self): pass

            class Flow(Base):
                extra = None
            """
        )
    )

    assert [node.name for node in graph] == ["start"]


def test_a_base_class_may_be_in_another_file(flow_of):
    base = flow_of("@step\ndef start(self): self.next(self.end)")
    flow = flow_of("class Flow(Base):\n    @step\n    def end(self): pass", Base=base)
    graph = Graph.of(flow)

    assert graph.file == graph["end"].source_file
    assert graph["start"].source_file != graph.file


def test_each_file_is_read_once(flow_of, monkeypatch):
    flow = flow_of(EVERYTHING)
    read = []
    getlines = linecache.getlines
    monkeypatch.setattr(linecache, "getlines", lambda *args: read.append(args[0]) or getlines(*args))

    graph = Graph.of(flow)

    assert read == [graph.file]


def test_a_flow_without_source_is_refused_with_the_step(flow_of):
    flow = flow_of(LINEAR)
    linecache.cache.pop(flow.start.__code__.co_filename)

    with pytest.raises(LintWarn, match="source of step 'start' can't be read"):
        Graph.of(flow)


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ("# a comment\n" + LINEAR, "definition of step 'start' is not where it was"),
        ("def (", "source of step 'start' can't be parsed"),
    ],
)
def test_a_file_that_changed_since_its_import_is_refused(flow_of, now, message):
    flow = flow_of(LINEAR)
    file = flow.start.__code__.co_filename
    linecache.cache[file] = (len(now), None, now.splitlines(keepends=True), file)

    with pytest.raises(LintWarn, match=message) as caught:
        Graph.of(flow)
    assert caught.value.source_file == file


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("@step\nasync def start(self): pass", "'start' is an async function"),
        ("start = step(lambda self: None)", "'start' is not where it was|not written as a 'def'"),
    ],
)
def test_a_step_that_is_no_plain_function_is_refused(flow_of, source, message):
    with pytest.raises(LintWarn, match=message):
        Graph.of(flow_of(source))


def test_the_info_has_all_a_reader_without_the_code_needs(flow_of):
    graph = Graph.of(flow_of(EVERYTHING))
    info = graph.info(
        parameters=[{"name": "alpha", "type": "float"}],
        constants=[{"name": "N"}],
        decorators=[{"name": "project"}],
    )

    assert json.loads(json.dumps(info)) == info
    assert info["file"] == graph.file
    assert (info["start_step"], info["end_step"]) == ("start", "end")
    assert info["parameters"] == [{"name": "alpha", "type": "float"}]
    assert info["constants"] == [{"name": "N"}]
    assert info["decorators"] == [{"name": "project"}]
    assert info["extensions"] == {}
    assert list(info["steps"]) == list(graph.nodes)
    assert info["steps"]["start"] == {
        "name": "start",
        "type": "foreach",
        "line": 3,
        "source_file": graph.file,
        "doc": "",
        "decorators": [],
        "next": ["body"],
        "node_info": {},
        "foreach_artifact": "xs",
        "matching_join": "join",
    }
    assert info["steps"]["body"]["condition"] == "how"
    assert info["steps"]["body"]["switch_cases"] == {"deep": "loop", "True": "flat"}


def test_the_info_has_the_structure_of_the_flow(flow_of):
    assert Graph.of(flow_of(EVERYTHING)).info()["graph_structure"] == [
        "start",
        [
            [
                "body",
                [["loop", "fan", [["right"], ["left"]], "both"], ["flat"]],
                "merged",
                [["inner"]],
                "inner_join",
            ]
        ],
        "join",
        "end",
    ]


def test_cases_that_look_alike_are_told_apart_in_the_info(flow_of):
    source = """
    @step
    def start(self): self.next({"1": self.a, 1: self.b}, condition="c")

    @step
    def a(self): self.next(self.end)

    @step
    def b(self): self.next(self.end)

    @step
    def end(self): pass
    """
    assert Graph.of(flow_of(source)).info()["steps"]["start"]["switch_cases"] == {"'1'": "a", "1": "b"}


def test_what_json_does_not_have_becomes_its_repr_in_the_info(flow_of):
    info = Graph.of(flow_of("@step(node_info={'unit': {1}.__class__})\ndef only(self): pass")).info()

    assert info["steps"]["only"]["node_info"] == {"unit": "<class 'set'>"}


def test_dot_shows_shapes_edges_and_cases(flow_of):
    dot = Graph.of(flow_of(EVERYTHING)).to_dot()

    assert dot.startswith('digraph "Flow" {\n')
    assert dot.endswith("}\n")
    assert '  "start" [label="start\\nforeach xs", shape=box, peripheries=2];\n' in dot
    assert '  "body" [label="body\\nby how", shape=diamond];\n' in dot
    assert '  "body" -> "flat" [label="True"];\n' in dot
    assert '  "loop" -> "loop" [label="again"];\n' in dot
    assert '  "both" -> "merged";\n' in dot
    assert dot.count("->") == 15


def test_dot_escapes_quotes_and_joins_cases_of_one_step(flow_of):
    source = """
    @step
    def start(self): self.next({'say "hi"': self.a, "back\\\\slash": self.a, 3: self.b}, condition="c")
    """
    dot = Graph.of(flow_of(source)).to_dot()

    assert '"start" -> "a" [label="say \\"hi\\", back\\\\slash"];' in dot
