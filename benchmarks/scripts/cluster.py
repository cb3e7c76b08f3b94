"""A cluster of several worker processes on this machine: prints its address, stays until its stdin ends.

python cluster.py WORKERS SLOTS_OF_EACH
"""

import sys

from distributed import LocalCluster

LOOPBACK = "127.0.0.1"

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
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
