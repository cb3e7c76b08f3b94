"""`@catch`: the flow goes on although a task has failed."""

from __future__ import annotations

import pytest

from daskflow import Task
from daskflow.pathspec import TaskName

CAUGHT = """
    import os
    import signal
    import threading
    from daskflow import FlowSpec, catch, current, retry, step

    FAILURES = {
        "raises": lambda flow: 1 / 0,
        "is killed": lambda flow: os.kill(os.getpid(), signal.SIGKILL),
        "can't be stored": lambda flow: setattr(flow, "lock", threading.Lock()),
        "succeeds": lambda flow: None,
    }

    class Caught(FlowSpec):
        @step
        def start(self):
            self.inherited = 1
            self.next(self.fan)

        @catch
        @step
        def fan(self):
            self.kept = 2
            if self.inherited:
                raise ValueError("in a split")
            self.next(self.left, self.right)

        @step
        def left(self):
            self.next(self.both)

        @step
        def right(self):
            self.seen = (self.inherited, self.kept)
            self.next(self.both)

        @step
        def both(self, inputs):
            self.next(self.over)

        @step
        def over(self):
            self.ways = list(FAILURES)
            self.next(self.work, foreach="ways")

        @catch(var="failure")
        @retry(times=1, minutes_between_retries=0)
        @step
        def work(self):
            print("attempt", current.retry_count, flush=True)
            self.kept = self.input
            FAILURES[self.input](self)
            self.next(self.after)

        @step
        def after(self):
            self.of_before = None if self.failure is None else self.failure.type
            self.next(self.join)

        @catch(var="failure", print_exception=False)
        @step
        def join(self, inputs):
            self.merged = [each.of_before for each in inputs]
            raise KeyError("in a join")
            self.next(self.end)

        @catch(var="at_the_end")
        @step
        def end(self):
            self.join_failed = self.failure
            raise RuntimeError("at the very end")

    if __name__ == "__main__":
        Caught()
"""


@pytest.fixture(scope="module")
def caught(run_flow):
    return run_flow(CAUGHT)


def attempts(result, step, task="0"):
    return [record.attempt for record in result.run().failed_attempts(TaskName(step, task))]


def test_the_flow_goes_on_to_all_steps_that_follow_and_what_was_set_is_kept(caught):
    assert caught.value("right", "seen") == (1, 2)
    assert caught.tasks("left") == ["0"]
    assert caught.status() == "successful"


def test_the_failure_is_an_artifact_with_type_text_and_traceback(caught):
    failure = caught.value("work", "failure", "0")

    assert (failure.type, failure.exception) == ("builtins.ZeroDivisionError", "division by zero")
    assert "FAILURES[self.input](self)" in failure.stacktrace
    assert "ZeroDivisionError" in str(failure)
    assert caught.value("after", "of_before", "0") == "builtins.ZeroDivisionError"


def test_a_step_that_succeeds_has_none_in_its_place(caught):
    assert caught.value("work", "failure", "3") is None
    assert attempts(caught, "work", "3") == []


def test_it_catches_only_after_the_last_retry(caught):
    assert attempts(caught, "work", "0") == [0]
    assert caught.record("work", "0").attempt == 1


def test_after_the_death_of_a_process_one_more_attempt_records_it_without_running_the_step(caught):
    failure = caught.value("work", "failure", "1")

    assert attempts(caught, "work", "1") == [0, 1]
    assert caught.record("work", "1").attempt == 2
    assert failure.type.endswith("FailureHandledByCatch")
    assert "Step 'work' failed: Its process was ended by SIGKILL" in failure.exception
    assert "daskflow/" not in failure.stacktrace
    assert "kept" not in caught.names("work", "1") - caught.names("over")
    assert caught.lines.count("attempt 2") == 0


def test_what_cannot_be_stored_is_caught_like_the_death_of_a_process(caught):
    assert attempts(caught, "work", "2") == [0, 1]
    assert caught.value("work", "failure", "2").type.endswith("FailureHandledByCatch")


def test_a_caught_task_counts_as_successful_and_has_no_exception(caught):
    task = Task("Caught/1/work/0", store=str(caught.folder / "store"))

    assert task.successful
    assert task.exception is None
    assert task.data.kept == "raises"


def test_a_join_and_the_last_step_can_be_caught_too(caught):
    assert caught.value("end", "join_failed").type == "builtins.KeyError"
    assert caught.value("end", "at_the_end").exception == "at the very end"
    assert caught.value("join", "merged") == [
        "builtins.ZeroDivisionError",
        "daskflow.errors.FailureHandledByCatch",
        "daskflow.errors.FailureHandledByCatch",
        None,
    ]


def test_the_traceback_is_in_the_log_unless_that_is_not_wanted(caught):
    def stderr(step):
        log = caught.record(step).logs["stderr"]
        return log.text or ""

    assert "ValueError: in a split" in stderr("fan")
    assert "in a join" not in stderr("join")


ON = """
    from daskflow import FlowSpec, catch, retry, step

    class On(FlowSpec):
        {on_start}
        @step
        def start(self):
            self.items = [1]
            self.way = "a"
            self.next({next})

        {on_a}
        @step
        def a(self):
            self.next(self.{after})

        @step
        def b(self{inputs}):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        On()
"""
FOREACH = {"next": "self.a, foreach='items'", "after": "b", "inputs": ", inputs", "on_a": ""}
SWITCH = {"next": "{'a': self.a, 'b': self.b}, condition='way'", "after": "end", "inputs": "", "on_a": ""}


@pytest.mark.parametrize(
    ("shape", "why"), [(FOREACH, "its items are not known"), (SWITCH, "its choice is not known")]
)
def test_it_cannot_be_on_a_step_on_whose_result_the_next_steps_depend(run_flow, shape, why):
    result = run_flow(ON.format(on_start="@catch", **shape), expect=1)

    assert "@catch on step 'start' is not possible" in result.stderr
    assert f"there is nothing to go on with, {why}." in result.stderr
    assert "flow.py on line 6" in result.stderr
    assert not (result.folder / "store").exists()


@pytest.mark.parametrize("var", ["'not a name'", "3", "'__hidden'", "''"])
def test_the_artifact_must_have_a_name_that_an_artifact_can_have(run_flow, var):
    result = run_flow(ON.format(on_start="", **FOREACH | {"on_a": f"@catch(var={var})"}), expect=1)

    assert f"@catch on step 'a' has var={var}, which can't be the name of an artifact" in result.stderr


def test_a_task_has_at_most_six_attempts_with_those_that_only_record_a_failure(run_flow):
    source = """
        import os
        from daskflow import FlowSpec, StepDecorator, catch, retry, step

        class deadly(StepDecorator):
            name = "deadly"

            def task_pre_step(self, flow, attempt):
                os._exit(9)

        class Six(FlowSpec):
            @deadly
            @catch
            @retry(times=4, minutes_between_retries=0)
            @step
            def start(self):
                self.next(self.end)

            @step
            def end(self):
                pass

        if __name__ == "__main__":
            Six()
    """
    result = run_flow(source, expect=1)

    assert attempts(result, "start") == [0, 1, 2, 3, 4, 5]
    assert "its decorators deal with that" in result.stdout
