"""`@environment`: variables that are there before the interpreter of a step's tasks starts."""

from __future__ import annotations

import pytest

VARIABLES = """
    import os
    import sys
    from daskflow import FlowSpec, environment, step

    AT_IMPORT = dict(os.environ)
    HASH = hash("a text")

    class Variables(FlowSpec):
        @step
        def start(self):
            self.items = [1, 2]
            self.seen = "GREETING" in AT_IMPORT or "GREETING" in os.environ
            self.overridden = os.environ["GIVEN"]
            self.next(self.fixed, foreach="items")

        @environment(vars={"GREETING": "hello = world", "NUMBER": 3, "YES": True, "GIVEN": "inner", "EMPTY": "",
                           "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"})
        @step
        def fixed(self):
            self.seen = {name: AT_IMPORT.get(name) for name in ("GREETING", "NUMBER", "YES", "GIVEN", "EMPTY")}
            self.now = os.environ["GREETING"]
            self.hash = HASH
            self.inherited = os.environ["INHERITED"]
            self.next(self.join)

        @step
        def join(self, inputs):
            self.seen = "GREETING" in AT_IMPORT or "GREETING" in os.environ
            self.next(self.other)

        @environment(vars={"GREETING": "good bye"})
        @step
        def other(self):
            self.seen = AT_IMPORT["GREETING"], "NUMBER" in os.environ
            self.next(self.end)

        @step
        def end(self):
            self.seen = "GREETING" in os.environ

    if __name__ == "__main__":
        Variables()
"""


@pytest.fixture(scope="module", params=["auto", "fresh"])
def variables(run_flow, request):
    env = {"GIVEN": "outer", "INHERITED": "yes", "DASKFLOW_LAUNCHER": request.param}
    return run_flow(VARIABLES, env=env)


def test_they_are_there_when_the_flow_is_loaded_and_values_are_texts(variables):
    expected = {"GREETING": "hello = world", "NUMBER": "3", "YES": "True", "GIVEN": "inner", "EMPTY": ""}

    assert variables.values("fixed", "seen") == [expected, expected]
    assert variables.value("fixed", "now", "0") == "hello = world"
    assert variables.value("fixed", "inherited", "0") == "yes"


def test_they_are_there_when_the_interpreter_starts(variables):
    first, second = variables.values("fixed", "hash")

    assert first == second == variables.run().load("hash", variables.record("fixed", "1").artifacts["hash"])
    assert first == _hash_with_seed_7()


def _hash_with_seed_7() -> int:
    import subprocess
    import sys

    program = "print(hash('a text'))"
    out = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONHASHSEED": "7"}, capture_output=True, check=True
    )
    return int(out.stdout)


def test_other_steps_do_not_see_them(variables):
    assert variables.value("start", "seen") is False
    assert variables.value("start", "overridden") == "outer"
    assert variables.value("join", "seen") is False
    assert variables.value("other", "seen") == ("good bye", False)
    assert variables.value("end", "seen") is False


ONE = """
    import os
    from daskflow import FlowSpec, environment, step

    class One(FlowSpec):
        @environment(vars={given})
        @step
        def start(self):
            self.seen = os.environ.get("GREETING")
            self.next(self.end)

        @step
        def end(self):
            self.seen = os.environ.get("GREETING")

    if __name__ == "__main__":
        One()
"""


def test_without_a_cluster_they_are_set_for_the_step_alone(run_flow):
    result = run_flow(ONE.format(given="{'GREETING': 'hello'}"), "--cluster", "inline")

    assert result.value("start", "seen") == "hello"
    assert result.value("end", "seen") is None


WRONG = {
    "{'A': None}": "sets A to None (NoneType), which is not a text: use str()",
    "{'A': ['b']}": "sets A to ['b'] (list), which is not a text: use str()",
    "{'A': b'b'}": "sets A to b'b' (bytes), which is not a text: use str()",
    "{'A': 'b\\0'}": "which is not a text",
    "{'A=B': 'c'}": "sets 'A=B', which can't be the name of an environment variable",
    "{'': 'c'}": "sets '', which can't be the name of an environment variable",
    "{1: 'c'}": "sets 1, which can't be the name of an environment variable",
    "['A']": "has vars=['A'], which is not a dict of names and values",
    "'A=b'": "has vars='A=b', which is not a dict of names and values",
}


@pytest.mark.parametrize("given", WRONG)
def test_wrong_names_and_values_are_refused_before_anything_runs(run_flow, given):
    result = run_flow(ONE.format(given=given), expect=1)

    assert f"@environment on step 'start' {WRONG[given]}" in result.stderr or WRONG[given] in result.stderr
    assert not (result.folder / "store").exists()
