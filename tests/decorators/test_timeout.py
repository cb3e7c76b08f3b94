"""`@timeout`: a step that takes too long is ended, and what it started with it."""

from __future__ import annotations

import pytest

from daskflow import Task
from daskflow.pathspec import TaskName
from daskflow.store.logs import texts
from tests.watching import living, wait_until

SLOW = """
    import os
    import pathlib
    import signal
    import subprocess
    import sys
    import time
    from daskflow import FlowSpec, catch, current, retry, step, timeout

    HERE = pathlib.Path.cwd()

    def sleeps(flow):
        time.sleep(300)

    def catches_everything(flow):
        while True:
            try:
                time.sleep(300)
            except Exception:
                print("never mind", flush=True)

    def never_returns_to_the_interpreter(flow):
        sum(range(10**13))

    def hears_no_signal(flow):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        time.sleep(300)

    def leaves_processes(flow):
        program = "import os, time; os.setsid(); open('child', 'w').write(str(os.getpid())); time.sleep(300)"
        subprocess.Popen([sys.executable, "-c", program])
        catches_everything(flow)

    def is_quick(flow):
        pass

    def dies_slowly_once(flow):
        if current.retry_count == 0:
            time.sleep(300)

    WAYS = [sleeps, catches_everything, never_returns_to_the_interpreter, leaves_processes, is_quick]
    WAYS += [dies_slowly_once, hears_no_signal]

    class Slow(FlowSpec):
        @step
        def start(self):
            self.ways = range(len(WAYS))
            self.next(self.work, foreach="ways")

        @catch(var="failure")
        @retry(times=1, minutes_between_retries=0)
        @timeout(seconds=1.5)
        @step
        def work(self):
            self.before = 1
            WAYS[self.input](self)
            self.after = 2
            self.next(self.join)

        @step
        def join(self, inputs):
            self.next(self.end)

        @timeout(seconds=0.1, minutes=1, hours=0)
        @step
        def end(self):
            time.sleep(0.5)

    if __name__ == "__main__":
        Slow()
"""
SLEEPS, CATCHES, IN_C, LEAVES, QUICK, ONCE, DEAF = map(str, range(7))


@pytest.fixture(scope="module")
def slow(run_flow):
    return run_flow(SLOW, "--max-workers", "7")


def failures(result, task, step="work"):
    return list(result.run().failed_attempts(TaskName(step, task)))


def test_a_timeout_is_raised_in_the_step_and_can_be_retried_and_caught(slow):
    (first,) = failures(slow, SLEEPS)

    assert first.error["type"] == "daskflow.errors.TimeoutException"
    assert first.error["exception"] == "Step 'work' took longer than its timeout of 0:00:01.500000."
    assert "before" in first.artifacts
    assert slow.value("work", "failure", SLEEPS).type == "daskflow.errors.TimeoutException"
    assert slow.value("work", "before", SLEEPS) == 1
    assert "after" not in slow.names("work", SLEEPS)


@pytest.mark.parametrize(
    "task", [CATCHES, IN_C, LEAVES, DEAF], ids=["catches all", "in C", "leaves processes", "deaf"]
)
def test_a_step_that_goes_on_all_the_same_is_killed(slow, task):
    attempts = failures(slow, task)

    assert [record.attempt for record in attempts] == [0, 1]
    for record in attempts:
        assert record.error["type"] == "process"
        assert record.error["exception"] == (
            "Its step went on for 5 s after its timeout of 1.5 s, so its process was killed."
        )
        assert record.process["signal"] == 9
    assert slow.value("work", "failure", task).type == "daskflow.errors.FailureHandledByCatch"


def test_a_step_that_catches_everything_had_its_chance(slow):
    log = failures(slow, CATCHES)[0].logs["stdout"]

    assert texts(slow.run().storage, log) == ["never mind"]


def test_what_the_step_started_ends_with_it(slow):
    child = int((slow.folder / "child").read_text())

    wait_until(lambda: not living([child]))


def test_a_quick_step_is_left_alone(slow):
    assert failures(slow, QUICK) == []
    assert slow.value("work", "failure", QUICK) is None


def test_each_attempt_has_the_whole_time(slow):
    assert len(failures(slow, ONCE)) == 1
    assert slow.value("work", "after", ONCE) == 2


def test_seconds_minutes_and_hours_add_up(slow):
    assert slow.status() == "successful"


ONE = """
    import time
    from daskflow import FlowSpec, catch, step, timeout

    class One(FlowSpec):
        @timeout{given}
        @step
        def start(self):
            {body}
            self.next(self.end)

        @step
        def end(self):
            time.sleep(1)

    if __name__ == "__main__":
        One()
"""


def test_a_timeout_fails_the_run_and_says_so(run_flow):
    result = run_flow(ONE.format(given="(seconds=0.5)", body="time.sleep(300)"), expect=1)

    assert "Step failure: Step start (task-id 0) failed: daskflow.errors.TimeoutException" in result.stdout
    log = result.log("start")
    assert 'flow.py", line 8, in start' in log  # where it was at that moment
    assert "TimeoutException: Step 'start' took longer" in log
    exception = Task("One/1/start/0", store=str(result.folder / "store")).exception
    assert exception.type == "daskflow.errors.TimeoutException"


def test_no_alarm_is_left_after_a_step(run_flow):
    source = ONE.format(given="(seconds=0.7)", body="self.x = 1")

    assert run_flow(source, "--cluster", "inline").status() == "successful"


WRONG = {
    "": "allows no time: give seconds, minutes or hours",
    "(seconds=0, minutes=0)": "allows no time: give seconds, minutes or hours",
    "(seconds=-1, minutes=1)": "has seconds=-1, which must be a number from 0 to 1,000,000,000",
    "(minutes='1')": "has minutes='1', which must be a number from 0 to 1,000,000,000",
    "(hours=float('inf'))": "has hours=inf, which must be a number",
    "(hours=1e300)": "has hours=1e+300, which must be a number from 0 to 1,000,000,000",
    "(days=1)": "@timeout has no option days; its options are: hours, minutes, seconds",
}


@pytest.mark.parametrize("given", WRONG)
def test_wrong_options_are_refused_before_anything_runs(run_flow, given):
    result = run_flow(ONE.format(given=given, body="self.x = 1"), expect=1)

    assert WRONG[given] in result.stderr
    assert not (result.folder / "store").exists()
