"""A shared cluster of which things die: workers, the scheduler, the driver. What is committed stays so."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from distributed import Client

from daskflow.engine import on_dask
from daskflow.engine.executor import Ran
from daskflow.engine.frontier import Planned
from daskflow.flow.node import Node
from daskflow.pathspec import TaskName, TaskNames
from daskflow.store.layout import PARAMETERS
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from daskflow.task.spec import RunContext, TaskResult, TaskSpec
from tests.flows.conftest import Result, Workspace
from tests.watching import ON_LOOPBACK, descendants, living, scheduler_address, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLOW = """
    import pathlib
    import time
    from daskflow import FlowSpec, current, step

    HERE = pathlib.Path.cwd()

    def ran():
        with open(HERE / "bodies", "a") as file:
            file.write(f"{current.step_name}/{current.task_id}\\n")

    def wait_for(name):
        while not (HERE / name).exists():
            time.sleep(0.01)

    class Deaths(FlowSpec):
        @step
        def start(self):
            ran()
            self.items = list(range(6))
            self.next(self.work, foreach="items")

        @step
        def work(self):
            ran()
            self.double = self.input * 2
            self.next(self.after)

        @step
        def after(self):
            ran()
            if self.index > 1:
                (HERE / f"waits-{self.index}").touch()
                wait_for("go")
            self.next(self.join)

        @step
        def join(self, inputs):
            ran()
            self.doubles = [each.double for each in inputs]
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Deaths()
"""
DOUBLES = [0, 2, 4, 6, 8, 10]


class Cluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, place: Workspace) -> None:
        self.place = place
        self.scheduler: subprocess.Popen[str] | None = None
        self.workers: list[subprocess.Popen[str]] = []
        self.address = ""
        self.env: dict[str, str] = {}

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        out = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return self.place.start("-m", "dask", *arguments, *ON_LOOPBACK, env=self.env, **out)

    def start_scheduler(self) -> None:
        told = self.place.folder / "scheduler.json"
        told.unlink(missing_ok=True)
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(told))
        self.address = scheduler_address(told)

    def start_worker(self, *options: str) -> subprocess.Popen[str]:
        worker = self._start("worker", self.address, "--nthreads", "1", *(options or ["--no-nanny"]))
        self.workers.append(worker)
        return worker

    def wait_for_workers(self) -> None:
        """Return once the scheduler knows as many as were started."""
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(len(self.workers), timeout=60)

    def drive(self, *command: str, **options) -> subprocess.Popen[str]:
        """Start a driver on this cluster."""
        return self.place.start("flow.py", *(command or ["run"]), "--cluster", self.address, **options)

    def close(self) -> None:
        everything = [each for each in (*self.workers, self.scheduler) if each is not None]
        pids = [pid for each in everything for pid in (each.pid, *descendants(each.pid))]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for each in everything:
            each.wait(30)
        wait_until(lambda: not living(pids))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without workers."""
    (tmp_path / "home").mkdir()
    made = Cluster(Workspace(tmp_path))
    try:
        made.start_scheduler()
        yield made
    finally:
        made.close()


def ended(cluster: Cluster, driver: subprocess.Popen[str], seconds: float = 60) -> Result:
    try:
        out, err = driver.communicate(timeout=seconds)
    finally:
        driver.kill()
    result = cluster.place.result(driver, "Deaths", out, err)
    assert "Traceback" not in result.text
    return result


def bodies(cluster: Cluster) -> Counter[str]:
    return Counter((cluster.place.folder / "bodies").read_text().split())


def committed(cluster: Cluster) -> list[str]:
    store = RunStore(storage_at(str(cluster.place.folder / "store")), "Deaths", "1")
    if not store.storage.exists(store.layout.run_record):
        return []
    tasks = [TaskName(step, task) for step in store.steps() for task in store.tasks(step)]
    return [str(name) for name in tasks if name != PARAMETERS and store.task(name) is not None]


