"""A store in which runs were left, for ada, who reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daskflow.pathspec import TaskName
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.flows import new_run
from daskflow.store.layout import PARAMETERS
from daskflow.store.records import TaskRecord
from daskflow.store.storage import LocalStorage

if TYPE_CHECKING:
    from pathlib import Path

    from daskflow.store.runs import RunStore


class Past:
    """A store in which runs were left."""

    def __init__(self, folder: Path) -> None:
        self.url = str(folder)
        self.storage = LocalStorage(self.url)
        self.clock = 0

    def run(self, steps: tuple[str, ...] = ("start", "end"), flow: str = "F", **fields: object) -> RunStore:
        def record(run: str) -> dict:
            return {
                "flow": flow,
                "run": run,
                "created": self.now(),
                "user": "ada",
                "start_step": "start",
                "end_step": "end",
                "parameters": ["alpha"],
                "versions": {"python": "3", "daskflow": "0"},
                "code": {"hash": "c0de", "main": "flow.py", "files": {"flow.py": "0"}},
            } | fields

        store = new_run(self.storage, flow, record)
        self.storage.create(store.layout.code("flow.py"), b"# source")
        info = {"steps": {name: {} for name in steps}}
        self.task(store, str(PARAMETERS), artifacts={"alpha": 5, "LIMIT": 3, "_graph_info": info})
        return store

    def now(self) -> str:
        self.clock += 1
        return f"2026-01-01T00:00:{self.clock:02d}.000000Z"

    def task(self, store: RunStore, name: str, *, artifacts: dict | None = None, **fields: object) -> None:
        task = TaskName.of(name)
        attempt = fields.pop("attempt", 0)
        execution = (
            f"{attempt}.{task.step}{task.task_id}".replace("-", "_").replace(".", "_").replace("_", ".", 1)
        )
        writer = ArtifactWriter(store, task, execution)
        refs = {key: writer.save(key, value) for key, value in (artifacts or {}).items()}
        record = TaskRecord(
            store.flow, store.run, task.step, task.task_id, attempt, execution,
            **({"status": "ok", "started": self.now(), "finished": self.now(), "artifacts": refs} | fields),
        )  # fmt: skip
        if record.ok:
            store.commit(record)
        else:
            store.save_attempt(record)


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Past:
    monkeypatch.setenv("DASKFLOW_DATASTORE", str(tmp_path))
    monkeypatch.setenv("DASKFLOW_USER", "ada")
    monkeypatch.setattr("daskflow.client.namespaces._chosen", [])
    return Past(tmp_path)
