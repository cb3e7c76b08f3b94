"""What crosses the network: all that is needed to run one task anywhere, and how it went."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from daskflow.pathspec import TaskName, TaskNames, TaskRange
from daskflow.store.records import Frame, TaskRecord, is_first_step, shifted, timestamp

if TYPE_CHECKING:
    from daskflow.flow.graph import Node

ENDED_WITH_ITS_RUN = "It was ended because the run had failed or was stopped."
"""What the record of a task that was stopped says of its failure."""


@dataclass(frozen=True)
class RunContext:
    """What all tasks of a run share.

    Attributes
    ----------
    store
        Root of the store.
    token
        Drawn by the driver: no other driver of a run that a cluster has seen has it.
    snapshot
        The driver session that stored the code: 0, unless a later one goes on with new code.
    decorators
        What was put on the steps by ``--with``.
    cwd
        The driver's working directory.
    max_log_bytes
        Longest log that is kept whole.
    launcher
        ``auto``, ``fork`` or ``fresh``.
    max_num_splits
        The widest foreach that is allowed; None for any.
    watched
        Whether more is to be told of its tasks than a terminal shows.
    folder
        What tells the flow's folder from others, see :func:`daskflow.task.unpacked.identity`; None if no task runs elsewhere.
    pins
        What the environment of its requirements has in the driver's versions, such as ``dask==2025.9.1``; empty if the run has
        no requirements. The requirements themselves are in its record: this goes with each of its tasks.
    facts
        For ``current``: user name, namespace, parameter names, tags, directory for temporary files.
    """

    flow: str
    run: str
    store: str
    token: str
    cwd: str
    max_log_bytes: int
    launcher: str
    snapshot: int = 0
    decorators: tuple[str, ...] = ()
    max_num_splits: int | None = None
    watched: bool = False
    folder: dict[str, Any] | None = None
    pins: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskSpec:
    """One attempt of one task, or of a task and its neighbours in a foreach.

    Attributes
    ----------
    name
        The task, or the first of them.
    parents
        The tasks it starts from: one, or all inputs of a join.
    stack
        The splits it is inside of, outermost first.
    iteration
        k in the k-th iteration of a recursion.
    first
        The attempt from which its retries are counted: a run that goes on gives each task all of them again.
    fallback
        The step's attempts have failed; this one deals with that and does not run the step.
    cause
        Why the last of them failed, for a fallback.
    devices
        What ``CUDA_VISIBLE_DEVICES`` is to be, given by the worker; None leaves it as it is.
    execution
        Name of this execution; given by the worker that runs it, since Dask may run one attempt twice.
    count
        Of how many neighbours this is said: all else is that of the first.
    scheduler
        Address of the scheduler for a step that uses Dask itself, given by the worker; None on this machine's cores.
    known
        Commits that its process will want to read; given by the worker where a read takes a round trip.
    """

    run: RunContext
    name: TaskName
    node: Node
    parents: TaskNames
    stack: tuple[Frame, ...] = ()
    iteration: int = 0
    attempt: int = 0
    first: int = 0
    fallback: bool = False
    cause: str = ""
    devices: str | None = None
    execution: str = ""
    count: int = 1
    known: tuple[TaskRecord, ...] = ()
    scheduler: str | None = None

    @property
    def pathspec(self) -> str:
        """``Flow/run/step/task``."""
        return f"{self.run.flow}/{self.run.run}/{self.name}"

    @cached_property
    def tasks(self) -> TaskRange:
        """All of the tasks."""
        return replace(TaskRange.of(str(self.name)), count=self.count)

    @property
    def is_first_step(self) -> bool:
        """Whether they are the first tasks of a foreach's items."""
        return is_first_step(self.parents, self.stack)

    @property
    def in_foreach(self) -> bool:
        """Whether they are part of a foreach's items."""
        return any(frame.kind == "foreach" for frame in self.stack)

    def item(self, index: int) -> TaskSpec:
        """The task at a place among them, alone."""
        return self.part(index, index + 1)

    def part(self, start: int, stop: int) -> TaskSpec:
        """The tasks at these places among them."""
        if start == 0:
            return self if stop == self.count else replace(self, count=stop)
        parents, stack = shifted(self.parents, self.stack, start)
        return replace(self, name=self.tasks.name(start), parents=parents, stack=stack, count=stop - start)

    def of(self, tasks: TaskRange) -> TaskSpec:
        """Those of them that are in a range, which must lie within."""
        return self.part(tasks.first - self.tasks.first, tasks.end - self.tasks.first)


