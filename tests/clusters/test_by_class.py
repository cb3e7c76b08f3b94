"""A cluster of any class that Dask takes: started for a run, ended with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import asyncssh
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from daskflow import Task
from daskflow.clusters import open_cluster
from daskflow.errors import ClusterError
from tests.watching import ON_LOOPBACK, scheduler_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = str(Path(__file__).parents[2])

FLOW = """
    import os
    from daskflow import FlowSpec, step


    class F(FlowSpec):
        @step
        def start(self):
            self.items = list(range(6))
            self.next(self.work, foreach="items")

        @step
        def work(self):
            from multiprocessing import Pool

            with Pool(1) as pool:
                self.double = pool.apply(int.__mul__, (2, self.input))
            self.worker = os.getppid()
            self.next(self.join)

        @step
        def join(self, inputs):
            self.doubles = [each.double for each in inputs]
            self.next(self.end)

        @step
        def end(self):
            pass


    if __name__ == "__main__":
        F()
"""


LOCAL = """
import threading
from distributed import LocalCluster

class Local(LocalCluster):
    def __init__(self):
        super().__init__(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0")
"""
CLOSES_BADLY = f"""{LOCAL}

class Cluster(Local):
    def close(self, *arguments, **options):
        super().close(*arguments, **options)
        raise RuntimeError("no permission")
"""
ENDS_MEANWHILE = f"""{LOCAL}

class Cluster(Local):
    def __init__(self):
        super().__init__()
        threading.Thread(target=self.end_with_a_task, daemon=True).start()

    def end_with_a_task(self):
        import pathlib, time
        while not pathlib.Path("running").exists():
            time.sleep(0.01)
        self.close()
"""
WAITING = """
from daskflow import FlowSpec, step

class F(FlowSpec):
    @step
    def start(self):
        import time
        open("running", "w").close()
        time.sleep(60)

if __name__ == "__main__":
    F()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.py").write_text(textwrap.dedent(FLOW))
    return tmp_path


def run(
    folder: Path, *arguments: str, environment: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "flow.py", "--datastore", "store", "run", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": ROOT, "DASKFLOW_USER": "ada"} | dict(environment),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def left_by(folder: Path) -> list[psutil.Process]:
    """Processes that work in a folder."""
    found = []
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(folder):
            found.append(process)
    return found


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("distributed.LocalCluster", ["n_workers=2", "threads_per_worker=1", "dashboard_address=127.0.0.1:0"]),
        (
            "distributed.deploy.subprocess.SubprocessCluster",
            ["n_workers=1", 'scheduler_kwargs={"dashboard_address": "127.0.0.1:0"}', 'worker_kwargs={"nthreads": 2}'],
        ),
        ("mine.Small", []),
    ],
)  # fmt: skip
def test_a_flow_runs_on_a_cluster_of_a_class_which_ends_with_the_run(
    folder: Path, path: str, options: list[str]
):
    (folder / "mine.py").write_text(
        "from distributed import LocalCluster\n\n\n"
        "def Small():\n"
        "    return LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address='127.0.0.1:0')\n"
    )

    done = run(folder, "--cluster", path, *(word for each in options for word in ("--cluster-option", each)))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    doubles = Task("F/1/join/0", store=str(folder / "store")).data.doubles
    assert doubles == [0, 2, 4, 6, 8, 10]
    assert left_by(folder) == []


