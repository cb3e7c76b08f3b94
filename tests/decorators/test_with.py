"""`--with`: a decorator on every step that lacks it."""

from __future__ import annotations

import json

import pytest

from daskflow.pathspec import TaskName

PLAIN = """
    import os
    from daskflow import FlowSpec, StepDecorator, current, retry, step

    class Plain(FlowSpec):
        @step
        def start(self):
            self.items = [1, 2]
            self.seen = os.environ.get("GREETING"), os.environ.get("LIST")
            self.next(self.work, foreach="items")

        @step
        def work(self):
            if current.retry_count < 1:
                raise ValueError("the first time")
            self.next(self.join)

        @step
        def join(self, inputs):
            self.next(self.own)

        @retry(times=2, minutes_between_retries=0)
        @step
        def own(self):
            if current.retry_count < 2:
                raise ValueError("twice")
            self.next(self.end)

        @step
        def end(self):
            self.seen = os.environ.get("GREETING"), os.environ.get("LIST")

    if __name__ == "__main__":
        Plain()
"""
RETRY = "retry:times=1,minutes_between_retries=0"


def attempts(result, step, task="0"):
    return [record.attempt for record in result.run().failed_attempts(TaskName(step, task))]


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (("--with", RETRY), {}),
        ((), {"DASKFLOW_DEFAULT_DECOSPECS": RETRY}),
        (("--with", RETRY, "--cluster", "inline"), {}),
        (("--with", RETRY), {"DASKFLOW_LAUNCHER": "fresh"}),
    ],
    ids=["on the command line", "in the settings", "without a cluster", "with an interpreter a task"],
)
def test_steps_that_lack_the_decorator_get_it_and_others_keep_their_own(run_flow, arguments, env):
    result = run_flow(PLAIN, *arguments, env=env)

    assert attempts(result, "work", "0") == attempts(result, "work", "1") == [0]
    assert attempts(result, "own") == [0, 1]
    assert attempts(result, "start") == []


def test_options_are_json_or_else_a_text_and_several_decorators_can_be_given(run_flow):
    variables = json.dumps({"GREETING": "hello, world=1", "LIST": "[1, 2]"})

    result = run_flow(PLAIN, "--with", RETRY, "--with", f"environment:vars={variables}")

    assert result.value("start", "seen") == result.value("end", "seen") == ("hello, world=1", "[1, 2]")
    assert attempts(result, "work", "1") == [0]


OWN = """
    from daskflow import StepDecorator

    class shout(StepDecorator):
        name = "shout"
        defaults = {"what": "hello"}

        def task_pre_step(self, flow, attempt):
            print(self.options["what"], attempt.step, attempt.number, attempt.last)

    not_a_decorator = 1
"""


def test_a_decorator_of_ones_own_is_named_by_its_import_path(workspace):
    place = workspace()
    place.write(OWN, "own.py")
    flow = place.write(PLAIN)

    result = place.call("flow.py", "run", "--with", RETRY, "--with", "own.shout:what=hey", flow=flow)

    assert result.returncode == 0, result.text
    assert "hey start 0 False" in result.lines
    assert "hey work 1 True" in result.lines


def test_a_resumed_run_has_the_decorators_it_is_given_and_not_those_of_its_origin(workspace):
    place = workspace()
    flow = place.write(PLAIN)
    assert place.call("flow.py", "run", flow=flow).returncode == 1

    without = place.call("flow.py", "resume", flow=flow)
    result = place.call("flow.py", "resume", "--with", RETRY, flow=flow)

    assert without.returncode == 1
    assert result.returncode == 0, result.text


def test_a_continued_run_keeps_the_decorators_it_was_started_with(workspace):
    place = workspace()
    flow = place.write(PLAIN.replace("current.retry_count < 1", "not os.path.exists('go')"))
    assert place.call("flow.py", "run", "--with", RETRY, flow=flow).returncode == 1
    (place.folder / "flow.py").with_name("go").touch()

    result = place.call("flow.py", "continue", flow=flow)

    assert result.returncode == 0, result.text
    assert attempts(result, "work", "0")[:2] == [0, 1]


NONSENSE = {
    "rtery": "Unknown step decorator 'rtery'",
    "": "Unknown step decorator ''",
    "retry:": None,
    "retry:times": "'times' in --with retry:times is not 'option=value'",
    "retry:=3": "'=3' in --with retry:=3 is not 'option=value'",
    "retry:tmies=3": "@retry has no option tmies; its options are: backoff, jitter",
    "retry:times=x": "has times='x', which must be a whole number",
    "retry:times=9": "has times=9, which must be a whole number from 0 to 4",
    "catch": "@catch on step 'start' is not possible",
    "timeout": "allows no time",
    "environment:vars=3": "has vars=3, which is not a dict",
    "no.such.module": "'no.such.module' can't be imported: No module named 'no'",
    "json.dumps": "Unknown step decorator 'json.dumps'",
    "json.no_such": "Unknown step decorator 'json.no_such'",
    ".retry": "'.retry'",
    "own.not_a_decorator": "Unknown step decorator 'own.not_a_decorator'",
    "own.broken": "Unknown step decorator 'own.broken'",
    "breaks.it": "'breaks.it' can't be imported: division by zero",
}


@pytest.fixture(scope="module")
def flow_with_modules(workspace):
    place = workspace()
    place.write(OWN, "own.py")
    place.write("1 / 0\n", "breaks.py")
    place.write(PLAIN)
    return place


@pytest.mark.parametrize("given", [given for given in NONSENSE if NONSENSE[given]])
def test_nonsense_is_one_message_before_anything_runs(flow_with_modules, given):
    result = flow_with_modules.call("flow.py", "run", "--with", given, flow="Plain")

    assert result.returncode == 1
    assert NONSENSE[given] in result.stderr
    assert "Traceback" not in result.stderr
    assert not (flow_with_modules.folder / "store").exists()
    if "Unknown step decorator" in NONSENSE[given]:
        assert "There are: catch, environment, isolated, resources, retry, secrets, timeout" in result.stderr