@dataclass(frozen=True)
class Together:
    """Attempts that a worker runs one after the other in one process, each spec's neighbours too.

    Attributes
    ----------
    specs
        Chunks and single tasks of one step.
    seconds
        After so long what has not begun is left to other processes.
    mark
        Written to the process's stdout and stderr after each item.
    apart
        They share no process, only the way to the worker: each has one of its own, one after the other.
    """

    specs: tuple[TaskSpec, ...]
    seconds: float
    mark: bytes = b""
    apart: bool = False

    @property
    def count(self) -> int:
        """How many tasks there are."""
        return sum(spec.count for spec in self.specs)


def record_of(spec: TaskSpec, **known: Any) -> TaskRecord:
    """The record of an attempt with what is ``known`` of it; it starts and ends now unless that says otherwise."""
    now = timestamp()
    return TaskRecord(
        flow=spec.run.flow,
        run=spec.run.run,
        step=spec.name.step,
        task=spec.name.task_id,
        attempt=spec.attempt,
        execution=spec.execution,
        parents=spec.parents.texts(),
        stack=[frame.to_json() for frame in spec.stack],
        iteration=spec.iteration if spec.node.recursive else None,
        **{"started": now, "finished": now} | known,
    )


def told(error: tuple[str, str] | None) -> str:
    """Type and text of an error as one text: many an exception has no text, and a process that died no type."""
    return ": ".join(part for part in error or () if part not in ("", "process"))


def was_stopped(record: TaskRecord) -> bool:
    """Whether an attempt was ended because its run was; earlier versions said so only in words."""
    said = (record.error or {}).get("exception")
    return not record.ok and (bool(record.process.get("stopped")) or said == ENDED_WITH_ITS_RUN)


def first_line(text: str, longest: int) -> str:
    """The first line of a text, cut if it has more characters."""
    line = text.partition("\n")[0]
    return line if len(line) <= longest else f"{line[:longest]} ..."


@dataclass(frozen=True)
class TaskResult:
    """How an attempt went, as the driver needs to know it; artifacts never travel with it.

    Attributes
    ----------
    name
        The task, or the first of neighbours that went the same way.
    status
        ``committed``, ``failed``, ``not_run``, or ``released``: it shared a process with others and is still to be run.
    kind, targets
        For a committed task, how it went on (``linear``, ``split`` and so on), and with which steps.
    size
        For a committed foreach split, the number of its items.
    error
        Type and text of what went wrong.
    execution
        The execution that counts, or that failed.
    reused
        The task had been committed before; nothing was run.
    stopped
        It was ended because its run was.
    caught
        The step failed, and a decorator dealt with that.
    final
        No further attempt is to be made: the step's process said so, or was ended on the driver's order.
    count
        How many tasks it is said of.
    alone
        It was released because it must have a process for itself. Of what is released ``error`` says why the sharing ended,
        if an item is to blame.
    overhead
        Seconds that its process took beside its items.
    """

    name: TaskName
    attempt: int
    status: str
    targets: tuple[str, ...] = ()
    kind: str = ""
    size: int | None = None
    error: tuple[str, str] | None = None
    execution: str = ""
    seconds: float = 0.0
    reused: bool = False
    final: bool = False
    stopped: bool = False
    caught: bool = False
    count: int = 1
    alone: bool = False
    overhead: float = 0.0

    @property
    def tasks(self) -> TaskRange:
        """All of the tasks."""
        return replace(TaskRange.of(str(self.name)), count=self.count)

    @property
    def committed(self) -> bool:
        """Whether the task's outcome is in the store for good."""
        return self.status == "committed"
