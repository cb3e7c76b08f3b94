"""In the driver: what the engine tells of a run becomes events, which are sent on in batches.

Whoever tells something puts it on a queue and goes on; all else is done by a thread of its own. Whatever goes wrong there
is told once, and the run goes on without.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from daskflow.dashboard.events import Event
    from daskflow.pathspec import TaskName, TaskRange
    from daskflow.store.chunks import Chunk
    from daskflow.store.records import TaskRecord
    from daskflow.store.runs import RunStore
    from daskflow.task.spec import TaskResult, TaskSpec

BATCH_SECONDS = 0.25
"""How long what is told waits for company."""
BEAT_SECONDS = 5.0
"""After so long without news it is told that there is none."""
PATIENCE_SECONDS = 2.0
"""How long the end of a run waits until it is told."""
BACKLOG = 50_000
"""What may wait before lines of tasks are left out."""


class NotShown(Exception):
    """There is no dashboard that could show a run; says why."""


class Feed:
    """A listener of the engine (see :class:`daskflow.engine.listener.Listener`).

    Parameters
    ----------
    store
        The run.
    connect
        Called once, by the feed's thread: makes what takes events, in order, and says whether it wants more. May take its time,
        and may raise :class:`NotShown`.
    notice
        Told, once, if something went wrong.
    after
        Seconds that a run must have lasted to be told of.
    """

    def __init__(
        self,
        store: RunStore,
        connect: Callable[[], Callable[[list[Event]], bool]],
        notice: Callable[[str], None],
        after: float = 0.0,
    ) -> None:
        self._store = store
        self._connect = connect
        self._tell = notice
        self._after = after
        self._queue: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._gone = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="daskflow-feed", daemon=True)

    def begin(self, facts: dict[str, Any], done: Sequence[TaskRange] = ()) -> None:
        """Start to send: what is known of the run, and which tasks were in the store before."""
        self._put("begun", facts, done)
        self._thread.start()

    def end(self, facts: dict[str, Any]) -> None:
        """Send what is left, and how the run ended, if whoever takes it still does."""
        self._put("told", facts)
        self._queue.put(None)
        self._over.set()
        self._thread.join(PATIENCE_SECONDS)

    def planned(self, region: Iterable[Any]) -> None:
        """These tasks wait for their turn."""
        self._put("planned", list(region))

    def started(self, spec: TaskSpec, pid: int, count: int = 1, host: str = "") -> None:
        """A process runs."""
        self._put("started", spec, pid, count, host, time.time())

    def lines(self, spec: TaskSpec, pid: int, stream: str, lines: Sequence[str]) -> None:
        """A task has written lines."""
        if self._queue.qsize() < BACKLOG:
            self._put("lines", spec.name, stream, lines)

    def progress(self, spec: TaskSpec, done: int) -> None:
        """So many tasks of a process are done."""
        self._put("progress", spec, done)

    def lost(self, spec: TaskSpec) -> None:
        """A process has gone with its worker."""
        self._put("lost", spec)

    def committed(self, found: TaskRecord | Chunk, process: str = "") -> None:
        """Tasks are in the store."""
        self._put("committed", found, process)

    def finished(self, results: Sequence[TaskResult], again: Container[TaskName] = ()) -> None:
        """Tasks are over, or wait for their next turn."""
        self._put("finished", results, again)

    def notice(self, text: str) -> None:
        """Not shown on the page."""

    def _put(self, happened: str, *what: Any) -> None:
        if not self._gone:
            self._queue.put((happened, *what))

    def _run(self) -> None:
        try:
            if not self._after or not self._over.wait(self._after):
                self._send_all(self._connect())
        except NotShown as error:
            self._tell(str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
            why = getattr(error, "message", None) or repr(error)
            self._tell(f"The dashboard is told no more of this run: {why}")
        finally:
            self._gone = True

    def _send_all(self, send: Callable[[list[Event]], bool]) -> None:
        from daskflow.dashboard.narrator import Narrator, batches

        narrator, over = Narrator(self._store), False
        while not over:
            heard = self._heard()
            over = heard[-1:] == [None]
            events = (
                event for each in heard if each is not None for event in getattr(narrator, each[0])(*each[1:])
            )
            over = not all(map(send, batches(events))) or over

    def _heard(self) -> list[tuple[Any, ...] | None]:
        try:
            found = [self._queue.get(timeout=BEAT_SECONDS)]
        except queue.Empty:
            return []
        end = time.monotonic() + BATCH_SECONDS
        while found[-1] is not None:
            try:
                found.append(self._queue.get_nowait())
            except queue.Empty:
                left = end - time.monotonic()
                if left <= 0:
                    break
                self._over.wait(left)  # to be woken by each would cost the tasks their cores
        return found
