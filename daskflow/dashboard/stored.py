"""Runs of a store, as a page shows them: read in threads, as long as someone looks."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from daskflow.dashboard import details
from daskflow.dashboard.events import Committed
from daskflow.dashboard.following import Follower
from daskflow.dashboard.heads import head_of
from daskflow.dashboard.model import RunModel, Source
from daskflow.errors import DaskflowException, NotFound
from daskflow.store.round_trips import at_once
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.dashboard.events import Event

PATIENCE_SECONDS = 0.4
"""How long a first look may take before a page is shown that lacks some of it."""
PAUSE_SECONDS, REMOTE_PAUSE_SECONDS = 0.7, 2.0
"""Between two looks at a run, or at the list of runs."""
LOST_SECONDS, OVER_SECONDS, REMOTE_OVER_SECONDS = 5.0, 30.0, 60.0
"""After which a run in the list that is over is looked at again; one that is lost may just not have a driver yet."""
APPLY_SECONDS = 0.15
"""How long events are applied at a time: the pages of others want to move too."""
MOST_WAITING = 20_000
"""Tasks that were read and that their model was not told of yet, more or less."""
MOMENT_SECONDS, UNWATCHED_SECONDS = 0.1, 10.0
"""How long who wants all of a run is kept waiting at a time, and how long what was read waits for someone who looks."""
MOST_RUNS = 20
"""Runs that are kept at hand."""
_log = logging.getLogger(__name__)


class StoreSource(Source):
    """What a page shows of a store.

    Parameters
    ----------
    url
        A directory, or ``s3://bucket/prefix``.

    Raises as :func:`storage_at`.
    """

    def __init__(self, url: str) -> None:
        self._storage = storage_at(url)
        self.place = self._storage.url
        self._pool = ThreadPoolExecutor(4, "daskflow-read")
        self._followed: dict[tuple[str, str], _Followed] = {}
        self._heads: dict[tuple[str, str], dict[str, Any]] = {}
        self._read_at: dict[tuple[str, str], float] = {}
        self._sought: dict[tuple[str, str], _Looks] = {}
        self._there: set[tuple[str, str]] = set()
        self._closed = threading.Event()
        pause = REMOTE_PAUSE_SECONDS if self._storage.remote else PAUSE_SECONDS
        self._pause = pause
        self._listed = _Looks(self._list, pause)

    def close(self) -> None:
        """Read no more; what is being read ends at the next record."""
        self._closed.set()
        for followed in list(self._followed.values()):
            followed.wake()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def runs(self) -> list[dict[str, Any]]:
        """The heads of all runs that are known by now, newest first."""
        self._listed.look(self._pool)
        heads = list(self._heads.values())
        return sorted(
            heads, key=lambda head: (head.get("started") or 0.0, head["run"].rjust(12)), reverse=True
        )

    def model(self, flow: str, run: str) -> RunModel | None:
        """The run as it is known by now; None if there is none of that name."""
        followed = self._followed.get((flow, run))
        if followed is None:
            if not _is_name(flow, run) or not self._is_there((flow, run)):
                return None
            followed = self._followed[flow, run] = _Followed(RunStore(self._storage, flow, run), self._closed)
            while len(self._followed) > MOST_RUNS:
                self._followed.pop(next(iter(self._followed)))
        self._followed[flow, run] = self._followed.pop((flow, run))
        followed.looks.look(self._pool)
        if followed.follower.is_gone:
            self._forget((flow, run))
            return None
        followed.apply()
        return followed.model

    def read(self, flow: str, run: str) -> bool:
        """Wait a moment; whether all of a run has been read that there was."""
        followed = self._followed.get((flow, run))
        if followed is not None:
            return followed.is_read()
        sought = self._sought.get((flow, run))
        return sought is None or (sought.is_over(MOMENT_SECONDS) and (flow, run) not in self._there)

    def detail(self, flow: str, run: str, step: str, task: str) -> dict[str, Any]:
        """See :func:`daskflow.dashboard.details.detail`."""
        return details.detail(RunStore(self._storage, flow, run), step, task)

    def table(self, flow: str, run: str, step: str, task: str, name: str, first: int) -> dict[str, Any]:
        """See :func:`daskflow.dashboard.details.table`."""
        return details.table(RunStore(self._storage, flow, run), step, task, name, first)

    def _forget(self, name: tuple[str, str]) -> None:
        """Somebody has deleted a run; should there be another one of its name, it is found as any other."""
        for known in (self._followed, self._heads, self._sought):
            known.pop(name, None)
        self._there.discard(name)

    def _is_there(self, name: tuple[str, str]) -> bool:
        """Whether a run is known to exist by now. One that is not listed is looked for in a thread."""
        if name in self._heads or name in self._there:
            return True
        if name not in self._sought:
            self._sought[name] = _Looks(lambda: self._seek(name), self._pause)
            while len(self._sought) > MOST_RUNS:
                self._sought.pop(next(iter(self._sought)))
        self._sought[name].look(self._pool)
        return name in self._there

    def _seek(self, name: tuple[str, str]) -> None:
        with contextlib.suppress(DaskflowException):  # the list of runs says why
            if self._storage.exists(f"{name[0]}/{name[1]}/run.json"):
                self._there.add(name)

    def _list(self) -> None:
        try:
            names = [
                (flow, number)
                for flow in self._storage.names("")
                if flow.isidentifier()
                for number in self._storage.names(flow)
                if number.isdecimal()
            ]
        except DaskflowException as error:
            self.trouble = error.message
            return
        self.trouble = ""
        for gone in self._heads.keys() - set(names):
            del self._heads[gone]
        self._there &= set(names)
        old = [name for name in names if self._is_old(name)]
        old.sort(key=lambda name: int(name[1]), reverse=True)
        for name, head in zip(old, at_once(self._storage, self._head, old), strict=True):
            if self._closed.is_set():
                break
            self._read_at[name] = time.monotonic()
            if head is not None:
                self._heads[name] = head

    def _is_old(self, name: tuple[str, str]) -> bool:
        """Whether a run's head is to be read again: one that is over changes by new tags, or if it is continued."""
        head = self._heads.get(name)
        if head is None or head["status"] == "running":
            return True
        seconds = LOST_SECONDS if head["status"] == "lost" else OVER_SECONDS
        return time.monotonic() - self._read_at[name] > (
            REMOTE_OVER_SECONDS if self._storage.remote else seconds
        )

    def _head(self, name: tuple[str, str]) -> dict[str, Any] | None:
        """What is known of a run; None if it is none, or not yet one."""
        flow, run = name
        if self._closed.is_set():
            return None
        try:
            return {"flow": flow, "run": run} | head_of(RunStore(self._storage, flow, run))
        except NotFound:
            return None
        except DaskflowException as error:
            reason = error.message
        except Exception as error:  # noqa: BLE001 - a run that holds something strange must not hide the others
            reason = f"Its records are damaged: {error!r}."
        return {"flow": flow, "run": run, "status": "damaged", "reason": reason}


