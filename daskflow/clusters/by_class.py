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
    except (Exception, SystemExit) as error:  # whatever the module does when it is loaded
        raise ClusterError(
            f"Can't import the cluster {path}: {type(error).__name__} in the module {module_name or path}: {error}."
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        what = f"is a {type(found).__name__}, no class" if hasattr(module, name) else "does not exist"
        raise ClusterError(f"The cluster {path} can't be had: '{name}' of the module {module_name} {what}.")
    return found  # type: ignore[no-any-return] # callable, so it is one


@contextlib.contextmanager
def started_cluster(
    path: str, options: Mapping[str, Any], tell: Callable[[str], None] = lambda _: None
) -> Iterator[Any]:
    """Start a cluster of the class ``path`` with these options, and end it; yields its client.

    What it raises when it ends is told, and changes nothing.

    Raises :class:`ClusterError` if it can't be started, or a client can't be made of it.
    """
    import dask

    make = cluster_class(path)
    with contextlib.ExitStack() as opened:
        opened.enter_context(dask.config.set(SCHEDULING | DAEMONS))
        try:
            cluster = make(**options)
        except (Exception, SystemExit) as error:
            given = ", ".join(f"{name}={value!r}" for name, value in options.items()) or "no options"
            raise ClusterError(
                f"The cluster {path} did not start, with {given}: {type(error).__name__}: {error}."
            ) from error
        if cluster is None:  # of which Dask would make a cluster of its own
            raise ClusterError(f"{path} gave no cluster: a function has to return the one that it starts.")
        opened.callback(_close, path, cluster, tell)
        try:
            client = client_of(cluster)
        except Exception as error:
            raise ClusterError(
                f"{path} gave a {type(cluster).__name__}, of which no Dask client can be made: {error}."
            ) from error
        opened.enter_context(silence())
        yield opened.enter_context(client)


def _close(path: str, cluster: Any, tell: Callable[[str], None]) -> None:
    try:
        getattr(cluster, "close", lambda: None)()
    except Exception as error:  # noqa: BLE001 - anybody can write one
        tell(
            f"The cluster of {path} did not close, so look whether something of it is left: {type(error).__name__}: {error}."
        )
