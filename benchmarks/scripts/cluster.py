"""A cluster of several worker processes on this machine: prints its address, stays until its stdin ends.

For each line of stdin it prints for how many seconds at a time the scheduler's loop has stood still, at most, since the last.

python cluster.py WORKERS SLOTS_OF_EACH
"""

import asyncio
import sys
import time

from distributed import LocalCluster

LOOPBACK = "127.0.0.1"
LOOK_SECONDS = 0.005


async def note(pauses: list[float]) -> None:
    """Note by how much later than it should this goes on, again and again."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(LOOK_SECONDS)
        pauses.append(time.perf_counter() - began - LOOK_SECONDS)


if __name__ == "__main__":
    workers, slots = map(int, sys.argv[1:])
    with LocalCluster(
        n_workers=workers,
        threads_per_worker=slots,
        host=LOOPBACK,
        dashboard_address=f"{LOOPBACK}:0",
        worker_dashboard_address=f"{LOOPBACK}:0",
        memory_limit=0,
    ) as cluster:
        pauses: list[float] = []
        cluster.loop.add_callback(note, pauses)
        print(cluster.scheduler_address, flush=True)
        for _ in sys.stdin:
            print(max(pauses, default=0.0), flush=True)
            pauses.clear()
