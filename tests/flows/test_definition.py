"""How a flow may be written: a class of steps, its bases, its decorators, its file."""

from __future__ import annotations

import json
import re

import pytest

LOOKED_AT = """
    import json
    from daskflow import FlowSpec, Parameter, step

    class Other(FlowSpec):
        @step
        def start(self):
            self.next(self.end)

        @step
        def end(self):
            pass

    class LookedAt(FlowSpec):
        p = Parameter("p", default=1)

        def __init__(self, use_cli=True):
            self.set_early = "by __init__"
            super().__init__(use_cli)

        @step
        def start(self):
            self.next(self.middle)

        @step
        def middle(self):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        flow = LookedAt(use_cli=False)
        try:
            flow.p
        except AttributeError as error:
            said = str(error)
        print(json.dumps({
            "steps": [step.name for step in flow], "name": flow.name, "graph": sorted(s.name for s in flow._graph),
            "other": [step.name for step in Other(use_cli=False)], "p": said, "missing": hasattr(flow, "nothing"),
            "early": flow.set_early, "index": [flow.index, flow.input, flow.foreach_stack()],
        }))
"""


def test_a_flow_can_be_looked_at_without_running_it(workspace):
    place = workspace()
    place.write(LOOKED_AT)

    result = place.call("flow.py")

    assert result.returncode == 0, result.text
    assert json.loads(result.stdout) == {
        "steps": ["start", "middle", "end"],
        "name": "LookedAt",
        "graph": ["end", "middle", "start"],
        "other": ["start", "end"],
        "p": "Parameter 'p' has a value only while a task runs.",
        "missing": False,
        "early": "by __init__",
        "index": [None, None, []],
    }


BASES = """
    from daskflow import FlowSpec, Parameter, StepDecorator, step

    class note(StepDecorator):
        name = "note"
        defaults = {"text": "bare"}

    class Mixin:
        MIXED = "mixed in"

        def shout(self):
            return self.word.upper()

        @property
        def doubled(self):
            return self.word * 2

    class Root(FlowSpec):
        \"\"\"The root's text.\"\"\"
        root = Parameter("root", default="r")
        LEVEL = "root"

        @note
        @step
        def start(self):
            self.word = "word"
            self.next(self.middle)

        @step
        def middle(self):
            self.by = "root"
            self.next(self.end)

        @step
        def end(self):
            pass

    class Left(Root):
        left = Parameter("left", default="l")

        @note()
        @step
        def middle(self):
            self.by = "left"
            self.next(self.end)

    class Right(Root):
        LEVEL = "right"

        @note(text="called")
        @step
        def end(self):
            self.end_by = "right"
"""

DIAMOND = """
    from bases import Left, Mixin, Right
    from daskflow import Parameter, step

    class Diamond(Mixin, Left, Right):
        \"\"\"A flow of many bases.

            Indented.
        \"\"\"
        own = Parameter("own", default="o")

        @step(node_info={"any": "thing"})
        def start(self):
            \"\"\"Begin.\"\"\"
            self.word = "diamond"
            self.seen = (self.shout(), self.doubled, self.LEVEL, self.MIXED, self.root, self.left, self.own)
            self.graph = self._graph_info
            self.next(self.middle)

    if __name__ == "__main__":
        Diamond()
"""


def test_steps_parameters_constants_and_helpers_are_inherited(workspace):
    place = workspace()
    place.write(BASES, "bases.py")
    place.write(DIAMOND)

    result = place.call("flow.py", "run", "--left", "L", flow="Diamond")

    assert result.returncode == 0, result.text
    assert result.value("start", "seen") == ("DIAMOND", "diamonddiamond", "right", "mixed in", "r", "L", "o")
    assert (result.value("end", "by"), result.value("end", "end_by")) == ("left", "right")
    info = result.value("start", "graph")
    assert info == result.value("end", "_graph_info")
    assert (info["start_step"], info["end_step"], info["file"]) == ("start", "end", "flow.py")
    assert info["doc"] == "A flow of many bases.\n\nIndented."
    assert info["steps"]["start"]["doc"] == "Begin."
    assert info["steps"]["start"]["node_info"] == {"any": "thing"}
    assert info["steps"]["start"]["next"] == ["middle"]
    assert info["steps"]["middle"]["decorators"] == [{"name": "note", "options": {"text": "bare"}}]
    assert info["steps"]["end"]["decorators"] == [{"name": "note", "options": {"text": "called"}}]
    assert info["graph_structure"] == ["start", "middle", "end"]
    assert {c["name"] for c in info["constants"]} == {"LEVEL", "MIXED"}


MARKED = """
    from daskflow import FlowSpec, step

    class Marked(FlowSpec):
        @step(start=True)
        def alpha(self):
            self.x = 1
            self.next(self.omega)

        @step(end=True)
        def omega(self):
            self.x += 1

    if __name__ == "__main__":
        Marked()
"""

SINGLE = """
    from daskflow import FlowSpec, step

    class Single(FlowSpec):
        @step{call}
        def only(self):
            self.x = 2

    if __name__ == "__main__":
        Single()
"""


