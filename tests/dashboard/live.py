"""Runs that go on while tests look at them in the dashboard of their cluster."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watching import ON_LOOPBACK, scheduler_address, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOW = Path(__file__).parent / "live_flow.py"
COUNTS = ("done", "running", "waiting", "failed", "reused", "retried")
ROOT = Path(__file__).parents[2]


@dataclass
class Run:
    """A run whose driver is a process of its own.

    Attributes
    ----------
    folder
        Its working directory, with its store: what it waits for is created there.
    """

    folder: Path
    process: subprocess.Popen[str]
    told: Path

    @property
    def output(self) -> str:
        return self.told.read_text()

    @property
    def page(self) -> str:
        """The address that it printed."""
        found: list[str] = []
        wait_until(lambda: found.extend(re.findall(r"Dashboard: (\S+)\n", self.output)) or found, 60)
        return found[0]

    @property
    def api(self) -> str:
        return f"{self.page.partition('?')[0]}/api/runs"

    def ask(self, path: str = "") -> dict[str, Any]:
        """What the API says."""
        with urllib.request.urlopen(self.api + path, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def counts(self, step: str, run: str = "1") -> dict[str, int]:
        """How many tasks of a step are where; zeros before anything is known of it."""
        try:
            steps = self.ask(f"/Live/{run}")["steps"]
        except urllib.error.HTTPError:
            steps = []
        found = next((each for each in steps if each["name"] == step), {})
        return {name: found.get(name, 0) for name in COUNTS}

    def wait_for_counts(self, step: str, run: str = "1", **wanted: int) -> None:
        wait_until(lambda: wanted.items() <= self.counts(step, run).items(), 60)

    def go_on(self) -> None:
        (self.folder / "go").touch()

    def ends(self) -> int:
        """Its exit status."""
        return self.process.wait(90)


@contextlib.contextmanager
def run_in(
    folder: Path, *words: str, command: str = "run", environment: dict[str, str] | None = None
) -> Iterator[Run]:
    """Start a run; it does not outlive the test."""
    folder.mkdir(exist_ok=True)
    told = folder / f"{command}.txt"
    with told.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, str(FLOW), "--datastore", "store", command, *words],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {}),
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield Run(folder, process, told)
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(60)


@dataclass
class Cluster:
    """A scheduler and workers, each a process of its own."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@contextlib.contextmanager
def cluster_in(
    folder: Path,
    *words: str,
    workers: int = 2,
    scheduler_environment: dict[str, str] | None = None,
) -> Iterator[Cluster]:
    """Start a cluster whose scheduler gets these options."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    dask = [sys.executable, "-m", "dask"]
    listen = ["--port", "0", "--scheduler-file", str(folder / "s.json"), *ON_LOOPBACK, "--dashboard"]
    options: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = environment | (scheduler_environment or {})
    started = [subprocess.Popen([*dask, "scheduler", *listen, *words], env=env, **options)]
    try:
        found = scheduler_address(folder / "s.json")
        worker = [*dask, "worker", found, "--nthreads", "2", "--no-nanny", *ON_LOOPBACK]
        started += [subprocess.Popen(worker, env=environment, **options) for _ in range(workers)]
        yield Cluster(found, started[0], started[1:])
    finally:
        for process in reversed(started):  # the workers first: one whose scheduler is gone waits for it
            process.terminate()
            process.wait(60)


def websocket_status(page: str, origin: str | None = None, host: str | None = None) -> int:
    """What the page answers to a browser that opens its websocket from a page of ``origin``; 101 if it lets it.

    ``host`` is the name by which the browser came, if it is not that of the page's address.
    """
    html = urllib.request.urlopen(page, timeout=60).read()
    token = re.search(rb'"token":\s*"([^"]+)"', html)
    assert token is not None, html[:1000]
    return websocket_status_of(token[1].decode(), page, origin, host)


def websocket_status_of(token: str, page: str, origin: str | None = None, host: str | None = None) -> int:
    """The same of a browser that has a token."""
    where = urllib.parse.urlsplit(page)
    asked = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(b"sixteen bytes ..").decode(),
        "Sec-WebSocket-Protocol": f"bokeh, {token}",
    }
    connection = http.client.HTTPConnection(where.netloc, timeout=60)
    connection.request(
        "GET",
        f"{where.path}/ws",
        headers=asked | {name: value for name, value in (("Origin", origin), ("Host", host)) if value},
    )
    status = connection.getresponse().status
    connection.close()
    return status
