"""A store in a directory, and records to put there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daskflow.store.records import FORMAT, TaskRecord, timestamp
from daskflow.store.runs import RunStore, new_run
from daskflow.store.storage import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(str(tmp_path / "store"))


@pytest.fixture
def run(storage: LocalStorage) -> RunStore:
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
