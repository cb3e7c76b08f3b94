"""What makes a process that has loaded a flow unfit to be forked.

A fork copies only the thread that forks. Threads of Python, of polars or of an asyncio runtime would be missing in the
child, and a started OpenMP pool or CUDA context hangs or fails there. BLAS and Arrow pools know how to restart.
"""

from __future__ import annotations

import os
import sys
import threading

_HARMLESS = ("jemalloc_bg_thd", "polars-ooc", "openblas", "memory-profiler")


def why_not_fork() -> str | None:
    """The reason why this process must not be forked, None if it may be."""
    python = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if python:
        return f"its import started the thread '{python[0]}'"
    device = _open_cuda_device()
    if device:
        return f"its import opened {device}"
    return _unknown_native_threads()


def _open_cuda_device() -> str | None:
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:  # the descriptor of the listing itself
            continue
        if target.startswith("/dev/nvidia"):
            return target
    return None


def _unknown_native_threads() -> str | None:
    main = os.getpid()
    own_name = _comm(main)
    unnamed = 0
    for text in os.listdir("/proc/self/task"):
        name = _comm(int(text))
        if int(text) == main or name is None or name.startswith(_HARMLESS):
            continue
        if name != own_name:
            return f"its import started the native thread '{name}'"
        unnamed += 1
    if unnamed and not _are_pools_that_survive(unnamed):
        return f"its import started {unnamed} native threads that can't be told to be safe (an OpenMP pool?)"
    return None


def _comm(thread: int) -> str | None:
    try:
        with open(f"/proc/self/task/{thread}/comm") as file:
            return file.read().strip()
    except OSError:  # it has just ended
        return None


def _are_pools_that_survive(unnamed: int) -> bool:
    """Whether so many unnamed threads can only belong to pools that know how to restart in a fork.

    OpenBLAS starts its threads when it is loaded, so its share is known. Arrow starts them when it needs them: where
    an OpenMP runtime is loaded too, nobody can tell whose the others are.
    """
    from threadpoolctl import threadpool_info

    pools = threadpool_info()
    others: int = unnamed - sum(
        pool["num_threads"] - 1
        for pool in pools
        if pool["internal_api"] == "openblas" and pool.get("threading_layer") == "pthreads"
    )
    arrow = sys.modules.get("pyarrow")
    if others <= 0:
        return True
    if arrow is None or any(pool["user_api"] == "openmp" for pool in pools):
        return False
    capacity: int = arrow.cpu_count() + arrow.io_thread_count()
    return others <= capacity
