"""Who descends from whom, read from ``/proc``, and the end of all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time

_TICK_SECONDS = 0.005
_GIVE_UP_SECONDS = 10.0


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
    """The command of a process, without the folder of its program and shortened for a message."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().decode("utf-8", "replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        words = [""]
    text = " ".join([os.path.basename(words[0]), *words[1:]]).strip()
    return text if len(text) <= 80 else text[:77] + "..."


def session_of(pid: int) -> int | None:
    """The session a process is in, None if it has ended."""
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid)
    return None


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may just have ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, or is not ours to end
        os.kill(pid, number)


def has_children() -> bool:
    """Whether this process has a child, be it one that has ended."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def send_tree(pid: int, number: int) -> None:
    """Send a signal to a process and all its descendants, the process itself first so that it starts no more."""
    below = descendants_of(pid)
    for one in (pid, *below):
        send(one, number)


def end_descendants(grace: float, keep: int = 0) -> None:
    """End all descendants of this process but ``keep``: SIGTERM, and after ``grace`` seconds SIGKILL.

    Returns once none runs; also after ten seconds more if the system can't end one. What ``/proc`` lists may lack some
    while others end (Linux, Documentation/filesystems/proc), so the last word has the system. For that this process must
    be one that adopts orphans.
    """
    asked: set[int] = set()
    patience = time.monotonic() + grace
    while True:
        left = [pid for pid in descendants_of(os.getpid()) if pid != keep and not _reaped(pid)]
        if not left and (keep or not has_children()):
            return
        now = time.monotonic()
        if now > patience + _GIVE_UP_SECONDS:
            return
        for pid in left:
            if now >= patience:
                send(pid, signal.SIGKILL)
            elif pid not in asked:
                asked.add(pid)
                send(pid, signal.SIGTERM)
        time.sleep(_TICK_SECONDS)


def _reaped(pid: int) -> bool:
    """Whether a process has ended; one that is our child is cleared away."""
    with contextlib.suppress(ChildProcessError):  # the child of another, who has to clear it away
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True
