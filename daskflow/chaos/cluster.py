"""A cluster on loopback whose scheduler and workers are processes that may be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil

from daskflow.errors import ClusterError
from daskflow.task import wire
from daskflow.task.certificate import self_signed

if TYPE_CHECKING:
    import random
    from pathlib import Path

START_SECONDS = 60.0
ON_LOOPBACK = ("--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0")
"""Without a dashboard they have a web server, too."""


def end_with_parent() -> None:
    """In a child: be killed when this process is."""
    wire.die_with_parent(signal.SIGKILL)


class KillableCluster:
    """One scheduler and some workers of one slot each, under TLS with a certificate made for them.

    Parameters
    ----------
    folder
        Where its files go.
    workers
        How many.
    environment
        Variables of its processes beside those of this one.
    """

    def __init__(self, folder: Path, workers: int, environment: dict[str, str]) -> None:
        self.folder = folder
        scratch = {"DASK_TEMPORARY_DIRECTORY": str(folder / "scratch")}
        self._environment = os.environ | environment | scratch | _tls(folder)
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes]] = []
        self._size = workers
        self.address = ""

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which a client may speak to it."""
        return self._environment

    def __enter__(self) -> KillableCluster:
        self.repair()
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self._workers, *([self._scheduler] if self._scheduler else [])]:
            process.kill()
            process.wait()

    def repair(self) -> None:
        """Start what was killed. Raises :class:`ClusterError` if it does not come up within a minute."""
        if self._scheduler is None or self._scheduler.poll() is not None:
            for worker in self._workers:  # they belong to the old one
                worker.kill()
                worker.wait()
            self._workers = []
            self._start_scheduler()
        self._workers = [worker for worker in self._workers if worker.poll() is None]
        while len(self._workers) < self._size:
            self._workers.append(self._start("worker", self.address, "--nthreads", "1", "--no-nanny"))

    def _start_scheduler(self) -> None:
        told = self.folder / "scheduler.json"
        told.unlink(missing_ok=True)
        arguments = ["--protocol", "tls", "--port", "0", "--scheduler-file", str(told)]
        self._scheduler = self._start("scheduler", *arguments)
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError, ValueError):
                self.address = json.loads(told.read_text())["address"]
                return
            if time.monotonic() > end or self._scheduler.poll() is not None:
                raise ClusterError(f"A scheduler did not start; {self.folder}/scheduler.log says why.")
            time.sleep(0.02)

    def _start(self, what: str, *arguments: str) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{what}.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", what, *arguments, *ON_LOOPBACK],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - this process has no other thread
            )

    def kill(self, what: str, chance: random.Random) -> bool:
        """Kill a ``task``, a ``worker`` or the ``scheduler`` with SIGKILL; whether there was one."""
        if what == "scheduler":
            assert self._scheduler is not None
            if self._scheduler.poll() is not None:
                return False
            self._scheduler.kill()
            self._scheduler.wait()
            return True
        if what == "worker":
            worker = chance.choice(self._workers)
            worker.kill()
            worker.wait()
            return True
        tasks = self._tasks()
        with contextlib.suppress(psutil.NoSuchProcess):
            if tasks:
                chance.choice(tasks).kill()
                return True
        return False

    def _tasks(self) -> list[psutil.Process]:
        """Processes of tasks: worker, guard, fork server, task."""
        found = []
        for worker in self._workers:
            with contextlib.suppress(psutil.Error):
                for guard in psutil.Process(worker.pid).children():
                    for server in guard.children():
                        found += server.children()
        return found


def _tls(folder: Path) -> dict[str, str]:
    """Dask's settings for a certificate that all sides bear."""
    certificate, key = self_signed()
    path = folder / "tls.pem"
    path.touch(mode=0o600)
    path.write_text(key + certificate)
    sides = ("SCHEDULER", "WORKER", "CLIENT")
    prefix = "DASK_DISTRIBUTED__COMM"
    return {
        f"{prefix}__REQUIRE_ENCRYPTION": "True",
        f"{prefix}__TLS__CA_FILE": str(path),
        **{f"{prefix}__TLS__{side}__{kind}": str(path) for side in sides for kind in ("CERT", "KEY")},
    }
