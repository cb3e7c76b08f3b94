"""Tasks on a Dask cluster, and what becomes of them when workers or the scheduler are lost."""

from __future__ import annotations

import contextlib
import pickle
import queue
import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from daskflow.engine import regions, worker
from daskflow.engine.frontier import Planned
from daskflow.errors import ClusterError, DaskflowException
from daskflow.task.execute import keep_failure
from daskflow.task.spec import TaskResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from daskflow.engine.console import Console
    from daskflow.pathspec import TaskName
    from daskflow.task.spec import RunContext, TaskSpec

MOST_WORKERS = 3
"""A task that took so many workers down fails; the last of them it had to itself."""
ANSWER_SECONDS = 1.0
"""How long to wait for a result that is there, before all else has its turn again."""
GONE = "The scheduler is gone, or does not answer any more."
PATIENCE_SECONDS = 3.0
"""How long after the grace of a stopped run a worker may take to say how its tasks ended."""
UNSTARTED_SECONDS = 0.5
"""How long after an order to stop it may still become known that a task had started before."""
_NOT_STARTED, _ALL = object(), object()
"""Events: these tasks are not waited for any longer."""


class DaskExecutor:
    """Hands regions to a scheduler. See :class:`daskflow.engine.executor.Executor`.

    A worker that is lost is no fault of the tasks that ran there: Dask runs them again, what was committed comes back at
    once. But who was there each time may be to blame. So a task that lost all its workers but one waits until nothing
    else runs, and what it does then is its own doing.

    Parameters
    ----------
    client
        A Dask client.
    run
        The run.
    console
        Told what workers say.
    counted
        Whether tasks take Dask resources.
    """

    def __init__(self, client: Any, run: RunContext, console: Console, counted: bool = False) -> None:
        self._client = client
        self._run = run
        self._console = console
        self._counted = counted
        self._turn = 0
        self._specs: dict[TaskName, TaskSpec] = {}
        self._futures: dict[TaskName, Any] = {}
        self._names: dict[Any, TaskName] = {}
        self._started: dict[TaskName, str] = {}
        self._deaths: Counter[TaskName] = Counter()
        self._suspects: list[TaskSpec] = []
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def submit(self, region: Sequence[Planned]) -> None:
        """Hand over a region as one graph."""
        self._turn += 1
        with self._scheduler_there():
            futures = regions.submit(self._client, region, self._turn, self._counted)
        self._specs.update((task.spec.name, task.spec) for task in region)
        self._futures.update(futures)
        for name, future in futures.items():
            self._names[future] = name
            future.add_done_callback(self._events.put)

    def results(self, seconds: float) -> list[TaskResult]:
        """Wait for futures and for news of lost workers."""
        found = []
        with contextlib.suppress(queue.Empty):
            event = self._events.get(timeout=seconds)
            while True:
                found += self._handle(event)
                event = self._events.get_nowait()
        if self._suspects and not self._futures:
            self.submit([Planned(self._suspects.pop())])
        return found

    def wake(self) -> None:
        """Let :meth:`results` return."""
        self._events.put(None)

    def stop(self, grace: float) -> None:
        """On every worker; what has not started is not waited for, nor in the end a worker that does not answer."""
        self._suspects.clear()
        self._later(UNSTARTED_SECONDS, _NOT_STARTED)
        if self._here:
            worker.stop_run(self._run, grace)
        else:
            self._on_all_workers(worker.stop_run, grace)
            self._later(grace + PATIENCE_SECONDS, _ALL)

    def _later(self, seconds: float, event: object) -> None:
        timer = threading.Timer(seconds, self._events.put, [event])
        timer.daemon = True
        timer.start()

    def _drop(self, names: list[TaskName]) -> list[TaskResult]:
        """Take tasks back from the scheduler; they were not run.

        They are released, not cancelled: of many keys at once that takes Dask a time that grows with their square.
        """
        for name in names:
            future = self._futures.pop(name)
            del self._names[future]
            future.release()
        specs = [self._specs.pop(name) for name in names]
        return [TaskResult(spec.name, spec.attempt, "not_run") for spec in specs]

    def _on_all_workers(self, function: Callable[..., None], *arguments: object) -> threading.Thread:
        """Without waiting: a worker may stand still, and the scheduler may be gone."""

        def run() -> None:
            with contextlib.suppress(Exception):  # what does not arrive is made up for by `_ALL`
                self._client.run(function, self._run, *arguments)

        thread = threading.Thread(target=run, name="daskflow-workers", daemon=True)
        thread.start()
        return thread

    def stopping(self, grace: float) -> str:
        """They have some time."""
        return f"running tasks get {grace:g} s to end. Once more ends them now."

    def pause(self) -> None:
        """On every worker."""
        if self._here:
            worker.pause_run(self._run, True)
        else:
            self._on_all_workers(worker.pause_run, True)

    def go_on(self) -> None:
        """On every worker."""
        if self._here:
            worker.pause_run(self._run, False)
        else:
            self._on_all_workers(worker.pause_run, False)

    @contextlib.contextmanager
    def hearing(self) -> Iterator[None]:
        """Let workers speak to the console: directly from this process, by Dask's events from others."""
        token = self._run.token
        worker.SINKS[token] = self
        if not self._here:
            with self._scheduler_there():
                workers = self._client.scheduler_info(n_workers=1)["workers"]
            if not workers:
                self._console.notice("The cluster has no worker yet: tasks wait until one comes.")
            self._client.subscribe_topic(worker.topic(token), self._heard)
            self._client.subscribe_topic("all", self._heard_of_workers)
        try:
            yield
        finally:
            if not self._here and not self._lost:
                self._on_all_workers(worker.close_run).join(PATIENCE_SECONDS)
                with contextlib.suppress(OSError):  # the scheduler may be gone by now
                    self._client.unsubscribe_topic(worker.topic(token))
                    self._client.unsubscribe_topic("all")
            del worker.SINKS[token]

    @property
    def _here(self) -> bool:
        """Whether the workers are in this process."""
        return bool(self._client.scheduler.address.startswith("inproc://"))

    @property
    def _lost(self) -> bool:
        return bool(self._client.status != "running")

    def started(self, spec: TaskSpec, pid: int, where: str = "") -> None:
        """From a worker: a task's process runs there."""
        self._started[spec.name] = where
        self._console.started(spec, pid)

    def lines(self, spec: TaskSpec, pid: int, stream: str, lines: Sequence[str]) -> None:
        """From a worker: it has written lines."""
        self._console.lines(spec, pid, stream, lines)

    def notice(self, text: str) -> None:
        """From a worker: something the user should know."""
        self._console.notice(text)

    def _heard(self, event: tuple[float, dict[str, Any]]) -> None:
        _, message = event
        arguments = pickle.loads(message["arguments"])
        where = (message["worker"],) if message["method"] == "started" else ()
        getattr(self, message["method"])(*arguments, *where)

    def _heard_of_workers(self, event: tuple[float, dict[str, Any]]) -> None:
        _, message = event
        if message.get("action") == "remove-worker" and not message["expected"]:
            self._events.put(message["worker"])

    def _handle(self, event: Any) -> list[TaskResult]:
        """A future that is over, or the address of a worker that is lost."""
        if event is None:
            return []
        if event is _NOT_STARTED:
            return self._drop([name for name in self._futures if name not in self._started])
        if event is _ALL:
            return self._drop(list(self._futures))
        if isinstance(event, str):
            return self._worker_lost(event)
        future: Any = event
        name = self._names.pop(future, None)
        if name is None or name not in self._futures or self._futures[name] is not future:
            return []
        if future.status == "cancelled" and self._lost:
            raise ClusterError(GONE)
        try:
            with self._scheduler_there():
                result = _result(future, self._specs[name])
        except TimeoutError:  # a worker that stands still holds it; meanwhile orders to stop must be heard
            self._names[future] = name
            self._later(ANSWER_SECONDS, future)
            return []
        del self._futures[name], self._specs[name]
        self._started.pop(name, None)
        future.release()
        return [result]

    @contextlib.contextmanager
    def _scheduler_there(self) -> Iterator[None]:
        """What Dask raises if it is not there depends on the moment."""
        try:
            yield
        except (DaskflowException, TimeoutError):
            raise
        except Exception as error:
            if isinstance(error, OSError) or self._lost:
                raise ClusterError(GONE) from error
            raise

    def _worker_lost(self, address: str) -> list[TaskResult]:
        there = [name for name, where in self._started.items() if where == address and name in self._futures]
        what = f", which ran {', '.join(map(str, there))}" if there else ""
        self._console.notice(f"Worker {address} is lost{what}.")
        failed = []
        for name in there:
            del self._started[name]
            self._deaths[name] += 1
            if self._deaths[name] < MOST_WORKERS - 1:
                continue
            spec = self._specs.pop(name)
            future = self._futures.pop(name)
            del self._names[future]
            future.cancel(force=True)
            if self._deaths[name] == MOST_WORKERS - 1:
                self._suspects.append(spec)
            else:
                words = f"{MOST_WORKERS} workers were lost while it ran there, the last one while nothing else of the run did."
                failed.append(replace(keep_failure(spec, ClusterError(words)), final=True))
        return failed


def _result(future: Any, spec: TaskSpec) -> TaskResult:
    """What a future holds. One that Dask gave up with what it depends on was not run; an error is the cluster's."""
    if future.status == "finished":
        found: TaskResult = future.result(timeout=ANSWER_SECONDS)
        return found
    if future.status != "error":
        return TaskResult(spec.name, spec.attempt, "not_run")
    error = future.exception()
    return keep_failure(spec, ClusterError(f"{type(error).__name__}: {error}"))
