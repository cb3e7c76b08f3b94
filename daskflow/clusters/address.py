"""A scheduler that is running already; its workers must see the same store."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS = 10


@contextlib.contextmanager
def running_cluster(address: str) -> Iterator[Any]:
    """A client of the scheduler at ``address``; the cluster stays when it closes.

    Raises :class:`ClusterError` if nobody answers within 10 seconds, or what answers is no scheduler.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = (
            f"No scheduler answers there within {CONNECT_SECONDS} seconds"
            if isinstance(error, OSError)
            else error
        )
        raise ClusterError(f"Can't reach the cluster at {address}: {reason}.") from error
    with silence(), client:  # it is silent also while the client closes
        yield client


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
