"""The index of each step of a run, written when the run ends by who drove it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from daskflow.client.index import encoded
from daskflow.client.rows import RunRows
from daskflow.store.layout import PARAMETERS

if TYPE_CHECKING:
    from daskflow.client.frames import Row
    from daskflow.store.records import TaskRecord
    from daskflow.store.runs import RunStore

MOST_READ = 5_000
"""Records of a step that are read for its index; those of a local cluster are at hand. More are left to who asks for them."""
MOST_KEPT = 20_000
"""Rows of a step that are kept at hand: they take memory, and a frame of more is not what an index is for."""
STEPS_AT_ONCE = 4


class Indexer:
    """Collects rows while a run is driven, and writes them in the end."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._rows = RunRows(store)
        self._at_hand: dict[str, dict[str, Row]] = {}
        self._lock = threading.Lock()

    def add(self, record: TaskRecord) -> None:
        """Know of a commit. It is called by the thread that made it; one that can't be told of now is read in the end."""
        try:
            row = self._rows.of_record(record)
        except Exception:  # noqa: BLE001 - whatever it is, it must not become the task's failure, which is committed
            return
        with self._lock:
            known = self._at_hand.setdefault(record.step, {})
            if len(known) < MOST_KEPT:
                known[record.task] = row

    def write(self) -> None:
        """Write the index of each step; of one with a single task its record is as good. Raises :class:`StoreError`.

        If tasks were committed in this process, all of this session's were: a step of which it knows one at most, since it
        has no more or others ran before, is not looked at.
        """
        at_hand = [step for step, rows in self._at_hand.items() if len(rows) > 1]
        steps = at_hand if self._at_hand else self._store.steps()
        steps = [step for step in steps if step != PARAMETERS.step]
        with ThreadPoolExecutor(STEPS_AT_ONCE, "daskflow-index") as pool:
            list(pool.map(self._write, steps))

    def _write(self, step: str) -> None:
        ids, at_hand = self._store.tasks_alone(step), self._at_hand.get(step, {})
        if len(ids) < 2:
            return
        lacking = [each for each in ids if each not in at_hand][:MOST_READ]
        known = at_hand | self._rows.committed(step, lacking)
        rows = [known[each] for each in ids if each in known]
        if rows:
            same = {"run": int(self._store.run), "step": step} | self._rows.parameters
            self._store.storage.replace(self._store.layout.index(step), encoded(rows, same))
