"""What makes a process that has loaded a flow unfit to be forked.

A fork copies only the thread that forks. Threads of Python, of polars or of an asyncio runtime would be missing in the
child, and a started OpenMP pool or CUDA context hangs or fails there. BLAS and Arrow pools know how to restart.
"""

from __future__ import annotations

import os
import threading

from daskflow.task import native_threads

_HARMLESS_NAMES = ("jemalloc_bg_thd", "polars-ooc")
"""Threads that nothing waits for."""
_SYSTEM = ("libc.", "libc-", "ld-", "libpthread", "libm.", "libm-", "libstdc++", "libgcc_s", "[vdso]")
"""What is in the code of every thread, whoever started it."""
_RESTART_BY_THEMSELVES = ("libopenblas", "libscipy_openblas", "libarrow")
ENDING_SECONDS = 0.2
"""How long a thread may take to end that has been told to, as those of a pool that was closed."""


def why_not_fork() -> str | None:
    """The reason why this process must not be forked, None if it may be. Call from the main thread."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(ENDING_SECONDS)
            if thread.is_alive():
                return f"its import started the thread '{thread.name}'"
    device = _open_cuda_device()
    if device:
        return f"its import opened {device}"
    reasons = (_hazard_of(thread) for thread in native_threads.others())
    return next((reason for reason in reasons if reason), None)


def _open_cuda_device() -> str | None:
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:  # the descriptor of the listing itself
            continue
        if target.startswith("/dev/nvidia"):
            return target
    return None


def _hazard_of(thread: native_threads.NativeThread) -> str | None:
    """Why a native thread forbids a fork; None for one whose owner makes it anew in a child, or does without."""
    if thread.name.startswith(_HARMLESS_NAMES):
        return None
    owners = sorted(name for name in thread.libraries if not name.startswith(_SYSTEM))
    if owners and all(name.startswith(_RESTART_BY_THEMSELVES) for name in owners):
        return None
    named = thread.name != _own_name()
    if any(name.startswith(("libgomp", "libomp", "libiomp")) for name in owners):
        return f"its import started an OpenMP pool ({', '.join(owners)})"
    if named:
        return f"its import started the native thread '{thread.name}'"
    if owners:
        return f"its import started a native thread of {', '.join(owners)}"
    return "its import started a native thread that can't be told to be safe"


def _own_name() -> str:
    with open(f"/proc/self/task/{os.getpid()}/comm") as file:
        return file.read().strip()
