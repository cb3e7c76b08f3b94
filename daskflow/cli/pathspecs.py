"""Pathspecs of the command line, which leave out the flow: ``run``, ``run/step`` and ``run/step/task``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from daskflow.client import Run, Step, Task
from daskflow.client.base import reopen
from daskflow.errors import InvalidPathspec, NotFound
from daskflow.pathspec import TaskName
from daskflow.store.layout import PARAMETERS
from daskflow.store.runs import RunStore
from daskflow.store.sessions import status
from daskflow.store.storage import storage_at

if TYPE_CHECKING:
    from collections.abc import Container

    from daskflow.cli.entry import Invocation


def tasks_at(invocation: Invocation, pathspec: str) -> list[Task]:
    """The task of that name, or all tasks of the step or run, oldest first; whoever's run it is.

    Of a step that has not written or ended anything so far there is no task; a line says so.
    Raises :class:`InvalidPathspec` if it is none of them, :class:`NotFound` if there is no such run, step or task.
    """
    flow = invocation.flow_class.__name__
    parts = pathspec.removeprefix(f"{flow}/").split("/")
    full = "/".join((flow, *parts))
    if len(parts) not in (1, 2, 3):
        raise InvalidPathspec(f"'{pathspec}' is none of RUN, RUN/STEP and RUN/STEP/TASK.")
    store = RunStore(storage_at(invocation.store), flow, parts[0])
    try:
        found = _found(invocation, full, len(parts))
    except NotFound:
        if len(parts) == 1 or parts[1] not in _steps(store) or (len(parts) == 3 and store.tasks(parts[1])):
            raise
        found = []
    if not found:
        click.echo(f"{'/'.join(parts)} has written nothing so far. (The run: {status(store)}.)", err=True)
    return found


def _found(invocation: Invocation, full: str, depth: int) -> list[Task]:
    if depth == 3:
        return [reopen(Task, full, invocation.store, None)]
    if depth == 2:
        return list(reversed(list(reopen(Step, full, invocation.store, None))))
    steps = reopen(Run, full, invocation.store, None)
    return sorted((task for step in steps for task in step), key=lambda task: task.created_at)


def _steps(store: RunStore) -> Container[str]:
    """The steps of the flow as the run knows it, whether they have run or not."""
    record = store.task(PARAMETERS)
    if record is None:
        return ()
    steps: Container[str] = store.load("_graph_info", record.artifacts["_graph_info"])["steps"]
    return steps


def task_of(invocation: Invocation, pathspec: str) -> tuple[RunStore, TaskName]:
    """The run and the name of a task, which need not exist.

    Raises :class:`InvalidPathspec` if the pathspec is not ``run/step/task``.
    """
    parts = pathspec.removeprefix(f"{invocation.flow_class.__name__}/").split("/")
    if len(parts) != 3:
        raise InvalidPathspec(f"'{pathspec}' is not RUN/STEP/TASK.")
    run, step, task = parts
    return RunStore(storage_at(invocation.store), invocation.flow_class.__name__, run), TaskName(step, task)
