"""A run's place in the dashboard of its cluster."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from daskflow.clusters import dashboard_link
from daskflow.dashboard.feed import Feed, NotShown

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.dashboard.events import Event
    from daskflow.engine.console import Console
    from daskflow.store.runs import RunStore

PATH = "/daskflow"
LOCAL_SECONDS = 0.25
"""How old a run on a cluster of its own is before its page is made: who is so quick sees none, as it goes with the run."""


def feed_of(client: Any, store: RunStore, token: str, console: Console) -> tuple[Feed | None, str]:
    """What tells the dashboard of a run, and where that is.

    If there is no dashboard that could show it, a line says why, and the run goes on without. A cluster in this process gets
    its page beside the first tasks; where that of another one is, it has to say.
    """

    def connect() -> Callable[[list[Event]], bool]:
        return _open(client, store, token)[0]

    path, after = PATH, LOCAL_SECONDS
    if client.cluster is not None and importlib.util.find_spec("bokeh") is None:
        console.notice("This Python has no Bokeh, so no dashboard shows the run: pip install bokeh.")
        return None, ""
    if client.cluster is None:
        try:
            send, path = _open(client, store, token)
        except NotShown as why:
            console.notice(str(why))
            return None, ""

        def connect() -> Callable[[list[Event]], bool]:
            return send

        after = 0.0

    link = dashboard_link(client).removesuffix("/status")
    return Feed(store, connect, console.notice, after), f"{link}{path}"


def _open(client: Any, store: RunStore, token: str) -> tuple[Callable[[list[Event]], bool], str]:
    from daskflow.dashboard.line import Line
    from daskflow.engine.worker import topic

    line = Line(client, token, topic(token))
    path = line.open(store.flow, store.run, store.storage.url)
    return line.send, path