@contextlib.contextmanager
def driving(cluster: Cluster, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A driver whose run has come to where every worker has a task of ``after`` that waits."""
    cluster.wait_for_workers()  # items that one worker could take share its process, and only the first of them would wait
    driver = cluster.drive(*command)
    try:
        wait_until(lambda: len(list(cluster.place.folder.glob("waits-*"))) == len(cluster.workers), 60)
        yield driver
    finally:
        driver.kill()
        driver.communicate()


# Workers


def test_of_a_worker_that_dies_with_finished_results_no_committed_task_runs_again(cluster):
    cluster.place.write(FLOW)
    first, _ = cluster.start_worker(), cluster.start_worker()
    with driving(cluster, "run", "--isolate") as driver:
        before = committed(cluster)

        first.kill()
        (cluster.place.folder / "go").touch()
        result = ended(cluster, driver)

    assert result.returncode == 0, result.text
    assert {name: bodies(cluster)[name] for name in before} == dict.fromkeys(before, 1)
    assert "start/0" in before
    assert len([name for name in before if name.startswith("work/")]) >= 3
    assert re.search(r"Worker tcp://[\d.:]+ is lost", result.text)
    assert result.value("join", "doubles") == DOUBLES
    assert {result.record("after", str(index)).attempt for index in range(6)} == {0}


def test_a_lost_worker_takes_nothing_off_the_retries(cluster):
    cluster.place.write(
        FLOW.replace(
            "        @step\n        def after",
            "        @retry(times=1, minutes_between_retries=0)\n        @step\n        def after",
        )
        .replace("import FlowSpec", "import FlowSpec, retry")
        .replace(
            '        wait_for("go")',
            '        wait_for("go")\n            if current.retry_count == 0:\n                1 / 0',
        )
    )
    first, _ = cluster.start_worker(), cluster.start_worker()
    with driving(cluster) as driver:
        first.kill()
        (cluster.place.folder / "go").touch()
        out, err = driver.communicate(timeout=60)

    assert driver.returncode == 0, out + err
    result = cluster.place.result(driver, "Deaths", out, err)
    assert {result.record("after", str(index)).attempt for index in range(6)} == {1}


def test_a_task_that_takes_workers_down_is_named_and_fails_after_three_and_its_neighbours_are_kept(cluster):
    source = FLOW.replace(
        "            ran()\n            self.double",
        """            ran()
            if self.input == 2:
                import psutil
                psutil.Process().parent().parent().parent().kill()
                time.sleep(60)
            time.sleep(0.5)
            self.double""",
    )
    cluster.place.write(source)
    (cluster.place.folder / "go").touch()
    cluster.start_worker("--nworkers", "2")  # with nannies, which start a worker again that dies
    driver = cluster.drive()

    result = ended(cluster, driver, 90)

    assert result.returncode == 1
    assert (
        "Step failure: Step work (task-id 2) failed: Cluster error: 3 workers were lost while it ran there"
        in result.text
    )
    assert result.text.count("Step failure") == 1
    assert bodies(cluster)["work/2"] >= 3  # Dask may have begun it elsewhere before it was withdrawn
    assert {f"work/{index}" for index in (0, 1, 3, 4, 5)} <= set(committed(cluster))
    assert "work/2" not in committed(cluster)
    attempts = list(result.run().failed_attempts(TaskName("work", "2")))
    assert any("3 workers were lost" in attempt.error["exception"] for attempt in attempts)
    assert result.status() == "failed"


def test_while_no_worker_is_there_a_run_says_so_and_can_be_stopped(cluster):
    cluster.place.write(FLOW)
    driver = cluster.drive("run", "--grace", "0.5")
    try:
        wait_until(lambda: "no worker yet" in os.read(driver.stdout.fileno(), 1 << 16).decode())
        driver.terminate()
        result = ended(cluster, driver)
    finally:
        driver.kill()

    assert result.returncode != 0
    assert result.status() == "interrupted"
    assert re.search(r"python flow.py .*continue 1 ", result.text)
    assert committed(cluster) == []


def test_a_run_that_waits_for_a_worker_goes_on_once_one_comes(cluster):
    cluster.place.write(FLOW)
    (cluster.place.folder / "go").touch()
    driver = cluster.drive()
    try:
        wait_until(lambda: "no worker yet" in os.read(driver.stdout.fileno(), 1 << 16).decode())
        cluster.start_worker()
        result = ended(cluster, driver)
    finally:
        driver.kill()

    assert result.returncode == 0, result.text


def test_a_worker_that_stands_still_does_not_keep_a_run_from_being_stopped(cluster):
    cluster.place.write(FLOW)
    worker = cluster.start_worker()
    with driving(cluster, "run", "--grace", "0.5") as driver:
        worker.send_signal(signal.SIGSTOP)

        driver.terminate()
        result = ended(cluster, driver)

    assert result.returncode != 0
    assert result.status() == "interrupted"
    assert result.run().tasks("join") == []


class SlowFuture:
    """The result is there, on a worker that does not answer at first."""

    status = "finished"

    def __init__(self, result: TaskResult) -> None:
        self.waits = [TimeoutError("no answer"), result]

    def add_done_callback(self, function) -> None:
        function(self)

    def result(self, timeout: float) -> TaskResult:
        if isinstance(answer := self.waits.pop(0), TimeoutError):
            raise answer
        return answer

    def release(self) -> None:
        pass


def test_a_result_that_its_worker_does_not_hand_over_holds_up_nothing_else(monkeypatch):
    run = RunContext("F", "1", "/store", "token", "/", 10**6, "auto")
    spec = TaskSpec(run, TaskName("start", "0"), Node(name="start", type="linear"), TaskNames([]))
    result = TaskResult(spec.name, 0, "committed")
    monkeypatch.setattr(on_dask, "ANSWER_SECONDS", 0.01)
    monkeypatch.setattr(on_dask.regions, "submit", lambda *_: {spec.name: SlowFuture(result)})
    executor = on_dask.DaskExecutor(SimpleNamespace(status="running"), run, None)

    executor.submit([Planned(spec)])

    assert executor.results(10) == []
    assert executor.results(10) == [Ran(spec.name, [result])]


# The scheduler


def test_when_the_scheduler_is_lost_the_driver_ends_and_says_how_to_go_on(cluster):
    cluster.place.write(FLOW)
    cluster.start_worker(), cluster.start_worker()
    with driving(cluster) as driver:
        before = committed(cluster)
        cluster.scheduler.kill()

        result = ended(cluster, driver)

    assert result.returncode == 1
    assert "Cluster error: The scheduler is gone, or does not answer any more.\n" in result.text, result.text
    assert re.search(r"python flow.py .*continue 1 ", result.text)
    assert re.search(r"python flow.py .*resume --origin-run-id 1 ", result.text)
    assert result.status() == "failed"
    cluster.close()
    cluster.workers.clear()
    (cluster.place.folder / "go").touch()
    cluster.start_scheduler()
    cluster.start_worker()

    again = ended(cluster, cluster.drive("continue"))

    assert again.returncode == 0, again.text
    assert again.value("join", "doubles") == DOUBLES
    assert {name: bodies(cluster)[name] for name in before} == dict.fromkeys(before, 1)


# The driver


def start_worker_whose_launchers_soon_idle(cluster: Cluster) -> subprocess.Popen[str]:
    (cluster.place.folder / "sitecustomize.py").write_text(
        "import os\nif 'SOON_IDLE' in os.environ:\n"
        "    from daskflow.task import launchers\n    launchers.IDLE_SECONDS = 0.5\n"
    )
    root = cluster.place.environment["PYTHONPATH"]
    cluster.env = {"PYTHONPATH": f"{cluster.place.folder}{os.pathsep}{root}", "SOON_IDLE": "x"}
    return cluster.start_worker()


def test_a_flow_that_takes_longer_to_load_than_what_is_idle_may_stay_is_loaded_once(cluster):
    cluster.place.write(FLOW.replace("import pathlib", "import time; time.sleep(2); import pathlib"))
    (cluster.place.folder / "go").touch()
    start_worker_whose_launchers_soon_idle(cluster)

    result = ended(cluster, cluster.drive("run"))

    assert result.returncode == 0, result.text
    assert "started again" not in result.text


def test_what_a_killed_driver_left_running_on_a_cluster_is_counted_and_ends(cluster):
    cluster.place.write(FLOW)
    worker = start_worker_whose_launchers_soon_idle(cluster)
    with driving(cluster) as driver:
        driver.kill()
        driver.wait()
    launchers = descendants(worker.pid)
    assert len(launchers) >= 3  # the guard, the fork server, the task

    (cluster.place.folder / "go").touch()

    wait_until(lambda: "after/2" in committed(cluster))
    wait_until(lambda: not living(launchers))
    assert worker.poll() is None
    result = ended(cluster, cluster.drive("continue"))
    assert result.returncode == 0, result.text
    assert result.value("join", "doubles") == DOUBLES
    assert set(bodies(cluster).values()) == {1}


def test_a_run_whose_driver_was_killed_is_lost_and_continue_runs_only_the_rest(cluster):
    cluster.place.write(FLOW)
    cluster.start_worker()
    with driving(cluster) as driver:
        driver.kill()
        driver.wait()
    (cluster.place.folder / "go").touch()
    script = "from daskflow import Run; print(Run('Deaths/1').status)"
    said = cluster.place.call("-c", script).stdout.strip()
    before = committed(cluster)

    result = ended(cluster, cluster.drive("continue"))

    assert said == "lost"
    assert result.returncode == 0, result.text
    assert {name: bodies(cluster)[name] for name in before} == dict.fromkeys(before, 1)
    assert result.record("end").task == TaskName("end", "0").task_id
