"""Workers elsewhere make the environment of a run's requirements, each machine one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from distributed import Client

from daskflow.pathspec import TaskName
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from tests.watching import ON_LOOPBACK, descendants, living, scheduler_address, wait_until
from tests.wheels import asked_for, stuck, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = str(Path(__file__).parents[2])
FLOW = """
    from daskflow import FlowSpec, step


    class F(FlowSpec):
        items = [1, 2, 3, 4]

        @step
        def start(self):
            self.next(self.middle, foreach="items")

        @step
        def middle(self):
            import measures
            self.version = measures.version
            self.next(self.join)

        @step
        def join(self, inputs):
            self.versions = [each.version for each in inputs]
            self.next(self.end)

        @step
        def end(self):
            pass


    if __name__ == "__main__":
        F()
"""


class Cluster:
    """A scheduler, workers that come when they are told to, and the folder of a flow; the cache is the machine's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []
        self.environment = os.environ | {
            "PYTHONPATH": ROOT,
            "XDG_CACHE_HOME": str(folder / "cache"),
            "PIP_LOG": str(folder / "pip.log"),
        }
        (folder / "flow.py").write_text(textwrap.dedent(FLOW))
        wheel(folder / "wheels", "measures", "2.0")
        asked_for(folder / "requirements.txt", "measures")
        self.start("scheduler", "--port", "0", "--scheduler-file", "s.json", *ON_LOOPBACK)
        self.address = scheduler_address(folder / "s.json")

    def start(self, *arguments: str) -> None:
        options = {"cwd": self.folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [sys.executable, "-m", "dask", *arguments]
        self.started.append(subprocess.Popen(command, env=self.environment, **options))

    def start_workers(self, count: int) -> None:
        for _ in range(count):
            self.start("worker", self.address, "--nthreads", "2", "--no-nanny", *ON_LOOPBACK)

    def wait_for_workers(self, count: int) -> None:
        code = (
            "from distributed import Client\n"
            f"with Client({self.address!r}) as client: client.wait_for_workers({count}, timeout=60)\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, env=self.environment, timeout=90)

    def run(self) -> subprocess.Popen[str]:
        options = ["--cluster", self.address, "--requirements", "requirements.txt"]
        return subprocess.Popen(
            [sys.executable, "flow.py", "--datastore", "store", "run", *options],
            cwd=self.folder,
            env=self.environment | {"DASKFLOW_USER": "ada"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def store(self) -> RunStore:
        return RunStore(storage_at(str(self.folder / "store")), "F", "1")

    def calls_of_pip(self) -> int:
        log = self.folder / "pip.log"
        return log.read_text().count("Looking in links") if log.exists() else 0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path)
    yield found
    for process in reversed(found.started):
        process.terminate()
        process.wait(60)


def test_two_workers_on_one_machine_make_one_environment_before_the_first_task(cluster: Cluster):
    cluster.start_workers(2)
    cluster.wait_for_workers(2)

    with cluster.run() as driver:
        out, _ = driver.communicate(timeout=90)

    assert driver.returncode == 0, out
    assert out.index("An environment is made of requirements.txt for 2 workers, once.") < out.index("starts.")
    assert "The environment of requirements.txt took " in out
    join = cluster.store.task(TaskName("join", "0"))
    assert cluster.store.load("versions", join.artifacts["versions"]) == ["2.0"] * 4
    assert cluster.calls_of_pip() == 1

    with cluster.run() as driver:
        out, _ = driver.communicate(timeout=90)

    assert driver.returncode == 0, out
    assert "environment" not in out
    assert cluster.calls_of_pip() == 1


def test_a_package_that_workers_can_not_have_is_told_before_the_first_task(cluster: Cluster):
    asked_for(cluster.folder / "requirements.txt", "nosuch")
    cluster.start_workers(1)
    cluster.wait_for_workers(1)

    with cluster.run() as driver:
        out, _ = driver.communicate(timeout=90)

    assert driver.returncode == 1
    assert (
        "can't install requirements.txt: No matching distribution found for nosuch. What it said is in "
        in out
    )
    assert "Traceback" not in out
    assert cluster.store.task(TaskName("start", "0")) is None


def test_a_worker_that_comes_later_makes_the_environment_for_its_first_task(cluster: Cluster):
    with cluster.run() as driver:
        first = iter(driver.stdout.readline, "")
        assert any("no worker yet" in line for line in first)
        cluster.start_workers(1)
        out, _ = driver.communicate(timeout=90)

    assert driver.returncode == 0, out
    assert "An environment is made of requirements.txt, once; what pip says is in " in out
    assert cluster.calls_of_pip() == 1


@pytest.mark.slow
def test_tasks_of_a_worker_that_comes_later_and_can_not_have_it_fail_in_one_sentence(cluster: Cluster):
    asked_for(cluster.folder / "requirements.txt", "nosuch")
    with cluster.run() as driver:
        first = iter(driver.stdout.readline, "")
        assert any("no worker yet" in line for line in first)
        cluster.start_workers(1)
        out, _ = driver.communicate(timeout=90)

    assert driver.returncode == 1
    assert "No matching distribution found for nosuch. What it said is in " in out
    assert "Traceback" not in out
    (failed,) = cluster.store.failed_attempts(TaskName("start", "0"))
    assert failed.error["type"] == "Requirements"


@pytest.mark.slow
def test_a_worker_goes_on_while_pip_works_and_pip_ends_with_the_command(cluster: Cluster):
    cluster.start_workers(2)
    cluster.wait_for_workers(2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        asked_for(cluster.folder / "requirements.txt", stuck(cluster.folder, listening.getsockname()[1]))
        with cluster.run() as driver:
            building, _ = listening.accept()
            below = [pid for each in cluster.started[1:] for pid in descendants(each.pid)]
            with Client(cluster.address) as client:
                assert client.submit(sum, [1, 2]).result(timeout=30) == 3

            driver.send_signal(signal.SIGTERM)
            out, _ = driver.communicate(timeout=10)
        wait_until(lambda: not living(below))
        building.close()

    assert len(below) > 1  # pip, and what builds the package
    assert driver.returncode == 130
    assert "Interrupted." in out
    assert "Traceback" not in out
    assert cluster.started[-1].poll() is None
    asked_for(cluster.folder / "requirements.txt", "measures")
    with cluster.run() as driver:
        out, _ = driver.communicate(timeout=90)
    assert driver.returncode == 0, out


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_does_not_wait_for_pip(cluster: Cluster):
    cluster.start_workers(1)
    cluster.wait_for_workers(1)
    with socket.create_server(("127.0.0.1", 0)) as index:  # it takes a request and never answers
        index.settimeout(60)
        port = index.getsockname()[1]
        (cluster.folder / "requirements.txt").write_text(
            f"--index-url http://127.0.0.1:{port}/simple\nmeasures\n"
        )
        with cluster.run() as driver:
            request, _ = index.accept()
            below = descendants(cluster.started[-1].pid)
            cluster.started[-1].terminate()
            cluster.started[-1].wait(10)
            wait_until(lambda: not living(below))
            driver.kill()
        request.close()

    assert below


@pytest.mark.slow
def test_pip_for_the_first_task_of_a_worker_ends_with_the_run(cluster: Cluster):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        asked_for(cluster.folder / "requirements.txt", stuck(cluster.folder, listening.getsockname()[1]))
        with cluster.run() as driver:
            first = iter(driver.stdout.readline, "")
            assert any("no worker yet" in line for line in first)
            cluster.start_workers(1)
            building, _ = listening.accept()
            below = descendants(cluster.started[-1].pid)
            driver.send_signal(signal.SIGINT)
            out, _ = driver.communicate(timeout=30)
        wait_until(lambda: not living(below))
        building.close()

    assert below
    assert "Traceback" not in out
    assert cluster.store.task(TaskName("start", "0")) is None
    assert not list(cluster.store.failed_attempts(TaskName("start", "0")))
