"""`@retry`: a failed task is tried again, each time in a fresh process from the same inputs."""

from __future__ import annotations

import signal
from datetime import timedelta

import pytest

from daskflow.pathspec import TaskName
from daskflow.store.records import moment

RETRIED = """
    import ctypes
    import os
    import signal
    import sys
    import threading
    from daskflow import FlowSpec, current, retry, step

    FAILURES = {
        "raises": lambda flow: 1 / 0,
        "is killed": lambda flow: os.kill(os.getpid(), signal.SIGKILL),
        "segfaults": lambda flow: ctypes.string_at(0),
        "exits": lambda flow: os._exit(3),
        "can't be stored": lambda flow: setattr(flow, "lock", threading.Lock()),
        "goes nowhere": lambda flow: flow.next(flow.end),
    }

    class Retried(FlowSpec):
        @step
        def start(self):
            self.ways = list(FAILURES)
            self.inherited = [1]
            self.next(self.work, foreach="ways")

        @retry(times=2, minutes_between_retries=0)
        @step
        def work(self):
            print("attempt", current.retry_count, flush=True)
            self.seen_before = hasattr(self, "of_the_attempt")
            self.of_the_attempt = current.retry_count
            self.inherited.append(2)
            self.pid = os.getpid()
            if current.retry_count < 2:
                FAILURES[self.input](self)
            self.next(self.join)

        @step
        def join(self, inputs):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Retried()
"""


@pytest.fixture(scope="module")
def retried(run_flow):
    return run_flow(RETRIED)


WAYS = ["raises", "is killed", "segfaults", "exits", "can't be stored", "goes nowhere"]


@pytest.mark.parametrize("task", range(len(WAYS)), ids=WAYS)
def test_a_task_is_tried_again_however_it_failed(retried, task):
    name = TaskName("work", str(task))

    failed = list(retried.run().failed_attempts(name))

    assert [record.attempt for record in failed] == [0, 1]
    assert retried.record("work", str(task)).attempt == 2


def test_an_attempt_starts_from_the_inputs_and_not_from_what_a_failed_one_left(retried):
    assert retried.values("work", "seen_before") == [False] * 6
    assert retried.values("work", "of_the_attempt") == [2] * 6
    assert retried.values("work", "inherited") == [[1, 2]] * 6


def test_each_attempt_has_a_process_a_record_and_a_log_of_its_own(retried):
    failed = list(retried.run().failed_attempts(TaskName("work", "0")))

    pids = {record.process["pid"] for record in failed} | {retried.value("work", "pid", "0")}
    assert len(pids) == 3
    assert [record.logs["stdout"].text.split(" ", 1)[1] for record in failed] == [
        "attempt 0\n",
        "attempt 1\n",
    ]
    assert [retried.run().load("of_the_attempt", r.artifacts["of_the_attempt"]) for r in failed] == [0, 1]


def test_a_person_is_told_what_failed_and_that_it_is_tried_again(retried):
    assert (
        "Task 1/work/0 failed (builtins.ZeroDivisionError: division by zero); retry 1 of 2 follows."
        in retried.stdout
    )
    assert "retry 2 of 2 follows" in retried.stdout
    assert "Step failure" not in retried.stdout


ONE = """
    import os
    import sys
    from daskflow import FlowSpec, catch, current, retry, step, timeout, environment, resources

    class One(FlowSpec):
        {decorator}
        @step
        def start(self):
            {body}
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        One()
"""


def test_the_run_fails_when_all_attempts_have_failed(run_flow):
    source = ONE.format(decorator="@retry(times=1, minutes_between_retries=0)", body="raise ValueError('no')")

    result = run_flow(source, expect=1)

    failed = list(result.run().failed_attempts(TaskName("start", "0")))
    assert [record.attempt for record in failed] == [0, 1]
    assert result.stdout.count("Step failure") == 1
    assert result.status() == "failed"


@pytest.mark.parametrize("how", ["sys.exit(202)", "os._exit(202)"])
def test_a_step_can_say_that_it_is_not_to_be_tried_again(run_flow, how):
    source = ONE.format(decorator="@retry(times=3, minutes_between_retries=0)", body=how)

    result = run_flow(source, expect=1)

    assert result.failed("start").attempt == 0


