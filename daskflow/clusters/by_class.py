"""A cluster of any class that a Dask client can be made of: ``dask_jobqueue.SLURMCluster``, ``distributed.SSHCluster`` and so on."""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

from daskflow.clusters.address import client_of, silence
from daskflow.clusters.local import SCHEDULING
from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DAEMONS = {"distributed.worker.daemon": False}
"""Processes of tasks are children of workers, which daemons of multiprocessing may not have."""


def cluster_class(path: str) -> Callable[..., Any]:
    """The class ``package.module.Class``. Raises :class:`ClusterError` if there is none."""
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ClusterError(f"Can't import the cluster {path}: {error}.") from error
    found = getattr(module, name, None)
    if not callable(found):
        what = f"is a {type(found).__name__}, no class" if hasattr(module, name) else "does not exist"
        raise ClusterError(f"The cluster {path} can't be had: '{name}' of the module {module_name} {what}.")
    return found  # type: ignore[no-any-return] # callable, so it is one


@contextlib.contextmanager
def started_cluster(path: str, options: Mapping[str, Any]) -> Iterator[Any]:
    """Start a cluster of the class ``path`` with these options, and end it; yields its client.

    Raises :class:`ClusterError` if it can't be started, or a client can't be made of it.
    """
    import dask

    make = cluster_class(path)
    with contextlib.ExitStack() as opened:
        opened.enter_context(dask.config.set(SCHEDULING | DAEMONS))
        try:
            cluster = make(**options)
        except Exception as error:
            given = ", ".join(f"{name}={value!r}" for name, value in options.items()) or "no options"
            raise ClusterError(
                f"The cluster {path} did not start, with {given}: {type(error).__name__}: {error}."
            ) from error
        opened.callback(getattr(cluster, "close", lambda: None))
        try:
            client = client_of(cluster)
        except Exception as error:
            raise ClusterError(
                f"{path} gave a {type(cluster).__name__}, of which no Dask client can be made: {error}."
            ) from error
        opened.enter_context(silence())
        yield opened.enter_context(client)
