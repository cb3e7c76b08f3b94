"""Pathspecs of the command line, which leave out the flow: ``run/step`` and ``run/step/task``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daskflow.client import Step, Task
from daskflow.client.base import reopen
from daskflow.errors import InvalidPathspec
from daskflow.pathspec import TaskName
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at

if TYPE_CHECKING:
    from daskflow.cli.entry import Invocation


def tasks_at(invocation: Invocation, pathspec: str) -> list[Task]:
    """The task of that name, or all tasks of the step, oldest first; whoever's run it is.

    Raises :class:`InvalidPathspec` if it is neither, :class:`NotFound` if there is no such step or task.
    """
    parts = pathspec.split("/")
    full = f"{invocation.flow_class.__name__}/{pathspec}"
    if len(parts) == 2:
        return list(reversed(list(reopen(Step, full, invocation.store, None))))
    if len(parts) == 3:
        return [reopen(Task, full, invocation.store, None)]
    raise InvalidPathspec(f"'{pathspec}' is neither RUN/STEP nor RUN/STEP/TASK.")


def task_of(invocation: Invocation, pathspec: str) -> tuple[RunStore, TaskName]:
    """The run and the name of a task, which need not exist.

    Raises :class:`InvalidPathspec` if the pathspec is not ``run/step/task``.
    """
    parts = pathspec.removeprefix(f"{invocation.flow_class.__name__}/").split("/")
    if len(parts) != 3:
        raise InvalidPathspec(f"'{pathspec}' is not RUN/STEP/TASK.")
    run, step, task = parts
    return RunStore(storage_at(invocation.store), invocation.flow_class.__name__, run), TaskName(step, task)
