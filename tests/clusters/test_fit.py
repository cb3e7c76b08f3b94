"""Workers that can't run a run's tasks are told before anything runs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daskflow.clusters.fit import differences, versions
from daskflow.pathspec import TaskName
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from tests.namespaces import needs_mounts, with_mounts
from tests.watching import ON_LOOPBACK, scheduler_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = str(Path(__file__).parents[2])
FLOW = """
    from daskflow import FlowSpec, step


    class F(FlowSpec):
        @step
        def start(self):
            self.next(self.end)

        @step
        def end(self):
            pass


    if __name__ == "__main__":
        F()
"""
OTHER_VERSION = """
    import importlib.metadata

    real = importlib.metadata.version
    importlib.metadata.version = lambda name: "0.0.1" if name == {name!r} else real(name)
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a scheduler and a worker by a command each; its address. Both in a folder of their own."""
    folder = tmp_path / "there"
    folder.mkdir()
    started: list[subprocess.Popen[bytes]] = []
    options = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def start(python: list[str], of_scheduler: Path = folder) -> str:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), ROOT])}
        dask = [sys.executable, "-m", "dask"]
        listen = ["--port", "0", *ON_LOOPBACK]
        file = folder / "s.json"
        scheduler = [*dask, "scheduler", *listen, "--scheduler-file", str(file)]
        variables = environment | {"PYTHONPATH": os.pathsep.join([str(of_scheduler), ROOT])}
        started.append(subprocess.Popen(scheduler, env=variables, **options))
        worker = [*python, *dask[1:], "worker", scheduler_address(file), "--no-nanny", *ON_LOOPBACK]
        started.append(subprocess.Popen(worker, env=environment, **options))
        return scheduler_address(file)

    yield start
    for process in reversed(started):
        process.terminate()
        process.wait(60)


def run(folder: Path, address: str) -> subprocess.CompletedProcess[str]:
    (folder / "flow.py").write_text(textwrap.dedent(FLOW))
    code = (  # wait for the worker, so that it is asked
        "import sys; from distributed import Client\n"
        f"with Client({address!r}) as client: client.wait_for_workers(1, timeout=60)\n"
    )
    environment = os.environ | {"PYTHONPATH": ROOT, "DASKFLOW_USER": "ada"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=90)
    return subprocess.run(
        [sys.executable, "flow.py", "--datastore", "store", "run", "--cluster", address],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def nothing_ran(folder: Path) -> bool:
    store = RunStore(storage_at(str(folder / "store")), "F", "1")
    return store.task(TaskName("start", "0")) is None


@needs_mounts
def test_a_worker_that_does_not_see_the_store_is_told_before_anything_runs(
    cluster: Callable[..., str], tmp_path: Path
):
    hidden = f'mount -t tmpfs none {tmp_path / "store"} && exec "$@"'
    (tmp_path / "store").mkdir()
    address = cluster([*with_mounts(hidden), sys.executable])

    done = run(tmp_path, address)

    assert done.returncode != 0
    assert f"does not see the store {tmp_path / 'store'}" in done.stdout + done.stderr
    assert "--datastore s3://bucket/prefix" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert nothing_ran(tmp_path)


@pytest.mark.parametrize(("name", "is_fatal"), [("distributed", True), ("pandas", False)])
def test_a_worker_of_another_version_is_told(
    cluster: Callable[..., str], tmp_path: Path, name: str, is_fatal: bool
):
    (tmp_path / "there" / "sitecustomize.py").write_text(textwrap.dedent(OTHER_VERSION.format(name=name)))
    address = cluster([sys.executable], of_scheduler=tmp_path)

    done = run(tmp_path, address)

    assert (done.returncode != 0) == is_fatal, done.stdout + done.stderr
    assert f"{name} is 0.0.1 on worker tcp://" in done.stdout + done.stderr
    assert f", {versions()[name]} here." in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert nothing_ran(tmp_path) == is_fatal


def test_a_scheduler_of_another_version_is_told(cluster: Callable[..., str], tmp_path: Path):
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "sitecustomize.py").write_text(textwrap.dedent(OTHER_VERSION.format(name="dask")))
    address = cluster([sys.executable], of_scheduler=tmp_path / "head")

    done = run(tmp_path, address)

    assert done.returncode != 0
    assert f"dask is 0.0.1 on the scheduler, {versions()['dask']} here." in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert nothing_ran(tmp_path)


def test_what_must_be_equal_comes_first_and_workers_alike_are_told_once():
    ours = {"Python": "3.11", "pandas": "3.0", "polars": "1.0"}
    theirs = [
        ("worker a", {"Python": "3.12", "pandas": "2.2"}),
        ("worker b", {"Python": "3.12", "pandas": "3.0", "dask": "1"}),
    ]

    assert differences(ours, theirs) == [
        ("Python is 3.12 on worker a and 1 other, 3.11 here.", True),
        ("pandas is 2.2 on worker a, 3.0 here.", False),
    ]
