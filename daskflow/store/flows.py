"""The flows of a store, the numbers of their runs, and how a new run gets one."""

from __future__ import annotations

import contextlib
import re
import secrets
from typing import TYPE_CHECKING, Any

from daskflow.errors import DamagedRecord, StoreError
from daskflow.store import records
from daskflow.store.layout import Layout
from daskflow.store.round_trips import at_once
from daskflow.store.runs import RunStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.store.storage import Storage

_RUN = re.compile(r"[1-9][0-9]*")


def flows(storage: Storage) -> list[str]:
    """Names of the flows that have runs, sorted."""
    return sorted(
        name for name in storage.names("") if not name.startswith(".") and run_numbers(storage, name)
    )


def run_numbers(storage: Storage, flow: str) -> list[int]:
    """Numbers of a flow's runs, ascending. A folder without its ``run.json`` is no run, or not yet one."""
    folders = _run_folders(storage, flow)
    there = at_once(storage, lambda number: _is_run(storage, flow, number), folders)
    return sorted(number for number, is_run in zip(folders, there, strict=True) if is_run)


def _run_folders(storage: Storage, flow: str) -> list[int]:
    return [int(name) for name in storage.names(flow) if _RUN.fullmatch(name)]


def _is_run(storage: Storage, flow: str, number: int) -> bool:
    return storage.exists(Layout(flow, str(number)).run_record)


def new_run(storage: Storage, flow: str, record: Callable[[str], dict[str, Any]]) -> RunStore:
    """Allocate the next run number of a flow; two drivers never get the same.

    ``record`` makes the content of ``run.json`` from the run's number.
    Raises :class:`StoreError` if the storage can't be written, does not keep create-only promises, or has runs of a newer
    daskflow.
    """
    number = _last_run(storage, flow)
    token = secrets.token_hex(8)  # tells our record from one that another driver makes at the same moment
    while True:
        number += 1
        layout = Layout(flow, str(number))
        content = records.encode({"format": records.FORMAT, "token": token} | record(str(number)))
        if storage.create(layout.run_record, content):
            if storage.create(layout.run_record, content + b"\n"):  # says the same, and can't be taken for it
                raise StoreError(
                    f"{storage.url} let a file be replaced that must be created only once: whoever keeps it ignores that "
                    "condition (of an S3 server If-None-Match), without which two drivers could commit one task. Use another "
                    "store; docs/s3.md names S3 servers that keep it."
                )
            return RunStore(storage, flow, str(number))


def _last_run(storage: Storage, flow: str) -> int:
    """The number of a flow's last run, 0 if it has none. Raises :class:`StoreError` if a newer daskflow made it."""
    for number in sorted(_run_folders(storage, flow), reverse=True):
        path = Layout(flow, str(number)).run_record
        with contextlib.suppress(FileNotFoundError):
            raw = storage.read(path)
            with contextlib.suppress(DamagedRecord):  # it is a run all the same
                records.decode(raw, storage.locate(path))
            return number
    return 0
