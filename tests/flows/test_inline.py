"""`run --cluster inline`: all tasks in the process of the command, so that a person can look into them."""

from __future__ import annotations

import pytest
from terminals import at_terminal

STOPPING = """
    from daskflow import FlowSpec, step

    class Stopping(FlowSpec):
        @step
        def start(self):
            x = 41
            breakpoint()
            self.y = x + 1
            self.next(self.end)

        @step
        def end(self):
            print("y is", self.y)

    if __name__ == "__main__":
        Stopping()
"""

FRAGILE = """
    import os
    import pathlib
    import time
    from daskflow import FlowSpec, catch, current, environment, retry, step, timeout

    class Fragile(FlowSpec):
        @step
        def start(self):
            self.items = [0, 1, 2, 3]
            self.next(self.work, foreach="items")

        @catch(var="problem")
        @retry(times=1, minutes_between_retries=0)
        @timeout(seconds=1)
        @environment(vars={"COLOUR": "red"})
        @step
        def work(self):
            print("item", self.input, "in", os.getpid(), "attempt", current.retry_count)
            self.colour = os.environ["COLOUR"]
            if self.input == 1 and current.retry_count == 0:
                raise ValueError("once")
            if self.input == 2:
                raise ValueError("always")
            while self.input == 3:
                time.sleep(0.01)
            self.next(self.join)

        @step
        def join(self, inputs):
            self.problems = [i.problem and i.problem.type for i in inputs]
            self.colours = [i.colour for i in inputs]
            self.colour_now = os.environ.get("COLOUR")
            self.next(self.check)

        @step
        def check(self):
            if not pathlib.Path("go").exists():
                raise KeyError("go")
            self.next(self.end)

        @step
        def end(self):
            print("in the end")

    if __name__ == "__main__":
        Fragile()
"""

INLINE = ("--cluster", "inline")


def test_a_breakpoint_in_a_step_opens_the_debugger_and_the_run_goes_on(workspace):
    place = workspace()
    place.write(STOPPING)

    status, text = at_terminal(place, ("flow.py", "run", *INLINE), ["p x", "x = 1", "c"])

    assert status == 0
    assert "-> self.y = x + 1\n(Pdb) " in text
    assert "\n41\n" in text
    assert "y is 2" in text
    assert "<up>" not in text, "nothing is drawn over the prompt"
    assert text.index("y is 2") < text.index("Done! Stopping/1: 2 tasks")
    assert "y [size: 1 type: int] = 2" in place.call("flow.py", "dump", "1/end").stdout


def test_leaving_the_debugger_fails_the_step(workspace):
    place = workspace()
    place.write(STOPPING)

    status, text = at_terminal(place, ("flow.py", "run", *INLINE), ["q"])

    assert status == 1
    assert "Step failure: Step start (task-id 0) failed: bdb.BdbQuit\n" in text
    assert "Stopping/1 failed" in text


@pytest.fixture(scope="module")
def fragile(workspace):
    """A run in which items failed once, always and by their time-out, and then a step that is not dealt with."""
    place = workspace()
    flow = place.write(FRAGILE)
    result = place.call("flow.py", "run", *INLINE, flow=flow)
    assert result.returncode == 1, result.text
    assert "Internal error" not in result.text
    return place, result


def test_retry_catch_timeout_and_environment_apply(fragile):
    _, result = fragile

    assert result.tasks("work") == ["0", "1", "2", "3"]
    assert result.record("work", "1").attempt == 1
    assert result.value("join", "problems") == [
        None,
        None,
        "builtins.ValueError",
        "daskflow.errors.TimeoutException",
    ]
    assert result.value("join", "colours") == ["red"] * 4
    assert result.value("join", "colour_now") is None


def test_all_steps_run_in_one_process_and_print_to_the_terminal(fragile):
    _, result = fragile

    lines = [line for line in result.stdout.splitlines() if line.startswith("item ")]
    assert len(lines) == 7
    assert len({line.split()[3] for line in lines}) == 1


def test_a_failure_is_told_as_ever_but_of_no_log(fragile):
    _, result = fragile

    assert "Step failure: Step check (task-id 0) failed: builtins.KeyError: 'go'" in result.stdout
    assert "KeyError: 'go'" in result.stderr
    assert "Its log" not in result.stdout
    assert "continue 1 " in result.stdout
    assert result.status() == "failed"
    assert result.failed("check").error["type"] == "builtins.KeyError"


@pytest.mark.parametrize("cluster", [INLINE, ()], ids=["inline", "local"])
@pytest.mark.parametrize("command", ["resume", "continue"])
def test_it_goes_on_inline_or_not(workspace, command, cluster):
    place = workspace()
    flow = place.write(FRAGILE.replace("[0, 1, 2, 3]", "[0]"))
    assert place.call("flow.py", "run", *INLINE).returncode == 1
    (place.folder / "go").touch()

    result = place.call("flow.py", command, *cluster, flow=flow)

    assert result.returncode == 0, result.text
    assert "in the end" in result.stdout
    assert "item" not in result.stdout, "what was committed is not run again"
