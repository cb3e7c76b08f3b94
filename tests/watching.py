"""Waiting for what other processes do, and seeing which of them live."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ON_LOOPBACK = ("--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0")
"""Options of ``dask scheduler`` and ``dask worker`` with which nobody else reaches them: without a dashboard they have a web server, too."""


def wait_until(happens: Callable[[], object], seconds: float = 30) -> None:
    """Return once it has happened; if it does not, the test fails."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def scheduler_address(told: Path) -> str:
    """The address that ``dask scheduler --scheduler-file`` tells, once the file is written to its end."""
    found: dict[str, str] = {}

    def is_complete() -> bool:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            found.update(json.loads(told.read_text()))
        return "address" in found

    wait_until(is_complete, 60)
    return found["address"]


def living(pids: Iterable[int]) -> list[int]:
    """Those of the processes that still run; one that has ended and was not waited for does not."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            found.append(pid)
    return found


def descendants(pid: int) -> list[int]:
    """The processes below this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == pid:
                found += [int(entry.name), *descendants(int(entry.name))]
    return found
