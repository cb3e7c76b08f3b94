"""Steps that fail, die or hang, and runs that are told to stop: what is said, what is kept, what is left behind."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.watching import descendants, living, wait_until

ENDINGS = """
    import ctypes
    import os
    import signal
    import sys
    from daskflow import FlowSpec, Parameter, step

    class Endings(FlowSpec):
        how = Parameter("how")

        @step
        def start(self):
            print("before", flush=True)
            self.kept = 1
            {how}
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Endings()
"""

DEATHS = {
    "os._exit(3)": ("process", "exit status 3", None),
    "os._exit(0)": ("process", "exit status 0", None),
    "os.kill(os.getpid(), signal.SIGKILL)": ("process", "SIGKILL", None),
    "ctypes.string_at(0)": ("process", "SIGSEGV", "Task failed with a segmentation fault."),
    "sys.exit(3)": ("builtins.SystemExit", "3", "SystemExit: 3"),
    "sys.exit('some words')": ("builtins.SystemExit", "some words", "SystemExit: some words"),
    "raise KeyboardInterrupt": ("builtins.KeyboardInterrupt", "", "KeyboardInterrupt"),
    "(lambda f: f(f))(lambda f: f(f))": ("builtins.RecursionError", "maximum recursion", "RecursionError"),
    "raise ValueError('my words')": ("builtins.ValueError", "my words", "ValueError: my words"),
    "raise Exception('\\ud800 \\x00 \\n two lines')": ("builtins.Exception", "two lines", "two lines"),
    "self.no_such": ("builtins.AttributeError", "has no artifact 'no_such'", "self.no_such"),
}


@pytest.mark.parametrize("how", DEATHS)
def test_a_step_that_ends_badly_fails_the_run_and_says_how(run_flow, how):
    kind, words, logged = DEATHS[how]

    result = run_flow(ENDINGS.format(how=how), expect=1)

    failed = result.failed("start")
    assert failed.error["type"] == kind
    assert words in failed.error["exception"]
    assert "before" in result.lines
    told = "Its process" if kind == "process" else re.escape(kind)
    assert re.search(
        rf"^[-\d]+ [:.\d]+ Step failure: Step start \(task-id 0\) failed: {told}", result.stdout, re.M
    )
    assert " logs 1/start/0" in result.stdout
    assert "Task failed" in result.log("start")
    assert (logged or "Task failed") in result.log("start")
    assert ("kept" in failed.artifacts) == (kind != "process")
    assert result.status() == "failed"
    assert result.run().tasks("end") == []
    assert "daskflow/task/" not in result.stdout


SIBLINGS = """
    import os
    import pathlib
    import sys
    import time
    from daskflow import FlowSpec, step

    HERE = pathlib.Path.cwd()

    def wait_for(name):
        while not (HERE / name).exists():
            time.sleep(0.01)

    class Siblings(FlowSpec):
        @step
        def start(self):
            self.next(self.quick, self.failing, self.hanging)

        @step
        def failing(self):
            wait_for("hanging-runs")
            wait_for("quick-runs")
            (HERE / "failed").touch()
            raise ValueError("the first failure")

        @step
        def quick(self):
            (HERE / "quick-runs").touch()
            wait_for("failed")
            time.sleep(0.2)
            self.finished = True
            self.next(self.after_quick)

        @step
        def after_quick(self):
            self.next(self.join)

        @step
        def hanging(self):
            (HERE / "hanging-runs").write_text(str(os.getpid()))
            time.sleep(300)
            self.next(self.join)

        @step
        def after_failing(self):
            self.next(self.join)

        @step
        def join(self, inputs):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Siblings()
