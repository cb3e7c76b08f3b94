"""From a driver to the plugin in its scheduler."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from daskflow.dashboard.feed import NotShown
from daskflow.dashboard.plugin import EVENTS, HELLO, RunPages

if TYPE_CHECKING:
    from daskflow.dashboard.events import Event


class Line:
    """A driver's line to the plugin in its scheduler."""

    def __init__(self, client: Any, token: str, topic: str) -> None:
        self._client = client
        self._token = token
        self._topic = topic
        self._here = str(client.scheduler.address).startswith("inproc://")

    def open(self, flow: str, run: str, store: str) -> str:
        """Let the scheduler have the page, and say what begins; path and query of the run's page.

        Raises :class:`NotShown` if the scheduler can't show it.
        """
        try:
            self._client.register_plugin(RunPages())
            hello = getattr(self._client.scheduler, HELLO)
            found: dict[str, str] = self._client.sync(
                hello,
                token=self._token,
                flow=flow,
                run=run,
                store=store,
                client=self._client.id,
                topic=self._topic,
            )
        except Exception as error:  # Dask raises what the scheduler raised
            raise NotShown(
                f"The scheduler can't show the run; is this daskflow installed there? {error!r}"
            ) from error
        if "missing" in found:
            raise NotShown(found["missing"])
        return f"{found['path']}?{urlencode({'flow': flow, 'run': found['run']})}"

    def send(self, events: list[Event]) -> bool:
        """Hand events over, and wait until they are there; whether there still is somebody who takes them."""
        hear = getattr(self._client.scheduler, EVENTS)
        try:
            self._client.sync(hear, token=self._token, events=events if self._here else pickle.dumps(events))
        except Exception as error:
            if isinstance(error, OSError) or self._client.status != "running":
                return False  # the scheduler has gone; what that means for the run is told by who drives it
            raise
        return True