@pytest.mark.parametrize(
    ("cluster", "options", "words"),
    [
        ("nowhere.Cluster", {}, "Can't import the cluster nowhere.Cluster: No module named 'nowhere'"),
        ("distributed.LokalCluster", {}, "'LokalCluster' of the module distributed does not exist"),
        ("distributed.__version__", {}, "'__version__' of the module distributed is a str, no class"),
        ("local", {"n": 1}, "'local' is none"),
        ("tcp://127.0.0.1:1", {"n": 1}, "--cluster-option is for a class or a profile"),
        ("lokal", {}, "There is no cluster 'lokal'"),
        (
            "127.0.0.1:8786",
            {},
            "There is no cluster '127.0.0.1:8786'. The address of a scheduler begins with its",
        ),
        ("head:8786", {}, "protocol: tcp://head:8786, or tls://head:8786 if it has certificates."),
        ("[::1]:8786", {}, "tcp://[::1]:8786"),
        (".Cluster", {}, "Can't import the cluster .Cluster: ValueError"),
    ],
)
def test_what_names_no_cluster_is_told_before_a_run_is_made(
    cluster: str, options: dict[str, int], words: str
):
    with pytest.raises(ClusterError) as told:
        open_cluster(cluster, None, options)

    assert words in told.value.message


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError in the module mine: no licence."),
        ("def Cluster(:", "SyntaxError in the module mine: invalid syntax"),
        (
            "def Cluster(): pass",
            "mine.Cluster gave no cluster: a function has to return the one that it starts.",
        ),
        (
            "def Cluster(): raise SystemExit('no hosts')",
            "did not start, with no options: SystemExit: no hosts.",
        ),
    ],
)
def test_a_module_that_makes_no_cluster_is_told_in_a_sentence(folder: Path, source: str, words: str):
    (folder / "mine.py").write_text(source + "\n")

    done = run(folder, "--cluster", "mine.Cluster")

    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cluster_that_does_not_close_is_told_and_the_run_stays_successful(folder: Path):
    (folder / "mine.py").write_text(CLOSES_BADLY)

    done = run(folder, "--cluster", "mine.Cluster")

    assert done.returncode == 0, done.stderr
    assert "The cluster of mine.Cluster did not close" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cluster_that_ends_meanwhile_is_lost_in_a_sentence(folder: Path):
    (folder / "mine.py").write_text(ENDS_MEANWHILE)
    (folder / "flow.py").write_text(WAITING)

    done = run(folder, "--cluster", "mine.Cluster")

    assert done.returncode == 1
    assert "The scheduler is gone" in done.stdout + done.stderr
    assert "Internal error" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cluster-option", "workers=2"], "did not start, with workers=2: TypeError"),
        (["--cluster-option", "workers"], "'workers' is not NAME=VALUE"),
    ],
)
def test_options_that_the_class_does_not_take_are_one_error(folder: Path, arguments: list[str], words: str):
    (folder / "mine.py").write_text("class Cluster:\n    def __init__(self, size=1): ...\n")

    done = run(folder, "--cluster", "mine.Cluster", *arguments)

    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_cluster_is_one_error(folder: Path):
    done = run(folder, "--cluster", "pathlib.Path")

    assert done.returncode != 0
    assert "pathlib.Path gave a" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, str]:
    """Where Dask finds certificate and key, as its configuration says it by the environment."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "all.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + made.public_bytes(Encoding.PEM))
    roles = [f"DASK_DISTRIBUTED__COMM__TLS__{role}__CERT" for role in ("CLIENT", "SCHEDULER", "WORKER")]
    return dict.fromkeys([*roles, "DASK_DISTRIBUTED__COMM__TLS__CA_FILE"], str(file))


def test_a_scheduler_under_tls_is_reached_with_the_certificates_of_dasks_configuration(
    folder: Path, certificate: dict[str, str], tmp_path_factory: pytest.TempPathFactory
):
    there = tmp_path_factory.mktemp("cluster")
    environment = os.environ | certificate | {"PYTHONPATH": ROOT}
    options = {"cwd": there, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    listen = ["--protocol", "tls", "--port", "0", *ON_LOOPBACK]
    file = there / "s.json"
    dask = [sys.executable, "-m", "dask"]
    started = [subprocess.Popen([*dask, "scheduler", *listen, "--scheduler-file", str(file)], **options)]
    try:
        address = scheduler_address(file)
        worker = ["worker", address, "--protocol", "tls", "--nthreads", "2", "--no-nanny", *ON_LOOPBACK]
        started.append(subprocess.Popen([*dask, *worker], **options))
        assert address.startswith("tls://")

        done = run(folder, "--cluster", address, environment=certificate)
        refused = run(folder, "--cluster", address)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(60)

    assert done.returncode == 0, done.stdout + done.stderr
    assert refused.returncode != 0
    assert f"Can't reach the cluster at {address}" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.fixture
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """How to connect to an SSH server of this machine."""
    there = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(there / name)
        key.write_public_key(there / f"{name}.pub")
    (there / "authorized_keys").write_bytes((there / "user.pub").read_bytes())
    server = [sys.executable, str(Path(__file__).with_name("sshd.py")), str(there)]
    with subprocess.Popen(server, cwd=there, env=os.environ | {"PYTHONPATH": ROOT}) as process:
        try:
            while not (there / "port").exists():
                assert process.poll() is None
                time.sleep(0.01)
            port = int((there / "port").read_text())
            yield {"port": port, "known_hosts": None, "username": "ada", "client_keys": [str(there / "user")]}
        finally:
            process.terminate()


def test_a_flow_runs_on_machines_that_are_reached_by_ssh(folder: Path, ssh: dict[str, object]):
    options = {
        "hosts": ["127.0.0.1", "127.0.0.1"],  # of the scheduler, of a worker
        "connect_options": ssh,
        "worker_options": {"nthreads": 2, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"},
        "scheduler_options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"},
        "remote_python": sys.executable,
    }
    words = [
        word
        for name, value in options.items()
        for word in ("--cluster-option", f"{name}={json.dumps(value)}")
    ]

    done = run(folder, "--cluster", "distributed.SSHCluster", *words)

    assert done.returncode == 0, done.stdout + done.stderr
    assert Task("F/1/join/0", store=str(folder / "store")).data.doubles == [0, 2, 4, 6, 8, 10]
