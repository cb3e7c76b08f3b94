"""Who descends from whom, read from ``/proc``."""

from __future__ import annotations

import contextlib
import os


def children_of(pid: int) -> list[int]:
    """The direct children of a process; empty if it has ended."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
        except (FileNotFoundError, ProcessLookupError):
            if not os.path.exists("/proc/self/task"):
                raise
            if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
                return _children_by_search(pid)  # a kernel without CONFIG_PROC_CHILDREN
    return found


def _children_by_search(pid: int) -> list[int]:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


def descendants_of(pid: int) -> list[int]:
    """Children, their children and so on; not ``pid`` itself."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children_of(waiting.pop())
        found += below
        waiting += below
    return found


def command_line(pid: int) -> str:
    """The command of a process, shortened for a message."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            text = file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        text = ""
    return text if len(text) <= 80 else text[:77] + "..."
