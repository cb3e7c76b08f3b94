"""Steps and tasks of a run."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from daskflow._current import current
from daskflow.client.artifacts import DataArtifact
from daskflow.client.base import OfRun, not_found
from daskflow.client.data import Artifacts, Data, Fact
from daskflow.errors import ExceptionWrapper, NotFound
from daskflow.pathspec import TaskName, TaskNames
from daskflow.store.layout import PARAMETERS
from daskflow.store.records import moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from daskflow.client.runs import Run
    from daskflow.store.chunks import Chunk
    from daskflow.store.records import ArtifactRef, TaskRecord

STREAMS = ("stdout", "stderr")


class Metadatum(NamedTuple):
    """One fact that was recorded about a task."""

    name: str
    value: Any
    created_at: datetime
    type: str
    task: Task


class Step(OfRun["Task"]):
    """The tasks of one step: iteration is newest first, ``step["4"]`` is one."""

    parts = 3

    def _check(self) -> None:
        self._store.record()
        there = self._store.steps()  # also one whose tasks have left nothing yet
        if self.id not in there:
            raise not_found("Step", self.pathspec, self._storage, sorted(there))

    def _child(self, name: str) -> Task:
        return self._reach(Task, self.pathspec, name)

    def _child_names(self) -> list[str]:
        return list(reversed(self._store.tasks_alone(self.id)))

    def __iter__(self) -> Iterator[Task]:
        """Tasks, the one that started last first."""
        found = [(task.created_at.timestamp(), task) for task in super().__iter__()]
        for chunk in self._store.chunks_of(self.id):
            found += zip(map(chunk.started, range(len(chunk.each))), self._tasks_in(chunk), strict=True)
        found.sort(key=lambda pair: pair[0], reverse=True)
        return (task for _, task in found)

    def _tasks_in(self, chunk: Chunk) -> Iterator[Task]:
        """Its tasks that are committed together: made without a look into the store, a step may have a million."""
        for place, name in enumerate(chunk.tasks.part(0, len(chunk.each)).names()):
            task = Task.__new__(Task)
            task._attempt = None
            task.path_components = [*self.path_components, name.task_id]
            task.pathspec = f"{self.pathspec}/{name.task_id}"
            task._storage, task._namespace = self._storage, self._namespace
            task.__dict__["_store"] = self._store
            task._name = name
            task._held = (chunk, place)
            yield task

    def to_pandas(self) -> pd.DataFrame:
        """Its tasks as a frame, a row each, in the order of their ids. Nothing is unpickled.

        Columns, of whole numbers ``int64``, or ``Int64`` where one is missing:

        ``run``, ``step``, ``task``
            Number of the run, name of the step, id of the task.
        ``index``
            Of its item in the innermost foreach; missing outside.
        ``attempt``
            Number of the attempt that the row is about, from 0: the one that succeeded, or the last one.
        ``status``
            ``successful``, ``failed``, ``running``, or ``lost`` if it never ended and its driver died.
        ``started``, ``finished``
            Times in UTC, to the microsecond; what is not known is missing.
        ``seconds``, ``cpu_seconds``
            From start to end, and used by its process, in user and system mode. Tasks that shared a process have the
            same part of its time each.
        ``peak_memory``
            The most that its process had resident, bytes.
        ``worker``, ``pid``
            The host that it ran on, and the process there.

        Then by name a column for each public artifact that is a single value and stands in a record (encodings ``json``
        and ``typed-json``): numbers, truth values, texts, None, times and the like; also those that a task inherited, and
        the run's parameters and constants. Whole numbers are ``int64`` or ``Int64``, others ``float64``, truth values
        ``bool`` or ``boolean``, times with a zone in UTC; dates, decimals and what has several types are objects. An artifact
        with the name of a column above has an underscore behind it.

        A task that runs is there as soon as it has written something. One whose record is damaged is left out, with a :class:`DamagedRecordWarning`.
        """
        from daskflow.client.rows import RunRows

        return RunRows(self._store).of_steps([self.id]).frame()

    @property
    def parent(self) -> Run:
        """Its run."""
        from daskflow.client.runs import Run

        return self._reach(Run, *self.path_components[:2])

    @property
    def task(self) -> Task:
        """Its newest task. Raises :class:`NotFound` if none of them can be read."""
        for task in self:
            return task
        raise NotFound(f"Step '{self.pathspec}' has no task whose record can be read.")

    def tasks(self, *tags: str) -> Iterator[Task]:
        """Its tasks, newest first; none if its run lacks one of ``tags``."""
        return iter(self) if not tags or self.tags.issuperset(tags) else iter(())

    @property
    def finished_at(self) -> datetime | None:
        """When the last of its tasks ended, None if one has not ended yet."""
        ends = [task.finished_at for task in self]
        return None if None in ends else max(end for end in ends if end is not None)

    @property
    def parent_steps(self) -> Iterator[Step]:
        """The steps its tasks started from."""
        names = dict.fromkeys(parent.step for task in self for parent in task._parents)
        return (self._sibling(name) for name in names if name != PARAMETERS.step)

    @property
    def child_steps(self) -> Iterator[Step]:
        """The steps that followed."""
        names = dict.fromkeys(target for task in self for target in task._targets)
        there = set(self._store.steps())
        return (self._sibling(name) for name in names if name in there)

    def _sibling(self, step: str) -> Step:
        return self._reach(Step, *self.path_components[:2], step)


class Task(OfRun[DataArtifact]):
    """One task: iteration is over its public artifacts, ``task["x"]`` is one, private ones too.

    Parameters
    ----------
    pathspec
        ``Flow/run/step/task``.
    attempt
        Which attempt to show, from 0; None for the one that counts: the one that succeeded, else the last that ended.
    store
        The directory of the store; None for the one the settings name.

    Raises as every stored object does, and :class:`NotFound` if there was no such attempt.
    """

    parts = 4
    _held: tuple[Chunk, int]

    def __init__(self, pathspec: str, attempt: int | None = None, store: str | None = None) -> None:
        self._attempt = attempt
        super().__init__(pathspec, store)

    def _check(self) -> None:
        _, _, step, task = self.path_components
        self._name = TaskName(step, task)
        is_running = current.get("pathspec") == self.pathspec  # this very task; nothing of it is stored yet
        committed = self._store.task(self._name)
        if committed is None and not is_running and task not in self._store.tasks(step):
            self._store.record()
            raise not_found("Task", self.pathspec, self._storage, self._store.tasks(step))
        record = committed
        if self._attempt is not None:
            record = self._record_of(self._attempt, committed)
        elif committed is None:
            record = next(reversed(list(self._store.failed_attempts(self._name))), None)
        self.__dict__["_record"] = record

    @cached_property
    def _record(self) -> TaskRecord | None:
        """What is known of it; None as long as it runs. Of one that is committed with others it is made when asked for."""
        chunk, place = self._held
        return chunk.record(place)

    def _record_of(self, attempt: int, committed: TaskRecord | None) -> TaskRecord | None:
        """The record of an attempt, None if it has not ended."""
        if committed is not None and committed.attempt == attempt:
            return committed
        failed = [each for each in self._store.failed_attempts(self._name) if each.attempt == attempt]
        started = [name.partition(".")[0] for name in self._store.executions(self._name)]
        if not failed and str(attempt) not in started:
            there = sorted({*started, *([str(committed.attempt)] if committed else [])}, key=int)
            raise not_found("Attempt", f"{self.pathspec}, attempt {attempt}", self._storage, there)
        return failed[-1] if failed else None

    def _child(self, name: str) -> DataArtifact:
        return self._reach(DataArtifact, self.pathspec, name, attempt=self._attempt)

    def __getitem__(self, name: str) -> Any:
        """An artifact; for the names that follow from the task's record, such as ``_transition``, its value."""
        if name not in self._refs and name in (facts := self._facts):
            return Fact(f"{self.pathspec}/{name}", facts[name])
        return super().__getitem__(name)

    def _child_names(self) -> list[str]:
        return sorted(name for name in self._refs if not name.startswith("_"))

    def __contains__(self, name: object) -> bool:
        return name in self._refs or name in self._facts

    def __repr__(self) -> str:
        return f"Task('{self.pathspec}', attempt={self.current_attempt})"

    @cached_property
    def _refs(self) -> dict[str, ArtifactRef]:
        return self._store.artifacts(self._record) if self._record is not None else {}

    @property
    def parent(self) -> Step:
        """Its step."""
        return self._reach(Step, *self.path_components[:3])

    @property
    def data(self) -> Data:
        """Its artifacts' values, each loaded when it is touched."""
        return Data(self)

    @property
    def artifacts(self) -> Artifacts:
        """Its public artifacts, as attributes."""
        return Artifacts(self)

    @property
    def successful(self) -> bool:
        """Whether it has succeeded."""
        return self._record is not None and self._record.ok

    @property
    def finished(self) -> bool:
        """Whether it has succeeded; a failed task is not finished, though it has ended."""
        return self.successful

    @property
    def created_at(self) -> datetime:
        """When the attempt started."""
        return moment(self._record.started) if self._record is not None else datetime.now(UTC)

    @property
    def finished_at(self) -> datetime | None:
        """When the attempt ended, None while it runs."""
        return moment(self._record.finished) if self._record is not None else None

    @property
    def exception(self) -> ExceptionWrapper | None:
        """What the step raised, None if it raised nothing or its process died."""
        record = self._record
        if record is None or record.ok or record.error is None or record.error["type"] == "process":
            return None
        return ExceptionWrapper(**record.error)

    @property
    def current_attempt(self) -> int:
        """The number of the attempt that is shown, from 0."""
        if self._record is not None:
            return self._record.attempt
        executions = self._store.executions(self._name)
        return int(executions[-1].partition(".")[0]) if executions else 0

    @property
    def stdout(self) -> str:
        """What it wrote to stdout, also while it runs."""
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        """What it wrote to stderr, also while it runs."""
        return self._text("stderr")

    @property
    def stdout_size(self) -> int:
        """Characters of :attr:`stdout`."""
        return len(self.stdout)

    @property
    def stderr_size(self) -> int:
        """Characters of :attr:`stderr`."""
        return len(self.stderr)

    def loglines(
        self, stream: str, as_unicode: bool = True, attempt: int | None = None
    ) -> Iterator[tuple[datetime, str | bytes]]:
        """Lines with their times, in order.

        Parameters
        ----------
        stream
            ``stdout`` or ``stderr``.
        as_unicode
            Whether lines are text, else bytes.
        attempt
            Which attempt's log, None for the latest that has one.

        Raises ``ValueError`` for another stream.
        """
        if stream not in STREAMS:
            raise ValueError(f"There is no log '{stream}': use {' or '.join(STREAMS)}.")
        for when, text in self._lines(stream, attempt):
            yield moment(when), (text if as_unicode else text.encode())

    def _text(self, stream: str) -> str:
        return "".join(f"{text}\n" for _, text in self._lines(stream))

    def _lines(self, stream: str, attempt: int | None = None) -> Iterator[tuple[str, str]]:
        """Times and texts of a log's lines; only a newline ends one, not the carriage return of a progress bar."""
        for line in self._log(stream, attempt).split("\n")[:-1]:
            when, _, text = line.partition(" ")
            yield when, text

    def _log(self, stream: str, attempt: int | None) -> str:
        attempt = self._attempt if attempt is None else attempt
        record = self._record
        if attempt is not None and (record is None or record.attempt != attempt):
            record = self._record_of(attempt, self._store.task(self._name))
        if record is not None:
            log = record.logs.get(stream)
            if log is None:
                return ""
            return log.text if log.text is not None else self._read_log(str(log.path))
        executions = [
            name
            for name in self._store.executions(self._name)
            if attempt is None or name.startswith(f"{attempt}.")
        ]
        if not executions:
            return ""
        return self._read_log(self._store.layout.log(self._name, executions[-1], stream))

    def _read_log(self, path: str) -> str:
        try:
            return self._storage.appended(path).decode("utf-8", "replace")
        except FileNotFoundError:  # a task that runs has written nothing yet
            return ""

    @property
    def index(self) -> int | None:
        """Its item's index in the innermost foreach, None outside."""
        stack = self.foreach_stack
        return stack[-1][3] if stack else None

    @property
    def foreach_stack(self) -> list[tuple[str, str | None, int, int]]:
        """Step, artifact, number of items and index of each foreach around it, outermost first."""
        frames = self._record.stack if self._record is not None else []
        return [
            (TaskName.of(f["split"]).step, f.get("var"), f["size"], f["index"])
            for f in frames
            if f["kind"] == "foreach"
        ]

    @property
    def origin_pathspec(self) -> str | None:
        """The task that this one was taken over from, when its run resumed another; None if it ran itself."""
        record = self._record
        if record is None or record.run == self._store.run:
            return None
        return f"{record.flow}/{record.run}/{record.name}"

    @property
    def runtime_name(self) -> str:
        """What ran it."""
        return "dask"

    @property
    def metadata(self) -> list[Metadatum]:
        """What was recorded about it: attempt, process, host, memory, versions."""
        created = self.created_at
        return [
            Metadatum(name, value, created, name, self) for name, value in sorted(self.metadata_dict.items())
        ]

    @property
    def metadata_dict(self) -> dict[str, Any]:
        """:attr:`metadata` by name."""
        run, record = self._store.record(), self._record
        facts = {
            "ds-type": "local",
            "ds-root": self._storage.url,
            "runtime": self.runtime_name,
            "user": run.get("user"),
            "script-name": run["code"]["main"],
            "python_version": run["versions"]["python"],
            "daskflow_version": run["versions"]["daskflow"],
            "code-package": run["code"]["hash"],
        }
        if record is None:
            return facts
        if snapshot := record.process.get("snapshot"):
            facts["code-package"] = self._store.code(snapshot)["hash"]
        if record.run != self._store.run:
            facts |= {"origin-run-id": record.run, "origin-task-id": record.task}
        facts |= {"attempt": record.attempt, "attempt_ok": record.ok, "attempt-done": True}
        return facts | {"foreach-stack": self.foreach_stack} | record.process

    @property
    def _parents(self) -> list[TaskName]:
        return list(TaskNames.of(self._record.parents)) if self._record is not None else []

    @property
    def _targets(self) -> list[str]:
        transition = self._record.transition if self._record is not None else None
        return list(transition["targets"]) if transition else []

    @property
    def parent_task_pathspecs(self) -> Iterator[str]:
        """Pathspecs of the tasks it started from."""
        run = "/".join(self.path_components[:2])
        return (f"{run}/{name}" for name in self._parents if name != PARAMETERS)

    @property
    def parent_tasks(self) -> Iterator[Task]:
        """The tasks it started from."""
        return (self._reach(Task, pathspec) for pathspec in self.parent_task_pathspecs)

    @property
    def child_task_pathspecs(self) -> Iterator[str]:
        """Pathspecs of the tasks that started from it."""
        return (task.pathspec for task in self.child_tasks)

    @property
    def child_tasks(self) -> Iterator[Task]:
        """The tasks that started from it."""
        run = "/".join(self.path_components[:2])
        for step in self._targets:
            for name in self._store.tasks(step):
                task = self._reach(Task, run, step, name)
                if self._name in task._parents:
                    yield task

    @property
    def _facts(self) -> dict[str, Any]:
        """What the reference keeps as private artifacts and here follows from the record."""
        record = self._record
        if record is None:
            return {}
        return {
            "name": self.path_components[0],
            "_current_step": self._name.step,
            "_task_ok": record.ok,
            "_success": record.ok,
            "_transition": record.transition,
            "_exception": self.exception,
            "_foreach_stack": self.foreach_stack,
            "_foreach_var": (record.transition or {}).get("foreach"),
            "_foreach_num_splits": record.foreach["size"] if record.foreach else None,
            "_iteration_stack": [] if record.iteration is None else [record.iteration],
        }
