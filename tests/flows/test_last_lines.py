"""The last lines of a run, and `logs` and `dump` of a whole run or of one that has only begun."""

from __future__ import annotations

import os
import signal

import pytest
from terminals import at_terminal

TABLES = """
    import pandas
    from daskflow import FlowSpec, step

    class Tables(FlowSpec):
        @step
        def start(self):
            self.before = pandas.DataFrame({"x": [1, 2]})
            print("in start")
            self.next(self.end)

        @step
        def end(self):
            self.last = pandas.DataFrame({"y": [3]})
            print("in end")

    if __name__ == "__main__":
        Tables()
"""

SILENT = """
    from daskflow import FlowSpec, step

    class Silent(FlowSpec):
        @step
        def start(self):
            raise KeyboardInterrupt
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Silent()
"""

WAITING = """
    import pathlib
    import signal
    from daskflow import FlowSpec, step

    class Waiting(FlowSpec):
        @step
        def start(self):
            pathlib.Path("started").touch()
            while True:
                signal.pause()
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Waiting()
"""


@pytest.fixture(scope="module")
def tables(workspace):
    place = workspace()
    place.write(TABLES)
    result = place.call("flow.py", "run")
    assert result.returncode == 0, result.text
    return place, result


def test_a_run_names_every_table_its_last_step_has_wherever_it_was_set(tables):
    _, result = tables
    lines = result.stdout.splitlines()

    assert [line.split()[2] for line in lines if "pandas.read_parquet" in line] == ["before:", "last:"]


def test_the_logs_of_a_whole_run_are_those_of_its_tasks_in_order(tables):
    place, _ = tables

    assert place.call("flow.py", "logs", "1").stdout == "[1/start/0] in start\n[1/end/0] in end\n"
    assert place.call("flow.py", "logs", "Tables/1").stdout == place.call("flow.py", "logs", "1").stdout


def test_the_artifacts_of_a_whole_run_are_those_of_its_tasks(tables):
    place, _ = tables
    lines = place.call("flow.py", "dump", "1").stdout.splitlines()

    assert [line for line in lines if line.startswith("Dumping")] == [
        "Dumping output of 1/start/0",
        "Dumping output of 1/end/0",
    ]


def test_help_of_logs_says_that_it_takes_a_run(tables):
    place, _ = tables

    assert "logs [OPTIONS] [show] RUN[/STEP[/TASK]]" in place.call("flow.py", "logs", "--help").stdout


def test_an_exception_without_words_has_no_colon_after_it(run_flow):
    result = run_flow(SILENT, expect=1)

    assert "failed: builtins.KeyboardInterrupt\n" in result.stdout


def test_on_a_terminal_the_last_words_are_below_the_steps_and_what_did_not_run_has_no_tick(workspace):
    place = workspace()
    place.write(SILENT)

    _, text = at_terminal(place, ("flow.py", "run"), [])

    states, words = text[: text.index("Step failure")], text[text.index("Step failure") :]
    assert states.rindex("✗  start") < states.rindex("-  end")
    assert "✓" not in text
    assert "1 not run" in states
    assert "start  " not in words


def test_of_a_task_that_has_written_nothing_so_far_it_is_said_so(workspace):
    place = workspace()
    place.write(WAITING)

    with place.start("flow.py", "run") as process:
        while not (place.folder / "started").exists():
            assert process.poll() is None
        for pathspec in ("1", "1/start", "1/start/0", "1/end"):
            result = place.call("flow.py", "logs", pathspec)
            assert result.returncode == 0
            assert result.stderr.endswith(f"{pathspec} has written nothing so far. (The run: running.)\n")
        unknown = place.call("flow.py", "logs", "1/nowhere")
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=60)

    assert unknown.returncode == 1
    assert "Step 'Waiting/1/nowhere' does not exist" in unknown.stderr
    after = place.call("flow.py", "dump", "1/end")
    assert after.stderr.endswith("1/end has written nothing so far. (The run: interrupted.)\n")


def test_on_a_terminal_a_failure_is_seen_below_all_that_a_step_has_printed(workspace):
    place = workspace()
    place.write(
        SILENT.replace(
            "raise KeyboardInterrupt", 'print("\\n".join(f"line {n}" for n in range(60_000))); 1 / 0'
        )
    )

    status, seen = at_terminal(place, ("flow.py", "run"), [])

    assert status == 1
    assert "line 0" in seen
    assert "Step failure: Step start (task-id 0) failed: builtins.ZeroDivisionError" in seen
    assert "lines were not shown here; they are in the logs" in seen
