"""Runs of a flow, a server that shows them, and a look at its page."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskflow.pathspec import TaskName
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.flows import new_run
from daskflow.store.layout import PARAMETERS
from daskflow.store.records import ArtifactRef, TaskRecord, timestamp, timestamp_of
from daskflow.store.sessions import _who
from daskflow.store.storage import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from daskflow.store.runs import RunStore

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SHOTS = ROOT / "build" / "screenshots"
TOOL = "from daskflow.cli.tool import main; main()"
SIZES = ((1280, 800), (1920, 1080))


def ran(
    store: Path | str,
    *words: str,
    command: str = "run",
    wait: bool = True,
    environment: dict[str, str] | None = None,
) -> subprocess.Popen[str]:
    """The process of a run of the flow; it is over unless it is not waited for."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "trouble.py"), "--quiet", "--datastore", str(store), command, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {}),
    )
    if wait:
        process.communicate(timeout=90)
    return process


@dataclass
class Ui:
    """``daskflow ui``, as it runs."""

    address: str
    process: subprocess.Popen[str]
    is_silent: bool = True
    """Whether it has nothing to say on stderr."""

    @property
    def origin(self) -> str:
        return self.address.partition("/daskflow")[0]

    def page(self, **selected: Any) -> str:
        from urllib.parse import urlencode

        return f"{self.origin}/daskflow?{urlencode(selected)}"


@contextlib.contextmanager
def ui_of(store: Path | str, *words: str, port: int | None = 0) -> Iterator[Ui]:
    """Show a store's runs."""
    where = [] if port is None else ["--port", str(port)]
    command = [sys.executable, "-c", TOOL, "ui", "--datastore", str(store), *where, *words]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("The runs in "), line + (process.stderr.read() if not line else "")
        found = Ui(line.rpartition(": ")[2].strip(), process)
        yield found
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == "" or not found.is_silent, errors


class Look:
    """A page in a browser, of which nothing may go wrong unnoticed."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)

    def at(self, address: str) -> Look:
        """Open an address, and wait until the page is alive."""
        self.page.goto(address)
        self.page.wait_for_selector("body[data-ready=yes]", timeout=30_000)
        return self

    def shot(self, name: str) -> None:
        """Keep what is seen."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)


def driver_here() -> bytes:
    """The record of a driver that lives as long as this process."""
    return json.dumps({"format": 1, "started": "2026-01-01T00:00:00Z"} | _who()).encode()


class Written:
    """A run whose records are written by hand."""

    def __init__(self, folder: Path, steps: dict[str, dict[str, Any]], flow: str = "F", **about: Any) -> None:
        storage = LocalStorage(str(folder))
        known = {
            "created": timestamp(), "user": "ada", "start_step": "start", "end_step": "end", "versions": {},
            "parameters": [], "command": ["flow.py", "run"], "code": {"main": "flow.py", "files": {}, "hash": "0"},
        } | about  # fmt: skip
        self.store: RunStore = new_run(storage, flow, lambda run: {"flow": flow, "run": run} | known)
        self.folder = folder
        info = {"steps": {name: {"type": "linear", "next": []} | step for name, step in steps.items()}}
        graph = ArtifactWriter(self.store, PARAMETERS, "0.g").save("_graph_info", info, 1 << 24)
        self.task(str(PARAMETERS), graph=graph)

    def task(
        self,
        name: str,
        artifacts: dict[str, Any] | None = None,
        at: float = 1e9,
        graph: ArtifactRef | None = None,
        **fields: Any,
    ) -> TaskRecord:
        task = TaskName.of(name)
        execution = f"{fields.get('attempt', 0)}.x{task.task_id.replace('-', '_').replace('.', '_')}"
        writer = ArtifactWriter(self.store, task, execution)
        refs = {key: writer.save(key, value) for key, value in (artifacts or {}).items()}
        refs |= {} if graph is None else {"_graph_info": graph}
        known = {"attempt": 0, "status": "ok", "started": timestamp_of(at), "finished": timestamp_of(at + 1)}
        record = TaskRecord(
            self.store.flow, self.store.run, task.step, task.task_id, execution=execution, artifacts=refs,
            **(known | fields),
        )  # fmt: skip
        if record.ok:
            self.store.commit(record)
        else:
            self.store.save_attempt(record)
        return record

    def ended(self, status: str = "successful", reason: str = "") -> None:
        layout, storage = self.store.layout, self.store.storage
        storage.create(layout.driver(0), b'{"format": 1}')
        how = f'{{"format": 1, "ended": "{timestamp()}", "status": "{status}", "reason": "{reason}"}}'
        storage.create(layout.driver_end(0), how.encode())