class _Looks:
    """Something that is done in a thread each time someone asks, but not while it is done, nor too often."""

    def __init__(self, do: Callable[[], None], pause: float) -> None:
        self._do = do
        self._pause = pause
        self._future: Future[None] | None = None
        self._last = 0.0

    def look(self, pool: ThreadPoolExecutor) -> None:
        """Begin another look unless that is too early; the first one is waited for, a little."""
        first = self._future is None
        if self._future is None or (self._future.done() and time.monotonic() - self._last > self._pause):
            self._future = pool.submit(self._timed)
        if first:
            wait([self._future], PATIENCE_SECONDS)

    def is_over(self, seconds: float) -> bool:
        """Wait a while; whether it is done."""
        return self._future is None or bool(wait([self._future], seconds).done)

    def _timed(self) -> None:
        try:
            self._do()
        except _NobodyLooksError:  # who comes again gets the rest
            pass
        except Exception:  # noqa: BLE001 - the page shows what was read before
            _log.exception("What a store holds could not be read.")
        finally:
            self._last = time.monotonic()


class _NobodyLooksError(Exception):
    """What was read is not wanted any more."""


class _Followed:
    """A run, what is known of it, and what was read and is not yet told to its model."""

    def __init__(self, store: RunStore, closed: threading.Event) -> None:
        self._closed = closed
        self.model = RunModel(store.flow, store.run)
        self._events: deque[tuple[int, Event]] = deque()
        self._waiting = 0
        self._changed = threading.Condition()
        self._in_a_hurry = False
        pause = REMOTE_PAUSE_SECONDS if store.storage.remote else PAUSE_SECONDS
        self.follower = Follower(store, self._take)
        self.looks = _Looks(self.follower.look, pause)

    def is_read(self) -> bool:
        """Wait a moment; whether there is no more to come. The next :meth:`apply` takes all there is."""
        self._in_a_hurry = True
        return self.looks.is_over(MOMENT_SECONDS)

    def apply(self) -> None:
        """Let the model know what has come."""
        end = time.monotonic() + APPLY_SECONDS
        while self._events and (self._in_a_hurry or time.monotonic() < end):
            with self._changed:
                size, event = self._events.popleft()
                self._waiting -= size
                self._changed.notify()
            self.model.apply(event)
        self._in_a_hurry = False

    def wake(self) -> None:
        """Let what is read for nobody end at once."""
        with self._changed:
            self._changed.notify_all()

    def _take(self, event: Event) -> None:
        """Keep an event for the model, once there is room: a store is read faster than a page takes notice."""
        size = len(event.columns["task"]) if isinstance(event, Committed) else 1
        with self._changed:
            room = self._changed.wait_for(
                lambda: self._closed.is_set() or self._waiting < MOST_WAITING, UNWATCHED_SECONDS
            )
            if self._closed.is_set() or not room:
                raise _NobodyLooksError
            self._waiting += size
            self._events.append((size, event))


def _is_name(flow: str, run: str) -> bool:
    return flow.isidentifier() and run.isdecimal()
