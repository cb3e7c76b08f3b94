"""A task that the kernel ends for want of memory is told from one that anybody else kills."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from daskflow.task import memory

if TYPE_CHECKING:
    import pytest

    from tests.task.conftest import Bench

KILLED = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"


def vmstat(monkeypatch: pytest.MonkeyPatch, *texts: bytes) -> None:
    """Let the kernel's counters be these, one after the other; the last one stays."""
    left = list(texts)

    def opened(path: str, mode: str) -> io.BytesIO:
        assert (path, mode) == ("/proc/vmstat", "rb")
        return io.BytesIO(left.pop(0) if len(left) > 1 else left[0])

    monkeypatch.setattr(memory, "open", opened, raising=False)


def test_a_kill_while_the_kernel_counts_one_for_want_of_memory_is_put_down_to_that(
    auto_bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    vmstat(monkeypatch, b"nr_free_pages 1\noom_kill 7\n", b"nr_free_pages 1\noom_kill 8\n")

    ran = auto_bench(KILLED)

    assert ran.record.error is not None
    assert (
        "SIGKILL (Killed) before the step was done, by the system for want of memory; it had used"
        in ran.record.error["exception"]
    )
    assert any("for want of memory" in line for line in ran.stderr)


def test_a_kill_while_the_kernel_counts_none_is_not(auto_bench: Bench, monkeypatch: pytest.MonkeyPatch):
    vmstat(monkeypatch, b"oom_kill 7\n")

    ran = auto_bench(KILLED)

    assert ran.record.error is not None
    assert "not for want of memory" in ran.record.error["exception"]


def test_a_kernel_that_does_not_count_is_no_error(monkeypatch: pytest.MonkeyPatch):
    vmstat(monkeypatch, b"nr_free_pages 1\nxoom_kill 3\n")

    assert memory.kills() == 0


def test_the_counter_of_this_kernel_is_read():
    assert memory.kills() >= 0