def test_any_step_may_be_the_first_and_any_the_last(run_flow):
    result = run_flow(MARKED)

    assert result.value("omega", "x") == 2
    assert (result.run().record()["start_step"], result.run().record()["end_step"]) == ("alpha", "omega")


@pytest.mark.parametrize("call", ["", "()", "(start=True, end=True)"])
def test_a_flow_may_have_a_single_step(run_flow, call):
    result = run_flow(SINGLE.format(call=call))

    assert result.value("only", "x") == 2
    assert result.status() == "successful"


WRONG_ORDER = """
    from daskflow import FlowSpec, StepDecorator, step

    class note(StepDecorator):
        name = "note"
        defaults = {{"text": ""}}

    class Wrong(FlowSpec):
        {above}
        def start(self):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Wrong()
"""


@pytest.mark.parametrize(
    ("above", "error"),
    [
        (("@step", "@note"), "@note on 'start' must stand above @step"),
        (("@step", "@note(text='x')"), "@note on 'start' must stand above @step"),
        (
            ("@note", "@note(text='x')", "@step"),
            "Step 'start' has @note twice",
        ),
        (
            ("@note(txt='x')", "@step"),
            "@note has no option txt; its options are: text",
        ),
        (("@note('x')", "@step"), "@note takes its options by name"),
    ],
)
def test_a_decorator_written_wrongly_is_refused_where_it_stands(run_flow, above, error):
    lines = "\n        ".join(above)

    result = run_flow(WRONG_ORDER.format(above=lines), expect=1)

    assert error in result.stderr
    assert re.search(r"flow\.py on line [89]:", result.stderr)
    assert "Traceback" not in result.stderr


PACKAGE = {
    "pipe/__init__.py": "",
    "pipe/flow.py": """
        from daskflow import FlowSpec, step
        from .parts import helper
        from . import parts

        class Packed(FlowSpec):
            @step
            def start(self):
                self.x = helper(20)
                self.made = parts.Thing()
                self.where = (__name__, __package__)
                self.next(self.end)

            @step
            def end(self):
                from pipe.late import late
                self.late = late
                self.same = type(self.made) is parts.Thing

        if __name__ == "__main__":
            Packed()
    """,
    "pipe/parts.py": """
        class Thing:
            pass

        def helper(x):
            return x * 2
    """,
    "pipe/late.py": "late = 'imported in a step'",
}


def test_a_flow_can_be_a_module_of_a_package(workspace):
    place = workspace()
    for name, source in PACKAGE.items():
        place.write(source, name)

    result = place.call("-m", "pipe.flow", "run", flow="Packed")

    assert result.returncode == 0, result.text
    assert result.value("end", "x") == 40
    assert result.value("end", "where") == ("__main__", "pipe")
    assert result.value("end", "late") == "imported in a step"
    assert result.value("end", "same") is True
    assert "python -m pipe.flow" in place.call("-m", "pipe.flow", "--help").stdout


def test_a_flow_in_a_folder_and_a_file_of_any_name_under_any_flags(workspace):
    place = workspace()
    place.write(
        MARKED.replace("self.x += 1", "self.x += 1\n            self.debug = __debug__"),
        "my flöws & co/мой flow.py",
    )

    result = place.call("-O", "-X", "utf8", "my flöws & co/мой flow.py", "run", flow="Marked")

    assert result.returncode == 0, result.text
    assert result.value("omega", "debug") is False
    assert result.value("omega", "x") == 2


DRIVEN = """
    from bases import Root

    if __name__ == "__main__":
        Root()
"""


def test_a_flow_can_be_started_from_a_file_that_imports_it(workspace):
    place = workspace()
    place.write(BASES, "bases.py")
    place.write(DRIVEN)

    result = place.call("flow.py", "run", flow="Root")

    assert result.returncode == 0, result.text
    assert result.value("end", "by") == "root"


BROKEN = {
    "1 / 0": (1, "ZeroDivisionError"),
    "import no_such_module_of_mine": (1, "ModuleNotFoundError"),
    "def broken(:": (1, "SyntaxError"),
}


@pytest.mark.parametrize("line", BROKEN)
def test_a_file_that_can_not_be_loaded_fails_as_any_program(workspace, line):
    place = workspace()
    place.write(f"{line}\n" + MARKED.replace("\n    ", "\n"))

    result = place.call("flow.py", "run")

    status, words = BROKEN[line]
    assert result.returncode == status
    assert words in result.stderr
    assert not place.store.exists()


def test_a_second_flow_at_the_end_of_the_file_is_not_run(run_flow):
    result = run_flow(MARKED.replace("        Marked()", "        Marked()\n        Marked()"))

    assert result.run(1).record()["run"] == "1"
    assert not result.store.exists("Marked/2")


def test_a_flow_that_starts_no_command_line_is_just_a_program(workspace):
    place = workspace()
    place.write(MARKED.replace("Marked()", "print('loaded')"))

    result = place.call("flow.py", "run")

    assert (result.returncode, result.stdout.strip()) == (0, "loaded")
