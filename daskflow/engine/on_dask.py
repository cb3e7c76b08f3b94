"""Tasks on a Dask cluster, and what becomes of them when workers or the scheduler are lost."""

from __future__ import annotations

import contextlib
import pickle
import queue
import socket
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from daskflow.engine import regions, worker
from daskflow.engine.executor import Ran
from daskflow.engine.frontier import Planned
from daskflow.errors import ClusterError, DaskflowException
from daskflow.task.execute import keep_failure
from daskflow.task.sharing import failed, not_run, release
from daskflow.task.spec import TaskResult, Together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from daskflow.engine.listener import Listener
    from daskflow.pathspec import TaskName
    from daskflow.store.chunks import Chunk
    from daskflow.store.records import TaskRecord
    from daskflow.task.spec import RunContext, TaskSpec

MOST_WORKERS = 3
"""A task that took so many workers down fails; the last of them it had to itself."""
ANSWER_SECONDS = 1.0
"""How long to wait for a result that is there, before all else has its turn again."""
HOST = socket.gethostname()
GONE = "The scheduler is gone, or does not answer any more."
PATIENCE_SECONDS = 3.0
"""How long after the grace of a stopped run a worker may take to say how its tasks ended."""
UNSTARTED_SECONDS = 0.5
"""How long after an order to stop it may still become known that a task had started before."""
SLOTS_SECONDS = 2.0
"""How long it is taken for granted that a cluster has as many slots as it had."""
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
    listener
        Told what workers say.
    counted
        Whether tasks take Dask resources.
    """

    def __init__(self, client: Any, run: RunContext, listener: Listener, counted: bool = False) -> None:
        self._client = client
        self._run = run
        self._listener = listener
        self._counted = counted
        self._turn = 0
        self._work: dict[TaskName, TaskSpec | Together] = {}
        self._futures: dict[TaskName, Any] = {}
        self._leads: dict[TaskName, TaskName] = {}
        self._stopped = False
        self._slots = 1
        self._slots_seen = float("-inf")
        self._started: dict[TaskName, str] = {}
        self._deaths: Counter[TaskName] = Counter()
        self._suspects: list[TaskSpec] = []
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def submit(self, region: Sequence[Planned]) -> None:
        """Hand over a region as one graph."""
        self._turn += 1
        with self._scheduler_there():
            futures = regions.submit(self._client, region, self._turn, self._counted)
        for task in region:
            self._watch(task.spec.name, task.spec, futures[task.spec.name])

    def submit_together(self, work: Together) -> None:
        """Hand over what shares a process as one task."""
        self._turn += 1
        with self._scheduler_there():
            future = regions.submit_together(self._client, work, self._turn, self._counted)
        self._watch(work.specs[0].name, work, future)
        self._leads.update((spec.name, work.specs[0].name) for spec in work.specs)

    def _watch(self, name: TaskName, work: TaskSpec | Together, future: Any) -> None:
        self._work[name] = work
        self._futures[name] = future
        future.add_done_callback(lambda done: self._events.put((name, done)))

    def _forget(self, name: TaskName, work: TaskSpec | Together) -> None:
        """It is over, or given up."""
        self._started.pop(name, None)
        for spec in work.specs if isinstance(work, Together) else ():
            self._leads.pop(spec.name, None)

    @property
    def slots(self) -> int:
        """The threads of all workers, as of a moment ago."""
        if time.monotonic() - self._slots_seen > SLOTS_SECONDS:
            with contextlib.suppress(TimeoutError), self._scheduler_there():
                self._slots = max(1, sum(self._client.nthreads().values()))
            self._slots_seen = time.monotonic()
        return self._slots

    def results(self, seconds: float) -> list[Ran]:
        """Wait for futures and for news of lost workers."""
        if (
            self._suspects and not self._futures and not self._stopped
        ):  # nor has the driver anything else that could run beside it
            self.submit([Planned(self._suspects.pop())])
        found: list[Ran] = []
        with contextlib.suppress(queue.Empty):
            event = self._events.get(timeout=seconds)
            while True:
                found += self._handle(event)
                event = self._events.get_nowait()
        return found

    def wake(self) -> None:
        """Let :meth:`results` return."""
        self._events.put(None)

    def stop(self, grace: float) -> None:
        """On every worker; what has not started is not waited for, nor in the end a worker that does not answer."""
        self._stopped = True
        self._later(UNSTARTED_SECONDS, _NOT_STARTED)
        self._on_all_workers(worker.stop_run, grace)
        if not self._here:
            self._later(grace + PATIENCE_SECONDS, _ALL)

    def _later(self, seconds: float, event: object) -> None:
        timer = threading.Timer(seconds, self._events.put, [event])
        timer.daemon = True
        timer.start()

    def _drop(self, names: list[TaskName]) -> list[Ran]:
        """Take tasks back from the scheduler; they were not run.

        They are released, not cancelled: of many keys at once that takes Dask a time that grows with their square.
        """
        for name in names:
            self._futures.pop(name).release()
        return [Ran(name, _not_run(self._work.pop(name))) for name in names]

    def _on_all_workers(self, function: Callable[..., None], *arguments: object, wait: float = 0.0) -> None:
        """Without waiting for long: a worker may stand still, and the scheduler may be gone."""
        if self._here:
            function(self._run, *arguments)
            return
        # What does not arrive is made up for by `_ALL`.
        on_all_workers(self._client, function, self._run, *arguments).join(wait)

    def stopping(self, grace: float) -> str:
        """They have some time."""
        return f"running tasks get {grace:g} s to end. Once more ends them now."

    def pause(self) -> None:
        """On every worker."""
        self._on_all_workers(worker.pause_run, True)

    def go_on(self) -> None:
        """On every worker."""
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
                self._listener.notice("The cluster has no worker yet: tasks wait until one comes.")
            self._client.subscribe_topic(worker.topic(token), self._heard)
            self._client.subscribe_topic("all", self._heard_of_workers)
        try:
            yield
        finally:
            if not self._lost and not self._here:
                self._on_all_workers(worker.close_run, wait=PATIENCE_SECONDS)
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

    def started(self, spec: TaskSpec, pid: int, count: int = 1, host: str = HOST, where: str = "") -> None:
        """From a worker: a task's process runs there."""
        self._started[self._leads.get(spec.name, spec.name)] = where
        self._listener.started(spec, pid, count, host)

    def lines(self, spec: TaskSpec, pid: int, stream: str, lines: Sequence[str]) -> None:
        """From a worker: it has written lines."""
        self._listener.lines(spec, pid, stream, lines)

    def progress(self, spec: TaskSpec, done: int) -> None:
        """From a worker: so many of the tasks of a process are done."""
        self._listener.progress(spec, done)

    def committed(self, found: TaskRecord | Chunk, process: str = "") -> None:
        """From a worker: tasks are in the store."""
        self._listener.committed(found, process)

    def notice(self, text: str) -> None:
        """From a worker: something the user should know."""
        self._listener.notice(text)

    def _heard(self, event: tuple[float, dict[str, Any]]) -> None:
        _, message = event
        arguments = pickle.loads(message["arguments"])
        where = (message["host"], message["worker"]) if message["method"] == "started" else ()
        getattr(self, message["method"])(*arguments, *where)

    def _heard_of_workers(self, event: tuple[float, dict[str, Any]]) -> None:
        _, message = event
        if message.get("action") == "remove-worker" and not message["expected"]:
            self._events.put(message["worker"])

    def _handle(self, event: Any) -> list[Ran]:
        """A future that is over with its task's name, or the address of a worker that is lost."""
        if event is None:
            return []
        if event is _NOT_STARTED:
            waiting = [Ran(spec.name, [not_run(spec)]) for spec in self._suspects]
            self._suspects.clear()
            return waiting + self._drop([name for name in self._futures if name not in self._started])
        if event is _ALL:
            return self._drop(list(self._futures))
        if isinstance(event, str):
            return self._worker_lost(event)
        name, future = event  # type: tuple[TaskName, Any]
        if name not in self._futures or self._futures[name] is not future:
            return []
        if future.status == "cancelled" and self._lost:
            raise ClusterError(GONE)
        try:
            with self._scheduler_there():
                results = _results(future, self._work[name])
        except TimeoutError:  # a worker that stands still holds it; meanwhile orders to stop must be heard
            self._later(ANSWER_SECONDS, event)
            return []
        self._forget(name, self._work.pop(name))
        del self._futures[name]
        future.release()
        return [Ran(name, results)]

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

    def _worker_lost(self, address: str) -> list[Ran]:
        there = [name for name, where in self._started.items() if where == address and name in self._futures]
        what = f", which ran {', '.join(_words(self._work[name]) for name in there)}" if there else ""
        self._listener.notice(f"Worker {address} is lost{what}.")
        found = []
        for name in there:
            del self._started[name]
            for spec in _specs(self._work[name]):
                self._listener.lost(spec)
            self._deaths[name] += 1
            if self._deaths[name] < MOST_WORKERS - 1:
                continue
            work = self._work.pop(name)
            self._futures.pop(name).cancel(force=True)
            if isinstance(work, Together):  # which of them is to blame is seen when each is alone
                del self._deaths[name]
                self._forget(name, work)
                released = [each for spec in work.specs for each in release(spec)]
                alone = [replace(each, alone=each.status == "released") for each in released]
                found.append(Ran(name, alone))
            elif self._stopped:
                found.append(Ran(name, [not_run(work)]))
            elif self._deaths[name] == MOST_WORKERS - 1:
                self._suspects.append(work)
            else:
                words = f"{MOST_WORKERS} workers were lost while it ran there, the last one while nothing else of the run did."
                found.append(Ran(name, [replace(keep_failure(work, ClusterError(words)), final=True)]))
        return found


