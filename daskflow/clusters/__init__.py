"""Where tasks run: each kind of cluster is a context manager that yields a Dask client.

``--cluster NAME`` picks from :data:`CLUSTERS`; ``--cluster tcp://host:port`` joins a running scheduler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

CLUSTERS = {
    "local": "daskflow.clusters.local:local_cluster",
}
"""Names that ``--cluster`` knows, with the function that starts each."""


def open_cluster(cluster: str, max_workers: int | None) -> AbstractContextManager[Any]:
    """The cluster of that name or address; a context manager that yields a connected Dask client.

    Parameters
    ----------
    cluster
        A name of :data:`CLUSTERS`, or the address of a scheduler (``tcp://``, ``tls://``, ``ws://``, ``wss://``).
    max_workers
        How many tasks may run at once, None for as many as the cluster has threads.

    Raises :class:`ClusterError` if there is no such kind of cluster; entering it raises the same if it can't be had.
    """
    if "://" in cluster:
        from daskflow.clusters.address import running_cluster

        return running_cluster(cluster)
    if cluster not in CLUSTERS:
        known = ", ".join(sorted(CLUSTERS))
        raise ClusterError(
            f"There is no cluster '{cluster}': use {known}, inline, or the address of a scheduler (tcp://host:port)."
        )
    module, _, function = CLUSTERS[cluster].partition(":")
    opened: AbstractContextManager[Any] = getattr(importlib.import_module(module), function)(max_workers)
    return opened


def dashboard_link(client: Any) -> str:
    """Where a person finds the cluster's dashboard; of a cluster in this process always on loopback."""
    link: str = client.dashboard_link
    scheduler = getattr(client.cluster, "scheduler", None)
    if scheduler is None or not hasattr(scheduler, "http_server"):
        return link
    return f"http://127.0.0.1:{scheduler.http_server.port}/status"
