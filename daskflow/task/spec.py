"""What crosses the network: all that is needed to run one task anywhere, and how it went."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daskflow.pathspec import TaskName

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
    code
        Hash of the code snapshot.
    session
        The driver session that submits.
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
    code: str
    session: int
    cwd: str
    max_log_bytes: int
    launcher: str
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
    execution: str = ""

    @property
    def pathspec(self) -> str:
        """``Flow/run/step/task``."""
        return f"{self.run.flow}/{self.run.run}/{self.name}"


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

    @property
    def committed(self) -> bool:
        """Whether the task's outcome is in the store for good."""
        return self.status == "committed"
