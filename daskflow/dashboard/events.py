"""What happens in a run, as the model is told of it: by who drives the run, or by who reads its store.

Times are seconds of the epoch. Tasks are named as in :class:`daskflow.pathspec.TaskRange`, without the step: ``4``, or
``4..9`` for neighbours. All of it can be pickled, and holds texts, numbers, times and lists of these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Told:
    """Something about the run itself; what is told last holds.

    ``status``, ``started``, ``finished``, ``user``, ``parameters`` (texts by name), ``tags``, ``store`` (its URL), ``reason``,
    ``commands`` (that go on with a run that did not succeed), ``damaged`` (what can't be read), and ``steps``: the graph, a dict
    a step, in the order of the flow, as ``_graph_info`` has it.
    """

    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Planned:
    """So many tasks of a step wait for their turn, more than before; those that are in the store already are not counted.

    A negative count takes back what was said of tasks that need not run.
    """

    step: str
    count: int


@dataclass(frozen=True, slots=True)
class Started:
    """A process runs: for one task, whose item of the foreach is ``value``, or for ``count`` of them, one after the other.

    Of several ``value`` says which is the first and which the last.
    """

    step: str
    tasks: str
    count: int
    at: float
    worker: str
    pid: int
    attempt: int = 0
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Of tasks that share a process so many are done; they are committed together, later."""

    step: str
    tasks: str
    done: int


@dataclass(frozen=True, slots=True)
class Committed:
    """Tasks are in the store.

    The columns, of equal length, are those of :data:`daskflow.client.frames.FACTS` and ``value``, the item of the innermost
    foreach as a text; those that are not known may be missing, but for ``task``. After a switch there may be ``to``, the step
    that was chosen; of a task whose failure a decorator dealt with ``caught``, what that was. ``process`` is the first of the tasks for which their process was started.
    """

    step: str
    columns: dict[str, list[Any]]
    process: str = ""
    reused: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt failed; ``again`` if another one follows, ``stopped`` if it was ended because the run was.

    ``value`` and the facts after it are as in :class:`Committed`.
    """

    step: str
    task: str
    attempt: int
    error: str
    started: float | None = None
    seconds: float | None = None
    worker: str = ""
    again: bool = False
    stopped: bool = False
    value: str | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Back:
    """Tasks that had been started, or were about to be, wait again: what they shared a process with ended it, or their worker was lost."""

    step: str
    tasks: str
    count: int


@dataclass(frozen=True, slots=True)
class Lines:
    """A task has written lines to ``stdout`` or ``stderr``."""

    step: str
    task: str
    stream: str
    lines: list[str] = field(default_factory=list)


Event = Told | Planned | Started | Progress | Committed | Failed | Back | Lines
