"""Decorators that others write for flows, and how mistakes in a flow's file are told."""

from __future__ import annotations

import pytest

LABELLED = """
    from daskflow import FlowDecorator, FlowSpec, step

    class label(FlowDecorator):
        name = "label"
        defaults = {"text": ""}

        def run_finished(self, flow_class, end):
            print(flow_class.__name__, end.pathspec, end.successful, self.options["text"], flush=True)
            raise ValueError("too late")

    @label(text="hello")
    class Base(FlowSpec):
        @step
        def start(self):
            self.next(self.end)

        @step
        def end(self):
            pass

    class Labelled(Base):
        pass

    if __name__ == "__main__":
        Labelled()
"""


def test_one_is_called_after_a_run_and_its_failure_is_told_and_changes_nothing(run_flow):
    result = run_flow(LABELLED)

    assert "Labelled Labelled/1 True hello\n" in result.stdout
    assert "@label: too late\n" in result.stderr
    assert result.status() == "successful"


def test_it_is_in_the_graph_that_the_run_keeps(run_flow):
    run = run_flow(LABELLED).run()

    info = run.load("_graph_info", run.parameters().artifacts["_graph_info"])

    assert info["decorators"] == [{"name": "label", "options": {"text": "hello"}}]


@pytest.mark.parametrize(
    ("written", "line", "told"),
    [
        ("@step\n@retry\ndef start(self): pass", 4, "@retry on 'start' must stand above @step"),
        ("@retry(tims=2)\n@step\ndef start(self): pass", 3, "@retry has no option tims"),
        ("@retry(2)\n@step\ndef start(self): pass", 3, "@retry takes its options by name, not 2"),
        ("@retry\n@retry\n@step\ndef start(self): pass", 3, "Step 'start' has @retry twice"),
        ("@retry\nclass Inner(FlowSpec): pass", 3, "@retry on 'Inner' must stand above @step"),
        ("@exit_hook\nclass Inner(FlowSpec): pass", 3, "@exit_hook calls nothing"),
        (
            "@exit_hook(on_error=[print])\ndef start(self): pass",
            3,
            "@exit_hook on 'start' must stand above a flow",
        ),
    ],
)
def test_a_mistake_that_ends_the_loading_is_told_in_place_without_a_traceback(workspace, written, line, told):
    place = workspace()
    body = "\n".join(f"    {each}" for each in written.splitlines())
    place.write(f"from daskflow import FlowSpec, exit_hook, retry, step\nclass Flow(FlowSpec):\n{body}\n")

    result = place.call("flow.py", "run")

    headline, text = result.stderr.splitlines()
    assert result.returncode == 1
    assert headline.endswith(f"in file {place.folder / 'flow.py'} on line {line}:")
    assert text.strip().startswith(told)


def test_other_errors_are_shown_as_python_shows_them(workspace):
    place = workspace()
    place.write("from daskflow import FlowSpec\nraise ValueError('mine')\n")

    result = place.call("flow.py", "run")

    assert result.returncode == 1
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert result.stderr.rstrip().endswith("ValueError: mine")
