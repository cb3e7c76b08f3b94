"""A scheduler that is running already; its workers must see the same store."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import ssl
import threading
import warnings
from typing import TYPE_CHECKING, Any

from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS = 10
MORE_SECONDS = 5
"""What Dask may take beyond that until it gives up."""
BATCH_SECONDS = 0.0005
"""How long a message to the scheduler may wait for company: Dask's 10 ms would be as long as a small task takes."""


@contextlib.contextmanager
def running_cluster(address: str) -> Iterator[Any]:
    """A client of the scheduler at ``address``; the cluster stays when it closes.

    Raises :class:`ClusterError` if nobody answers within 10 seconds, or what answers is no scheduler.
    """
    try:
        client = _connected(address)
    except (OSError, ValueError, TypeError) as error:
        raise ClusterError(f"Can't reach the cluster at {address}: {_why(address, error)}.") from error
    with silence(), client:  # it is silent also while the client closes
        yield client


def _connected(address: str) -> Any:
    """A client of a scheduler. Dask itself waits without end for what listens there and does not speak its language."""
    made: queue.Queue[Any] = queue.Queue()

    def connect() -> None:
        try:
            made.put(client_of(address, timeout=CONNECT_SECONDS))
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            made.put(error)

    threading.Thread(target=connect, name="daskflow-connect", daemon=True).start()
    try:
        found = made.get(timeout=CONNECT_SECONDS + MORE_SECONDS)
    except queue.Empty:
        raise ValueError(
            "What listens there is no scheduler. Is it the port of the dashboard? The scheduler's is another, usually 8786"
        ) from None
    if isinstance(found, Exception):
        raise found
    return found


def _why(address: str, error: Exception) -> str:
    """Why no client could be made, without a full stop."""
    import dask
    from distributed.comm import CommClosedError

    settings = [f"distributed.comm.tls.{name}" for name in ("ca-file", "client.cert", "client.key")]
    ca, certificate, _ = files = [dask.config.get(name, None) for name in settings]
    if address.startswith(("tls://", "wss://")):
        if not (ca and certificate):
            return f"Dask has no certificate for it. Set {', '.join(settings)} in its configuration, or as {', '.join(map(_variable, settings))}"
        for name, file in zip(settings, files, strict=True):
            if file and "\n" not in file and not os.path.exists(file):
                return f"{file}, which is Dask's {name}, does not exist"
    refused = next((each for each in (error, error.__cause__) if isinstance(each, ssl.SSLError)), None)
    if getattr(refused, "reason", None) == "WRONG_VERSION_NUMBER" or "IOStream is not idle" in str(error):
        return "What listens there speaks no TLS; the address of a scheduler without certificates begins with tcp://"
    if refused is not None:
        given = ", ".join(
            file if "\n" not in file else name for name, file in zip(settings, files, strict=True) if file
        )
        return f"TLS fails with the certificates in {given}: {refused}"
    if isinstance(error, CommClosedError):
        return "What listens there closes the connection; the address of a scheduler with certificates begins with tls://"
    if isinstance(error, OSError):
        return f"No scheduler answers there within {CONNECT_SECONDS} seconds"
    return str(error)


def _variable(setting: str) -> str:
    """The environment variable of a setting of Dask's."""
    return "DASK_" + setting.upper().replace(".", "__").replace("-", "_")


def client_of(cluster: Any, **options: Any) -> Any:
    """A client of a cluster or an address. Of versions that differ :mod:`daskflow.clusters.fit` tells, in our words."""
    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)
        client = Client(cluster, set_as_default=False, **options)
    client.scheduler_comm.interval = BATCH_SECONDS
    return client


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """No lines of Dask's loggers, each of which has a level of its own: what happens to the cluster is told in our words."""
    logs = [
        logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("distributed")
    ]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)
