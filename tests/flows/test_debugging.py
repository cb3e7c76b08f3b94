"""`debug`: a task of a run again, in a terminal, under pdb; the run stays as it is."""

from __future__ import annotations

import hashlib

import pytest
from terminals import at_terminal

SHARES = """
    import threading
    from daskflow import FlowSpec, catch, environment, retry, step, timeout

    class Shares(FlowSpec):
        @step
        def start(self):
            self.total = 10
            self.parts = [2, 0, 5]
            self.next(self.divide, foreach="parts")

        @catch(var="problem")
        @retry(times=1, minutes_between_retries=0)
        @timeout(seconds=60)
        @environment(vars={"COLOUR": "red"})
        @step
        def divide(self):
            import os
            part, colour = self.input, os.environ["COLOUR"]
            self.share = self.total / part
            self.large = str(part) * 100_000
            self.next(self.join)

        @step
        def join(self, inputs):
            self.shares = [i.share for i in inputs if not i.problem]
            self.next(self.fan)

        @step
        def fan(self):
            self.none = []
            self.next(self.every, foreach="none")

        @step
        def every(self):
            self.next(self.last)

        @step
        def last(self, inputs):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Shares()
"""


@pytest.fixture(scope="module")
def place(workspace):
    """A run that has ended, and with it its cluster: divide/1 was caught, fan goes over nothing and failed."""
    place = workspace()
    place.write(SHARES)
    assert place.call("flow.py", "run").returncode == 1
    return place


def all_of(place):
    """Names and contents of all files of the store."""
    return {path: hashlib.sha256(place.store.read(path)).hexdigest() for path in place.store.all()}


def test_the_debugger_opens_where_an_item_of_a_foreach_raised_with_its_inputs(place):
    status, text = at_terminal(
        place, ("flow.py", "debug", "1/divide/1"), ["p self.total, part, colour", "p self.index", "w", "q"]
    )

    assert status == 1
    assert "ZeroDivisionError: division by zero" in text
    assert "-> self.share = self.total / part\n(Pdb) " in text
    assert "(10, 0, 'red')" in text
    assert "daskflow/" not in text, "no frame of ours"


def test_nothing_is_stored_however_a_task_is_debugged(place):
    before = all_of(place)

    for arguments, typed in (
        (("1/divide/1",), ["self.share = 3", "q"]),
        (("1/divide/0", "--pdb-at-start"), ["n", "c"]),
        (("1/divide/0",), []),
        (("1/join/0",), []),
        (("1/fan/0",), []),
        (("1/start/0", "--pdb-at-start"), ["q"]),
    ):
        at_terminal(place, ("flow.py", "debug", *arguments), typed)

    assert before
    assert all_of(place) == before


def test_it_can_open_at_the_first_line_and_then_again_where_the_step_raises(place):
    status, text = at_terminal(
        place,
        ("flow.py", "debug", "--pdb-at-start", "1/divide/1"),
        ["n", "n", "p part", "c", "p part * 7", "q"],
    )

    assert status == 1
    assert (
        text.index("-> import os") < text.index("-> part, colour = self.input") < text.index("-> self.share")
    )
    assert text.count("ZeroDivisionError: division by zero") == 1
    assert "bdb.py" not in text


def test_a_task_that_has_succeeded_comes_to_its_end_again(place):
    status, text = at_terminal(place, ("flow.py", "debug", "1/divide/2"), [])

    assert status == 0
    assert text == "Shares/1/divide/2 came to its end without an error. Nothing was stored.\n"


def test_who_leaves_the_debugger_before_the_end_is_told_that_it_was_not_reached(place):
    status, text = at_terminal(place, ("flow.py", "debug", "1/start/0", "--pdb-at-start"), ["n", "q"])

    assert status == 1
    assert "Shares/1/start/0 was left before its end. Nothing was stored." in text
    assert "self.next" not in text


def test_an_error_in_how_the_step_goes_on_opens_the_debugger_or_is_told(place):
    status, text = at_terminal(place, ("flow.py", "debug", "1/fan/0"), [])

    assert status == 1
    assert "Foreach over self.none in step 'fan' produced zero splits: the list is empty." in text


def test_a_value_that_cannot_be_stored_is_found(workspace):
    place = workspace()
    place.write(SHARES.replace("self.total = 10", "self.total, self.lock = 10, threading.Lock()"))
    assert place.call("flow.py", "run").returncode == 1

    status, text = at_terminal(place, ("flow.py", "debug", "1/start/0"), [])

    assert status == 1
    assert "artifact 'lock'" in text


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("1/divide/7", "Task Shares/1/divide/7 does not exist: there is divide/0..2."),
        (
            "1/nowhere/0",
            "Task Shares/1/nowhere/0 does not exist: the steps of the flow are start, divide, join, fan, every",
        ),
        ("1/every/0", "Task Shares/1/every/0 does not exist: the run never came so far."),
        ("9/start/0", "Run 'Shares/9' does not exist"),
        ("1/start", "'1/start' is not RUN/STEP/TASK."),
    ],
)
def test_a_task_that_does_not_exist_is_refused_with_what_does(place, task, message):
    result = place.call("flow.py", "debug", task)

    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.text


def test_a_task_whose_inputs_are_missing_is_refused_and_says_what_to_debug_first(workspace):
    place = workspace()
    place.write(SHARES.replace('@catch(var="problem")', ""))
    assert place.call("flow.py", "run").returncode == 1

    result = place.call("flow.py", "debug", "1/join/0")

    assert result.returncode == 1
    assert (
        "Task Shares/1/join/0 has no inputs yet: divide/1 did not succeed. Debug divide/1 first."
        in result.stderr
    )


def test_the_code_as_it_is_now_runs(workspace):
    place = workspace()
    place.write(SHARES)
    assert place.call("flow.py", "run").returncode == 1
    place.write(SHARES.replace("self.total / part", "self.total / (part or 1)"))

    result = place.call("flow.py", "debug", "1/divide/1")

    assert result.returncode == 0, result.text
