"""In the scheduler: the models of the runs that are driven on its cluster, and the page that shows them.

The page is added to the scheduler's HTTP server while it runs. Bokeh is loaded when somebody looks at the page first.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

from daskflow.dashboard.events import Told
from daskflow.dashboard.model import GONE, RunModel, Source
from daskflow.dashboard.scheduler_pages import Pages, add_pages
from daskflow.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daskflow.dashboard.events import Event

NAME = "daskflow"
HELLO, EVENTS = "daskflow_hello", "daskflow_events"
"""What a scheduler with this plugin can be asked by a driver."""
MOST_ENDED, MOST_TASKS = 20, 50_000
"""Runs that are over and still shown; how many tasks they may have together."""
LOST_SECONDS = 60.0
"""A driver of which neither its feed nor its client says anything for so long is lost: a store may be slow to read."""
LOOK_SECONDS = 5.0
SLICE_SECONDS = 0.01
"""How long the scheduler is kept from all else at a time while it takes notice of events."""
LAST_LOOK_SECONDS = 0.7
"""How long a scheduler that ends with its run stays for pages to show how that ended."""


@dataclass
class _Live:
    """A run, as its driver told it.

    Attributes
    ----------
    client
        The Dask client of its driver.
    heard
        When its driver said something, in monotonic seconds.
    lost
        Whether it is shown as lost.
    topic
        On which its workers speak to its driver by Dask's events.
    hearing
        Held while events are taken notice of: they stay in order.
    """

    model: RunModel
    run: str
    store: str
    client: str
    heard: float = field(default_factory=time.monotonic)
    lost: bool = False
    topic: str = ""
    hearing: asyncio.Lock = field(default_factory=asyncio.Lock)


class RunPages(SchedulerPlugin, Source):  # type: ignore[misc]
    """Holds what drivers tell of their runs, and shows it."""

    name = NAME
    idempotent = True
    opens_latest = True
    patience = 0.0  # to wait would hold the scheduler up

    def __init__(self) -> None:
        self._runs: dict[str, _Live] = {}
        self._scheduler: Any = None
        self._pages: Pages | None = None
        self._looking: asyncio.Task[None] | None = None
        self._ends_with_its_run = False

    async def start(self, scheduler: Any) -> None:
        """Add the page; called on the scheduler."""
        self._scheduler = scheduler
        self._pages = add_pages(scheduler, self)
        self._ends_with_its_run = str(scheduler.address).startswith("inproc://")
        scheduler.handlers |= {HELLO: self.hello, EVENTS: self.hear}
        self._looking = asyncio.create_task(self._look())

    async def before_close(self) -> None:
        """The scheduler ends."""
        if self._looking is not None:
            self._looking.cancel()
        if self._pages is not None:
            self._pages.close()

    def hello(
        self, token: str, flow: str, run: str, store: str, client: str, topic: str = ""
    ) -> dict[str, str]:
        """A driver begins. Returns the ``path`` of the page, or what is ``missing``."""
        assert self._pages is not None
        if self._pages.missing:
            return {"missing": self._pages.missing}
        others = [each for each in self._runs.values() if (each.model.flow, each.run) == (flow, run)]
        shown = run
        for each in others:
            if each.store == store:  # it goes on
                self._runs = {key: kept for key, kept in self._runs.items() if kept is not each}
                shown = each.model.run
                break
        else:
            taken = {each.model.run for each in others}  # another store has a run of that number
            shown = next(name for name in _names(run) if name not in taken)
        self._runs[token] = _Live(RunModel(flow, shown), run, store, client, topic=topic)
        return {"path": self._pages.path, "run": shown}

    async def hear(self, token: str, events: list[Event] | bytes) -> None:
        """A driver tells what happened."""
        live = self._runs.get(token)
        if live is None:  # this scheduler was restarted, or the run has ended here
            return
        live.heard = time.monotonic()
        async with live.hearing:
            if live.lost:
                live.lost = False
                live.model.apply(Told({"status": "running", "finished": None, "reason": None}))
            await _apply(live.model, pickle.loads(events) if isinstance(events, bytes) else events)
        if live.model.is_over:
            self._clear(live)
            self._forget()
            if self._ends_with_its_run and self._pages is not None and self._pages.is_watched():
                await asyncio.sleep(LAST_LOOK_SECONDS)

    def remove_client(self, scheduler: Any, client: str) -> None:
        """A client has gone; if it was a driver's and its run is not over, the run is lost."""
        for live in list(self._runs.values()):
            if live.client == client:
                self._lose(live)

    def runs(self) -> list[dict[str, Any]]:
        """The heads of all runs, newest first."""
        return [live.model.head() for live in reversed(self._runs.values())]

    def model(self, flow: str, run: str) -> RunModel | None:
        """A run; None if there is none."""
        live = self._live(flow, run)
        return None if live is None else live.model

    def detail(self, flow: str, run: str, step: str, task: str) -> dict[str, Any]:
        """What the run's store says of a task; for a thread."""
        from daskflow.dashboard import details

        model = self.model(flow, run)
        begun = model is not None and model.task(step, task) is not None
        return self._in_store(partial(details.detail, begun=begun), flow, run, step, task)

    def table(self, flow: str, run: str, step: str, task: str, name: str, first: int) -> dict[str, Any]:
        """What the run's store says of a table; for a thread."""
        from daskflow.dashboard import details

        return self._in_store(details.table, flow, run, step, task, name, first)

    def _in_store(
        self, ask: Callable[..., dict[str, Any]], flow: str, run: str, *what: object
    ) -> dict[str, Any]:
        from daskflow.store.runs import RunStore
        from daskflow.store.storage import storage_at

        live = self._live(flow, run)
        if live is None:
            raise NotFound(f"Run {flow}/{run} is not shown here any more.")
        return ask(RunStore(storage_at(live.store), flow, live.run), *what)

    def _live(self, flow: str, run: str) -> _Live | None:
        return next(
            (live for live in list(self._runs.values()) if (live.model.flow, live.model.run) == (flow, run)),
            None,
        )

    def _lose(self, live: _Live, silent: float = 0.0) -> None:
        """Show a run as lost whose driver has said nothing for some seconds."""
        if not live.model.is_over:
            live.lost = True
            finished = time.time() - silent
            live.model.apply(Told({"status": "lost", "finished": finished, "reason": GONE}))
            self._clear(live)
            self._forget()

    def _clear(self, live: _Live) -> None:
        """Let go of what Dask keeps of each topic's events: nobody asks for those of a run that is over."""
        if live.topic:
            self._scheduler._broker.truncate(live.topic)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for live in list(self._runs.values()):
                silent = self._silent_seconds(live)
                if silent > LOST_SECONDS:
                    self._lose(live, silent)

    def _silent_seconds(self, live: _Live) -> float:
        silent = time.monotonic() - live.heard
        client = self._scheduler.clients.get(live.client)
        return silent if client is None else min(silent, time.time() - client.last_seen)

    def _forget(self) -> None:
        """Keep the runs that go on, and the last of those that are over."""
        tasks, over = 0, 0
        for token, live in reversed(list(self._runs.items())):
            if not live.model.is_over:
                continue
            over += 1
            tasks += live.model.head()["known"]
            if over > 1 and (over > MOST_ENDED or tasks > MOST_TASKS):
                del self._runs[token]


async def _apply(model: RunModel, events: list[Event]) -> None:
    """Take notice of events; whoever else the scheduler has to serve gets his turn in between."""
    end = time.monotonic() + SLICE_SECONDS
    for event in events:
        if time.monotonic() > end:
            await asyncio.sleep(0)
            end = time.monotonic() + SLICE_SECONDS
        model.apply(event)


def _names(run: str) -> Iterator[str]:
    """What a run can be called."""
    yield run
    for number in count(2):
        yield f"{run}@{number}"
