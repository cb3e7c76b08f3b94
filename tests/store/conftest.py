"""A store in a directory, sound and faulty, and records to put there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daskflow.store import faults, retries
from daskflow.store.faults import Faulty, at_random
from daskflow.store.flows import new_run
from daskflow.store.records import FORMAT, TaskRecord, timestamp
from daskflow.store.retries import Retrying
from daskflow.store.storage import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from daskflow.store.runs import RunStore
    from daskflow.store.storage import Storage


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(retries, "LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(faults, "LATE_SECONDS", 0.001)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails counts at once."""
    monkeypatch.setattr(retries, "PATIENCE_SECONDS", 0)


@pytest.fixture(params=["local", "faulty"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A store in a directory; a second time one that often fails for a moment (``faulty.only_local``: not)."""
    local = LocalStorage(str(tmp_path / "store"))
    if request.param == "local":
        return local
    return Retrying(Faulty(local, at_random(0.3, request.node.name)))


@pytest.fixture
def run(storage: Storage) -> RunStore:
    return new_run(storage, "F", lambda number: {"run": number})


@pytest.fixture
def record_of() -> Callable[..., TaskRecord]:
    """A function: ``step/id`` and fields to a task's record."""

    def make(name: str, **fields: object) -> TaskRecord:
        step, _, task = name.partition("/")
        now = timestamp()
        basic = {"attempt": 0, "execution": "0.a", "status": "ok", "started": now, "finished": now}
        return TaskRecord(**({"flow": "F", "run": "1", "step": step, "task": task} | basic | fields))

    return make


assert FORMAT == 1, "a new format needs golden stores of the old one, and readers for it"
