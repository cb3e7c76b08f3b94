"""What is known of a stored run without a look at its tasks."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from daskflow.dashboard.model import GONE
from daskflow.dashboard.task_rows import cut, readable
from daskflow.store.records import moment
from daskflow.store.sessions import how_it_ended, last_session, last_sign, status
from daskflow.store.tags import read_tags

if TYPE_CHECKING:
    from daskflow.store.records import ArtifactRef, TaskRecord
    from daskflow.store.runs import RunStore


def head_of(store: RunStore) -> dict[str, Any]:
    """What is known of a run without a look at its tasks; of one that is lost the last sign of life is its end.

    Raises :class:`StoreError` and :class:`NotFound`.
    """
    record = store.record()
    last = last_session(store)
    end = None if last is None else how_it_ended(store, last)
    tags = read_tags(store, record)
    state = str(end["status"]) if end is not None else status(store)
    ended = end["ended"] if end is not None else last_sign(store, last) if state == "lost" else None
    return {
        "status": state,
        "started": moment(record["created"]).timestamp(),
        "finished": moment(ended).timestamp() if ended else None,
        "user": record.get("user"),
        "tags": sorted(tags.user),
        "store": store.storage.url,
        "reason": GONE
        if state == "lost" and last is not None
        else readable(str((end or {}).get("reason") or "")),
        "commands": [] if state in ("running", "successful") else commands_of(store, record),
    }


def commands_of(store: RunStore, record: dict[str, Any]) -> list[str]:
    """The commands that go on with a run that did not succeed."""
    return [
        command(store, record, "continue", store.run),
        command(store, record, "resume", "--origin-run-id", store.run),
    ]


def command(store: RunStore, record: dict[str, Any], *words: str) -> str:
    """What to type for a run: the flow's file as it was called, with the store if that was named."""
    typed = [str(word) for word in record.get("command") or ()]
    where = ["--datastore", store.storage.url] if any("--datastore" in word for word in typed) else []
    return shlex.join(["python", typed[0] if typed else "flow.py", *where, *words])


def error_of(record: TaskRecord) -> str:
    """The error of a task, in a line."""
    error = record.error or {}
    return f"{error.get('type', '')}: {error.get('exception', '')}".strip(": ")


def caught(record: TaskRecord) -> str | None:
    """The error with which a decorator such as ``@catch`` dealt; None if there was none."""
    return error_of(record) if record.ok and record.error else None


def shown(ref: ArtifactRef) -> str:
    """An artifact in a few words: its value if that stands in the record as JSON, else its type."""
    if ref.encoding == "json" and ref.path is None and ref.record is None:
        text = ref.inline if isinstance(ref.inline, str) else json.dumps(ref.inline, ensure_ascii=False)
        return cut(text)
    return f"({ref.type})"
