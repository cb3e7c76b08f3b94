"""The cores of this machine: scheduler and one worker inside the driver's process.

User code runs in processes of its own, never in the worker, so a laptop needs no worker processes.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from daskflow.clusters.certificate import run_security
from daskflow.clusters.dashboard import pages_on_demand

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
}


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def local_cluster(max_workers: int | None = None) -> Iterator[Any]:
    """A cluster in this process with ``max_workers`` slots, else one a core; yields its client.

    It listens on loopback only, under TLS with a certificate made for it: a Dask scheduler runs what it is sent, and
    other users of the machine share loopback.
    """
    import dask
    from distributed import Client, LocalCluster

    with dask.config.set(SCHEDULING):
        cluster = LocalCluster(
            n_workers=1,
            threads_per_worker=max_workers or cores(),
            processes=False,
            protocol="tls",
            host=LOOPBACK,
            security=run_security(),
            dashboard_address=None,
            worker_dashboard_address=None,
            memory_limit=0,
            silence_logs=50,
            scheduler_kwargs={"dashboard_address": f"{LOOPBACK}:0"},
        )
        try:
            pages_on_demand(cluster.scheduler)
            with Client(cluster, set_as_default=False) as client:
                yield client
        finally:
            cluster.close()
