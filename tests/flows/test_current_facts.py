"""``current``: what a step knows of the task it runs in."""

from __future__ import annotations

import pytest

CURRENT = """
    import asyncio
    import multiprocessing
    import os
    import random
    import subprocess
    import sys
    import threading

    from daskflow import FlowSpec, Parameter, current, step

    AT_IMPORT = (current.is_running_flow, current.pathspec, "step_name" in current, current.get("step_name", "no"))
    GENERATOR = random.Random(5)

    def error_of(call):
        try:
            call()
        except AttributeError as error:
            return str(error)
        return None

    def in_child(queue):
        queue.put(current.pathspec)

    class Current(FlowSpec):
        b = Parameter("b", default=1)
        a = Parameter("a", default=1)

        @step
        def start(self):
            self.at_import = AT_IMPORT
            names = (
                "flow_name", "run_id", "step_name", "task_id", "pathspec", "retry_count", "origin_run_id",
                "is_running_flow", "namespace", "username", "parameter_names", "tags",
            )
            self.facts = {name: getattr(current, name) for name in names}
            self.graph_is_info = current.graph == self._graph_info
            self.unknown = error_of(lambda: current.no_such_fact)
            self.set_error = error_of(lambda: setattr(current, "run_id", "x"))
            self.safe = (current.get("no_such_fact"), current.get("no_such_fact", 3), "run_id" in current, "x" in current)
            self.origin_default = current.get("origin_run_id", "default")
            self.in_thread = []
            threads = [threading.Thread(target=lambda: self.in_thread.append(current.pathspec)) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

            async def ask():
                return current.pathspec

            self.in_asyncio = asyncio.run(ask())
            context = multiprocessing.get_context("fork")
            queue = context.Queue()
            child = context.Process(target=in_child, args=(queue,))
            child.start()
            self.in_child = queue.get(timeout=30)
            child.join()
            self.place = (os.getcwd(), sys.argv, sys.path[0], __name__, __file__)
            self.environment = {n: os.environ.get(n) for n in ("DASKFLOW_RUN_ID", "PYTHONUNBUFFERED")}
            self.stdin = sys.stdin.read()
            self.main_thread = threading.current_thread() is threading.main_thread()
            self.my_run, self.my_task = current.run, current.task
            self.so_far = current.run["_parameters"].task["a"].data
            self.items = [1, 2, 3]
            self.next(self.work, foreach="items")

        @step
        def work(self):
            self.facts = (current.task_id, current.pathspec)
            self.drawn = (random.random(), GENERATOR.random())
            self.pid = os.getpid()
            self.next(self.join)

        @step
        def join(self, inputs):
            self.tasks = [i.facts for i in inputs]
            self.draws = [i.drawn for i in inputs]
            self.pids = {i.pid for i in inputs} | {os.getpid()}
            self.join_path = current.pathspec
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Current()
"""


@pytest.fixture(scope="module")
def current(run_flow):
    return run_flow(CURRENT)


def test_current_names_the_task_and_who_runs_it(current):
    assert current.value("start", "facts") == {
        "flow_name": "Current",
        "run_id": "1",
        "step_name": "start",
        "task_id": "0",
        "pathspec": "Current/1/start/0",
        "retry_count": 0,
        "origin_run_id": None,
        "is_running_flow": True,
        "namespace": "user:ada",
        "username": "ada",
        "parameter_names": ["a", "b"],
        "tags": set(),
    }
    assert current.value("join", "tasks") == [(str(i), f"Current/1/work/{i}") for i in range(3)]
    assert current.value("join", "join_path") == "Current/1/join/0"
    assert current.value("start", "graph_is_info") is True


def test_current_gives_the_run_and_the_task_as_the_client_has_them(current):
    assert repr(current.value("start", "my_run")) == "Run('Current/1')"
    assert current.value("start", "my_task").pathspec == "Current/1/start/0"
    assert current.value("start", "so_far") == 1


def test_outside_of_a_task_current_says_so(current):
    assert current.value("start", "at_import") == (False, None, False, "no")


def test_what_current_does_not_know_is_an_attribute_error_or_a_default(current):
    assert "no_such_fact" in current.value("start", "unknown")
    assert "read-only" in current.value("start", "set_error")
    assert current.value("start", "safe") == (None, 3, True, False)
    assert current.value("start", "origin_default") is None


def test_threads_coroutines_and_forked_children_see_current(current):
    assert current.value("start", "in_thread") == ["Current/1/start/0"] * 2
    assert current.value("start", "in_asyncio") == "Current/1/start/0"
    assert current.value("start", "in_child") == "Current/1/start/0"


def test_a_task_is_at_the_place_where_the_run_was_started(current):
    folder, argv, path, name, file = current.value("start", "place")

    assert folder == str(current.folder)
    assert argv[0] in ("flow.py", str(current.folder / "flow.py"))
    assert path == str(current.folder)
    assert name == "__main__"
    assert file.endswith("flow.py")
    assert current.value("start", "environment") == {"DASKFLOW_RUN_ID": "1", "PYTHONUNBUFFERED": "x"}
    assert current.value("start", "stdin") == ""
    assert current.value("start", "main_thread") is True


def test_tasks_are_processes_of_their_own_with_random_numbers_of_their_own(current):
    draws = current.value("join", "draws")

    assert len(current.value("join", "pids")) == 4
    assert len({first for first, _ in draws}) == 3
    assert len({second for _, second in draws}) == 3
