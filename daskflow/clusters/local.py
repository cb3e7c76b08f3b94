"""The cores of this machine: scheduler and one worker inside the driver's process.

User code runs in processes of its own, never in the worker, so a laptop needs no worker processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any

from daskflow.clusters.address import BATCH_SECONDS
from daskflow.clusters.dashboard import pages_on_demand
from daskflow.task.certificate import run_security

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = "127.0.0.1"

SCHEDULING = {
    # A lost worker is no fault of the tasks that were assigned to it; the driver counts for itself.
    "distributed.scheduler.allowed-failures": 1_000_000,
    # Keep tasks at the scheduler until a slot is free: a short one must not wait behind a long one.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.work-stealing-interval": "100ms",
    # Tasks keep their data in their own processes and in the store; the driver's memory says nothing about them.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.admin.log-length": 1000,
    # Hundreds of wake-ups a second cost tasks their cores: no user code runs here that could be profiled or block the loop.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
}


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def local_cluster(max_workers: int | None = None) -> Iterator[Any]:
    """A cluster in this process with ``max_workers`` slots, else one a core; yields its client.

    Scheduler, worker and client speak within the process. For the tasks' processes the scheduler listens on loopback
    too, under TLS with a certificate made for it: it runs what it is sent, and other users of the machine share
    loopback.
    """
    import dask
    from distributed import Client, Scheduler, SpecCluster, Worker

    with dask.config.set(SCHEDULING):
        here = {"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}
        threads = max_workers or cores()
        cluster = SpecCluster(
            scheduler={"cls": Scheduler, "options": here | {"protocol": "inproc://"}},
            workers={0: {"cls": Worker, "options": here | {"nthreads": threads, "memory_limit": 0}}},
            silence_logs=logging.CRITICAL,
        )
        try:
            pages_on_demand(cluster.scheduler)
            with Client(cluster, set_as_default=False) as client:
                _send_at_once(cluster, client)
                client.loop.add_callback(_listen_to_tasks, cluster.scheduler)
                yield client
        finally:
            cluster.close()


async def _listen_to_tasks(scheduler: Any) -> None:
    """Open the scheduler's port for processes of tasks; beside the first tasks, since none needs it at once."""
    security = await asyncio.get_running_loop().run_in_executor(None, run_security)
    if scheduler.status.name != "running":
        return  # the run was over before the certificate was made
    await scheduler.listen(f"tls://{LOOPBACK}:0", **security.get_listen_args("scheduler"))


def _send_at_once(cluster: Any, client: Any) -> None:
    """Let messages within this process wait for company less long: Dask's 2 to 10 ms would double a small task's time."""
    scheduler = cluster.scheduler
    streams = [worker.batched_stream for worker in cluster.workers.values()]
    streams += [*scheduler.stream_comms.values(), *scheduler.client_comms.values(), client.scheduler_comm]
    for stream in streams:
        stream.interval = BATCH_SECONDS
