"""Where tasks run: each kind of cluster is a context manager that yields a Dask client.

``--cluster NAME`` picks from :data:`CLUSTERS` or is a profile in ``daskflow.toml``; ``--cluster tcp://host:port`` joins a running
scheduler; ``--cluster package.module.Class`` starts a cluster of that class.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

CLUSTERS = {
    "local": "daskflow.clusters.local:local_cluster",
}
"""Names that ``--cluster`` knows, with the function that starts each."""
_BARE_ADDRESS = re.compile(r"[^/\s]+:\d+")
"""A host and a port."""


@dataclass(frozen=True)
class Purpose:
    """What a cluster is opened for.

    Attributes
    ----------
    folder
        Where the search for profiles starts: that of the flow.
    store
        URL or directory of the store that the workers must see.
    user
        Whose it is.
    tell
        Called with a line for the user.
    """

    folder: Path
    store: str
    user: str
    tell: Callable[[str], None]


def open_cluster(
    cluster: str,
    max_workers: int | None,
    options: Mapping[str, Any] | None = None,
    purpose: Purpose | None = None,
) -> AbstractContextManager[Any]:
    """The cluster of that name, address or class; a context manager that yields a connected Dask client.

    Parameters
    ----------
    cluster
        A name of :data:`CLUSTERS` or of a profile, the address of a scheduler (``tcp://``, ``tls://``, ``ws://``, ``wss://``), or
        a class by its path.
    max_workers
        How many tasks may run at once, None for as many as the cluster has threads.
    options
        With what a cluster class is called, or what takes precedence over a profile.
    purpose
        What it is for. Without it there are no profiles.

    Raises :class:`ClusterError` if there is no such kind of cluster; entering it raises the same if it can't be had.
    """
    if _BARE_ADDRESS.fullmatch(cluster):
        raise ClusterError(
            f"There is no cluster '{cluster}'. The address of a scheduler begins with its protocol: tcp://{cluster}, or tls://{cluster} if "
            "it has certificates."
        )
    if "://" not in cluster and "." in cluster:
        return _of_class(cluster, options or {}, purpose)
    if purpose is not None and "://" not in cluster and cluster not in CLUSTERS:
        return _of_profile(cluster, options or {}, purpose)
    if options:
        raise ClusterError(f"--cluster-option is for a class or a profile; '{cluster}' is none.")
    if "://" in cluster:
        from daskflow.clusters.address import running_cluster

        return running_cluster(cluster)
    if cluster not in CLUSTERS:
        raise ClusterError(_unknown(cluster, ()))
    module, _, function = CLUSTERS[cluster].partition(":")
    opened: AbstractContextManager[Any] = getattr(importlib.import_module(module), function)(max_workers)
    return opened


def _of_class(path: str, options: Mapping[str, Any], purpose: Purpose | None) -> AbstractContextManager[Any]:
    from daskflow.clusters.by_class import cluster_class, started_cluster

    cluster_class(path)
    return started_cluster(path, options) if purpose is None else started_cluster(path, options, purpose.tell)


def _of_profile(name: str, options: Mapping[str, Any], purpose: Purpose) -> AbstractContextManager[Any]:
    from daskflow.clusters import profiles

    profile = profiles.find(name, purpose.folder, options)
    if profile is None:
        raise ClusterError(_unknown(name, profiles.names(purpose.folder)))
    if isinstance(profile, profiles.ClassProfile):
        return _of_class(profile.path, profile.options, purpose)
    from daskflow.clusters import ec2

    ec2.check(profile, purpose)
    return ec2.ec2_cluster(profile, purpose)


def _unknown(cluster: str, names: Sequence[str]) -> str:
    from daskflow.clusters.profiles import EC2, suggestion

    return (
        f"There is no cluster '{cluster}'. {suggestion(cluster, {*CLUSTERS, *names, EC2, 'inline'})} Or give the address of a scheduler "
        "(tcp://host:port), or a class by its path (package.module.Class)."
    )


def dashboard_link(client: Any) -> str:
    """Where a person finds the cluster's dashboard; of a cluster in this process always on loopback."""
    link: str = client.dashboard_link
    scheduler = getattr(client.cluster, "scheduler", None)
    if scheduler is None or not hasattr(scheduler, "http_server"):
        return link
    return f"http://127.0.0.1:{scheduler.http_server.port}/status"