def test_other_exit_statuses_are_failures_like_any(run_flow):
    source = ONE.format(
        decorator="@retry(times=1, minutes_between_retries=0)", body="current.retry_count or sys.exit(203)"
    )

    assert run_flow(source).failed("start").attempt == 0


@pytest.mark.parametrize("cluster", ["local", "inline"])
def test_who_stops_a_run_that_waits_for_an_attempt_need_not_wait_for_it(workspace, cluster):
    place = workspace()
    decorator = "@retry(times=1, minutes_between_retries=60)"
    flow = place.write(ONE.format(decorator=decorator, body="raise ValueError('no')"))

    with place.start("flow.py", "run", "--cluster", cluster) as process:
        said = ""
        while "follows in" not in said:
            said += process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)

    result = place.result(process, flow, said + out, err)
    assert process.returncode == 1, result.text
    assert result.status() == "interrupted"


def test_a_bare_retry_is_three_more_attempts(run_flow):
    source = ONE.format(decorator="@retry", body="self.x = 1")

    options = run_flow(source, command=("output-raw",)).stdout

    assert "'times': 3" in options.replace('"', "'")
    assert "'minutes_between_retries': 2" in options.replace('"', "'")


WAITING = """
    import pathlib
    from daskflow import FlowSpec, current, retry, step

    HERE = pathlib.Path.cwd()

    class Waiting(FlowSpec):
        @step
        def start(self):
            self.next(self.failing, self.other)

        @retry(times=2, minutes_between_retries={minutes}, backoff=2.0, jitter=False)
        @step
        def failing(self):
            self.other_ran = (HERE / "other").exists()
            if current.retry_count < 2:
                (HERE / "failed").touch()
                raise ValueError("not yet")
            self.next(self.join)

        @step
        def other(self):
            self.failed_before = (HERE / "failed").exists()
            (HERE / "other").touch()
            self.next(self.after_other)

        @step
        def after_other(self):
            self.next(self.join)

        @step
        def join(self, inputs):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Waiting()
"""


def test_a_task_that_waits_for_its_next_attempt_holds_no_slot_and_waits_longer_each_time(run_flow):
    minutes = 0.02
    result = run_flow(WAITING.format(minutes=minutes), "--max-workers", "1")

    first, second = result.run().failed_attempts(TaskName("failing", "0"))
    third = result.record("failing")
    assert result.value("other", "failed_before") is True
    assert result.run().load("other_ran", second.artifacts["other_ran"]) is True
    assert moment(second.started) - moment(first.finished) >= timedelta(minutes=minutes)
    assert moment(third.started) - moment(second.finished) >= timedelta(minutes=2 * minutes)
    assert "retry 1 of 2 follows in 0:00:01" in result.stdout


WRONG = {
    "times=-1": "times=-1, which must be a whole number from 0 to 4",
    "times=1.5": "times=1.5, which must be a whole number from 0 to 4",
    "times='many'": "times='many', which must be a whole number from 0 to 4",
    "times=True": "times=True, which must be a whole number from 0 to 4",
    "times=None": "times=None, which must be a whole number from 0 to 4",
    "times=float('inf')": "times=inf, which must be a whole number from 0 to 4",
    "times=5": "times=5, which must be a whole number from 0 to 4",
    "minutes_between_retries=-1": "minutes_between_retries=-1, which must be a number from 0 to 1,000,000,000",
    "minutes_between_retries=float('nan')": "minutes_between_retries=nan, which must be a number",
    "backoff=0.5": "backoff=0.5, which must be a number from 1 to 1,000,000,000",
    "jitter='no'": "jitter='no', which must be True or False",
    "tmies=3": "@retry has no option tmies; its options are: backoff, jitter, minutes_between_retries, times",
    "3": "@retry takes its options by name, not 3",
}


@pytest.mark.parametrize("given", WRONG)
def test_wrong_options_are_refused_before_anything_runs(run_flow, given):
    result = run_flow(ONE.format(decorator=f"@retry({given})", body="self.x = 1"), expect=1)

    assert WRONG[given] in result.stderr
    assert not (result.folder / "store").exists()
    assert "Traceback" not in result.stderr or "has no option" in result.stderr or "by name" in result.stderr