def on_all_workers(client: Any, function: Callable[..., None], *arguments: object) -> threading.Thread:
    """Begin to call a function on every worker that is there; errors are not told."""

    def call() -> None:
        with contextlib.suppress(Exception):
            client.run(function, *arguments)

    thread = threading.Thread(target=call, name="daskflow-workers", daemon=True)
    thread.start()
    return thread


def make_environments(client: Any, run: RunContext, file: str, tell: Callable[[str], None]) -> None:
    """Let every worker that is there have the environment of a run's requirements; it may take minutes.

    Parameters
    ----------
    client
        A Dask client.
    run
        The run, which has requirements.
    file
        Their file's name, for messages.
    tell
        Called with lines for the user if there is one to be made.

    Raises :class:`RequirementsError` if one can't be made, :class:`ClusterError` if a worker can't be asked.
    """
    there = client.run(worker.has_environment, run, on_error="return")
    lacking = sum(each is not True for each in there.values())
    if lacking:
        workers = "1 worker" if lacking == 1 else f"{lacking} workers"
        tell(f"An environment is made of {file} for {workers}, once.")
    began = time.monotonic()
    try:
        answers = client.run(worker.make_environment, run, on_error="return")
    except KeyboardInterrupt:
        on_all_workers(client, worker.close_run, run).join(PATIENCE_SECONDS)
        raise
    for address, answer in answers.items():
        if isinstance(answer, DaskflowException):
            raise answer
        if isinstance(answer, Exception) and not isinstance(
            answer, OSError
        ):  # that one is lost: its tasks run elsewhere
            raise ClusterError(f"Worker {address} can't make the environment of {file}: {answer!r}.")
    if lacking:
        tell(f"The environment of {file} took {time.monotonic() - began:.1f} s.")


def _words(work: TaskSpec | Together) -> str:
    if not isinstance(work, Together) or len(work.specs) == 1:
        return str((work.specs[0] if isinstance(work, Together) else work).tasks)
    return f"{work.specs[0].tasks} and others, {work.count} tasks,"


def _specs(work: TaskSpec | Together) -> tuple[TaskSpec, ...]:
    return work.specs if isinstance(work, Together) else (work,)


def _not_run(work: TaskSpec | Together) -> list[TaskResult]:
    return [not_run(spec) for spec in _specs(work)]


def _results(future: Any, work: TaskSpec | Together) -> list[TaskResult]:
    """What a future holds. One that Dask gave up with what it depends on was not run; an error is the cluster's."""
    if future.status == "finished":
        found: TaskResult | list[TaskResult] = future.result(timeout=ANSWER_SECONDS)
        return found if isinstance(found, list) else [found]
    if future.status != "error":
        return _not_run(work)
    raised = future.exception()
    error = ClusterError(f"{type(raised).__name__}: {raised}")
    return failed(work, error) if isinstance(work, Together) else [keep_failure(work, error)]
