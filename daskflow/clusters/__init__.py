"""Where tasks run: each kind of cluster is a context manager that yields a Dask client.

``--cluster NAME`` picks from :data:`CLUSTERS`; ``--cluster tcp://host:port`` joins a running scheduler;
``--cluster package.module.Class`` starts a cluster of that class.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

CLUSTERS = {
    "local": "daskflow.clusters.local:local_cluster",
}
"""Names that ``--cluster`` knows, with the function that starts each."""


def open_cluster(
    cluster: str, max_workers: int | None, options: Mapping[str, Any] | None = None
) -> AbstractContextManager[Any]:
    """The cluster of that name, address or class; a context manager that yields a connected Dask client.

    Parameters
    ----------
    cluster
        A name of :data:`CLUSTERS`, the address of a scheduler (``tcp://``, ``tls://``, ``ws://``, ``wss://``), or a class by
        its path.
    max_workers
        How many tasks may run at once, None for as many as the cluster has threads.
    options
        With what a cluster class is called.

    Raises :class:`ClusterError` if there is no such kind of cluster; entering it raises the same if it can't be had.
    """
    is_class = "." in cluster and "://" not in cluster
    if options and not is_class:
        raise ClusterError(
            f"--cluster-option is for a cluster that is named by its class; '{cluster}' is none."
        )
    if is_class:
        from daskflow.clusters.by_class import cluster_class, started_cluster

        cluster_class(cluster)
        return started_cluster(cluster, options or {})
    if "://" in cluster:
        from daskflow.clusters.address import running_cluster

        return running_cluster(cluster)
    if cluster not in CLUSTERS:
        known = ", ".join(sorted(CLUSTERS))
        raise ClusterError(
            f"There is no cluster '{cluster}': use {known}, inline, the address of a scheduler (tcp://host:port), "
            "or a class by its path (package.module.Class)."
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
