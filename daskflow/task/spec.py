"""What crosses the network: all that is needed to run one task anywhere, and how it went."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daskflow.pathspec import TaskName
from daskflow.store.records import TaskRecord, timestamp

if TYPE_CHECKING:
    from daskflow.flow.graph import Node


@dataclass(frozen=True)
class Frame:
    """One split around a task.

    Attributes
    ----------
    kind
        ``split`` for branches, ``foreach`` for items.
    split
        The task that split.
    index, size
        Which branch or item this is, of how many.
    var
        The artifact that a foreach went over; None for branches.
    """

    kind: str
    split: TaskName
    index: int
    size: int
    var: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As stored in a record."""
        data: dict[str, Any] = {
            "kind": self.kind,
            "split": str(self.split),
            "index": self.index,
            "size": self.size,
        }
        return data | {"var": self.var} if self.var else data

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> Frame:
        """The inverse of :meth:`to_json`."""
        return cls(data["kind"], TaskName.of(data["split"]), data["index"], data["size"], data.get("var"))


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
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskSpec:
    """One attempt of one task.

    Attributes
    ----------
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
    """

    run: RunContext
    name: TaskName
    node: Node
    parents: tuple[TaskName, ...]
    stack: tuple[Frame, ...] = ()
    iteration: int = 0
    attempt: int = 0
    first: int = 0
    fallback: bool = False
    cause: str = ""
    devices: str | None = None
    execution: str = ""

    @property
    def pathspec(self) -> str:
        """``Flow/run/step/task``."""
        return f"{self.run.flow}/{self.run.run}/{self.name}"


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
        parents=[str(parent) for parent in spec.parents],
        stack=[frame.to_json() for frame in spec.stack],
        iteration=spec.iteration if spec.node.recursive else None,
        **{"started": now, "finished": now} | known,
    )


def told(error: tuple[str, str] | None) -> str:
    """Type and text of an error as one text: many an exception has no text, and a process that died no type."""
    return ": ".join(part for part in error or () if part not in ("", "process"))


def first_line(text: str, longest: int) -> str:
    """The first line of a text, cut if it has more characters."""
    line = text.partition("\n")[0]
    return line if len(line) <= longest else f"{line[:longest]} ..."


@dataclass(frozen=True)
class TaskResult:
    """How an attempt went, as the driver needs to know it; artifacts never travel with it.

    Attributes
    ----------
    status
        ``committed``, ``failed`` or ``not_run``.
    targets
        For a committed task, the steps that follow.
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
    """

    name: TaskName
    attempt: int
    status: str
    targets: tuple[str, ...] = ()
    size: int | None = None
    error: tuple[str, str] | None = None
    execution: str = ""
    seconds: float = 0.0
    reused: bool = False
    final: bool = False
    stopped: bool = False
    caught: bool = False

    @property
    def committed(self) -> bool:
        """Whether the task's outcome is in the store for good."""
        return self.status == "committed"