"""


def test_after_a_failure_siblings_have_a_grace_period_and_nothing_new_starts(run_flow):
    source = SIBLINGS.replace(
        'raise ValueError("the first failure")',
        'if HERE:\n                raise ValueError("the first failure")\n            self.next(self.after_failing)',
    )
    began = time.monotonic()

    result = run_flow(source, "--max-workers", "3", expect=1)

    assert time.monotonic() - began > 4
    assert result.value("quick", "finished") is True
    assert result.run().tasks("after_quick") == []
    assert result.run().tasks("join") == []
    assert "[KILLED BY ORCHESTRATOR]" in result.log("hanging")
    assert result.failed("hanging").process["stopped"] is True
    assert "stopped" not in result.failed("failing").process
    failures = [line for line in result.stdout.splitlines() if "Step failure" in line]
    assert len(failures) == 1
    assert "Step failing (task-id 0) failed: builtins.ValueError: the first failure" in failures[0]
    assert not Path(f"/proc/{(result.folder / 'hanging-runs').read_text()}").exists()


STOPPED = """
    import os
    import pathlib
    import subprocess
    import sys
    import time
    from daskflow import FlowSpec, step

    HERE = pathlib.Path.cwd()

    class Stopped(FlowSpec):
        @step
        def start(self):
            self.done = 1
            self.next(self.hanging)

        @step
        def hanging(self):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
            (HERE / "pids.tmp").write_text(f"{os.getpid()} {child.pid}")
            os.rename(HERE / "pids.tmp", HERE / "pids")
            time.sleep(300)
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Stopped()
"""


@pytest.fixture
def hanging(workspace):
    """A run whose second step hangs; all its processes are ended in the end."""
    place = workspace()
    place.write(STOPPED)
    process = place.start("flow.py", "run")
    wait_until(lambda: (place.folder / "pids").exists() or process.poll() is not None)
    pids = [int(pid) for pid in (place.folder / "pids").read_text().split()]
    everything = [process.pid, *descendants(process.pid), *pids]
    yield place, process, everything
    for pid in living(everything):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=30)


@pytest.mark.parametrize("how", ["ctrl_c_in_a_terminal", "sigint_to_the_driver", "sigterm", "ctrl_c_twice"])
def test_a_run_that_is_told_to_stop_ends_as_interrupted_and_leaves_no_process(hanging, how):
    place, process, everything = hanging
    began = time.monotonic()

    if how == "sigterm":
        process.terminate()
    elif how == "sigint_to_the_driver":
        process.send_signal(signal.SIGINT)
    else:
        os.killpg(process.pid, signal.SIGINT)
    if how == "ctrl_c_twice":
        wait_until(lambda: "Interrupted" in read_some(process))
        os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    took = time.monotonic() - began

    result = place.result(process, "Stopped", out, err)
    assert process.returncode != 0
    assert result.status() == "interrupted"
    assert result.value("start", "done") == 1
    assert result.run().tasks("end") == []
    wait_until(lambda: not living(everything))
    assert "Traceback" not in out + err
    assert took < (4.5 if how == "ctrl_c_twice" else 20)  # the grace period is 5 s, the step would take 300 s


def read_some(process):
    """What the process has printed, as far as it is there."""
    return os.read(process.stdout.fileno(), 1 << 16).decode()


def test_a_driver_that_is_killed_leaves_no_process_and_what_was_committed(hanging):
    place, process, everything = hanging

    process.kill()
    out, err = process.communicate(timeout=30)

    wait_until(lambda: not living(everything))
    assert place.result(process, "Stopped", out, err).value("start", "done") == 1


def test_a_task_that_ends_in_its_grace_period_is_kept(workspace):
    place = workspace()
    place.write(
        STOPPED.replace("sleep(300)\n            self.next", "sleep(1)\n            self.next").replace(
            "child = subprocess", "self.kept = 2; child = subprocess"
        )
    )

    with place.start("flow.py", "run") as process:
        wait_until(lambda: (place.folder / "pids").exists())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)

    result = place.result(process, "Stopped", out, err)
    assert result.status() == "interrupted"
    assert result.value("hanging", "kept") == 2
    assert result.run().tasks("end") == []


MANY = """
    from daskflow import FlowSpec, step

    class Many(FlowSpec):
        @step
        def start(self):
            self.items = list(range(40))
            self.next(self.work, foreach="items")

        @step
        def work(self):
            if self.input % 2:
                raise ValueError(f"item {self.input}")
            self.next(self.join)

        @step
        def join(self, inputs):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Many()
"""


def test_a_failing_item_of_a_foreach_is_named_with_its_index(run_flow):
    result = run_flow(MANY, "--max-workers", "1", expect=1)

    failures = re.findall(
        r"Step failure: Step work \(task-id (\d+)\) failed: builtins.ValueError: item (\d+)", result.stdout
    )
    assert failures == [("1", "1")]
    assert result.tasks("work")[0] == "0"
    assert len(result.tasks("work")) < 10
