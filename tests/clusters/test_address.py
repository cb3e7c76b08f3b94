"""A running scheduler serves as well: its workers run the tasks, and it stays when the run is over."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from distributed.security import Security

from daskflow.clusters import address as address_module
from daskflow.clusters.address import running_cluster
from daskflow.errors import ClusterError
from tests.watching import ON_LOOPBACK, scheduler_address

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = str(Path(__file__).parents[2])

FLOW = """
import os
from daskflow import FlowSpec, step
import helper


class F(FlowSpec):
    @step
    def start(self):
        self.items = list(range(6))
        self.here = (os.getcwd(), __name__, helper.NAME)
        print("printed on a worker")
        self.next(self.work, foreach="items")

    @step
    def work(self):
        import fcntl, pathlib, time
        with open("count", "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            running = int(file.read() or 0) + 1
            file.truncate(0)
            file.write(str(running))
        time.sleep(0.05)
        self.running = running
        with open("count", "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            left = int(file.read()) - 1
            file.truncate(0)
            file.write(str(left))
        if FAIL and self.input == 3:
            raise ValueError("no three")
        self.next(self.join)

    @step
    def join(self, inputs):
        self.most = max(i.running for i in inputs)
        self.next(self.end)

    @step
    def end(self):
        print("at most", self.most, "at once")


FAIL = False

if __name__ == "__main__":
    F()
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler and two workers, each a process of its own."""
    folder = tmp_path_factory.mktemp("cluster")
    environment = os.environ | {"PYTHONPATH": ROOT}
    dask = [sys.executable, "-m", "dask"]
    listen = ["--port", "0", "--scheduler-file", str(folder / "s.json"), *ON_LOOPBACK]
    options = {"cwd": folder, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen([*dask, "scheduler", *listen], **options)]
    try:
        found = scheduler_address(folder / "s.json")
        worker = ["worker", found, "--nthreads", "2", "--no-nanny", *ON_LOOPBACK]
        started += [subprocess.Popen([*dask, *worker], **options) for _ in range(2)]
        yield found
    finally:
        for process in reversed(started):  # the workers first: one whose scheduler is gone waits for it
            process.terminate()
            process.wait(60)


def run(folder: Path, address: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "flow.py", "--datastore", "store", "run", "--cluster", address, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": ROOT, "DASKFLOW_USER": "ada"} | more,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "helper.py").write_text("NAME = 'a module beside the flow'")
    return tmp_path


def test_a_flow_runs_on_the_workers_of_a_running_scheduler(address: str, folder: Path):
    done = run(folder, address)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "printed on a worker" in done.stdout
    from daskflow import Task

    here = Task("F/1/start/0", store=str(folder / "store")).data.here
    assert here == (str(folder), "__main__", "a module beside the flow")


def test_no_more_tasks_run_at_once_than_were_allowed(address: str, folder: Path):
    done = run(folder, address, "--max-workers", "1")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "at most 1 at once" in done.stdout


def test_a_failure_on_a_worker_fails_the_run_and_the_cluster_serves_the_next(address: str, folder: Path):
    (folder / "flow.py").write_text(FLOW.replace("FAIL = False", "FAIL = True"))
    failed = run(folder, address)
    (folder / "count").unlink()
    (folder / "flow.py").write_text(FLOW)

    done = run(folder, address)

    assert failed.returncode == 1
    assert "ValueError: no three" in failed.stdout
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_address_where_nobody_answers_is_an_error_in_time(folder: Path):
    began = time.monotonic()

    done = run(folder, "tcp://127.0.0.1:1")

    assert done.returncode == 1
    assert "No scheduler answers there within 10 seconds" in done.stderr
    assert time.monotonic() - began < 60
    assert "Traceback" not in done.stderr


TLS = "DASK_DISTRIBUTED__COMM__TLS__"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {},
            "Dask has no certificate for it. Set distributed.comm.tls.ca-file, distributed.comm.tls.client.cert, "
            f"distributed.comm.tls.client.key in its configuration, or as {TLS}CA_FILE, {TLS}CLIENT__CERT, {TLS}CLIENT__KEY.",
        ),
        (
            {"CA_FILE": "flow.py", "CLIENT__CERT": "nowhere.pem"},
            "nowhere.pem, which is Dask's distributed.comm.tls.client.cert, does not exist.",
        ),
        (
            {"CA_FILE": "flow.py", "CLIENT__CERT": "flow.py"},
            "TLS fails with the certificates in flow.py, flow.py: [",
        ),
    ],
)
def test_an_address_that_needs_certificates_says_what_is_missing_of_them(
    folder: Path, settings: dict[str, str], told: str
):
    done = run(folder, "tls://127.0.0.1:1", **{TLS + name: value for name, value in settings.items()})

    assert done.returncode == 1
    assert f"Can't reach the cluster at tls://127.0.0.1:1: {told}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_scheduler_that_speaks_another_protocol_or_has_other_certificates_is_told_as_that(
    folder: Path, address: str
):
    own, other = Security.temporary(), Security.temporary()
    for name, text in (("ca", own.tls_ca_file), ("key", own.tls_client_key), ("other", other.tls_ca_file)):
        (folder / f"{name}.pem").write_text(text)
    files = ("--tls-ca-file", "ca.pem", "--tls-cert", "ca.pem", "--tls-key", "key.pem")
    listen = ("--port", "0", "--scheduler-file", "s.json", *ON_LOOPBACK)
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "dask", "scheduler", *listen, "--protocol", "tls", *files],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    given = {f"{TLS}CA_FILE": "ca.pem", f"{TLS}CLIENT__CERT": "ca.pem", f"{TLS}CLIENT__KEY": "key.pem"}
    try:
        secured = scheduler_address(folder / "s.json")
        of_others = run(folder, secured, **given | {f"{TLS}CA_FILE": "other.pem"})
        without = run(folder, secured.replace("tls://", "tcp://"))
    finally:
        scheduler.terminate()
        scheduler.wait(60)
    with_too_much = run(folder, address.replace("tcp://", "tls://"), **given)

    certificates = (
        "TLS fails with the certificates in other.pem, ca.pem, key.pem: [SSL: CERTIFICATE_VERIFY_FAILED]"
    )
    assert certificates in of_others.stderr
    assert (
        "closes the connection; the address of a scheduler with certificates begins with tls://."
        in without.stderr
    )
    assert (
        "speaks no TLS; the address of a scheduler without certificates begins with tcp://."
        in with_too_much.stderr
    )


def test_what_listens_and_is_no_scheduler_is_told_in_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(address_module, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(address_module, "MORE_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        there = f"tcp://127.0.0.1:{silent.getsockname()[1]}"

        with pytest.raises(ClusterError) as told, running_cluster(there):
            pass

    assert f"Can't reach the cluster at {there}: " in told.value.message
