"""Pathspecs of the command line, which leave out the flow: ``run``, ``run/step`` and ``run/step/task``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from daskflow.client import Run, Step, Task
from daskflow.client.base import reopen
from daskflow.errors import InvalidPathspec, NotFound
from daskflow.pathspec import TaskName
from daskflow.store.layout import PARAMETERS
from daskflow.store.sessions import status

if TYPE_CHECKING:
    from collections.abc import Container

    from daskflow.cli.entry import Invocation
    from daskflow.store.runs import RunStore


def tasks_at(invocation: Invocation, pathspec: str) -> list[Task]:
    """The task of that name, or all tasks of the step or run, oldest first; whoever's run it is.

    Of a step that has not written or ended anything so far there is no task; a line says so.
    Raises :class:`InvalidPathspec` if it is none of them, :class:`NotFound` if there is no such run, step or task.
    """
    parts = _parts(invocation, pathspec)
    if len(parts) not in (1, 2, 3):
        raise InvalidPathspec(f"'{pathspec}' is none of RUN, RUN/STEP and RUN/STEP/TASK.")
    store = invocation.run_store(parts[0])
    try:
        found = _found(invocation, "/".join((store.flow, *parts)), len(parts))
    except NotFound:
        if len(parts) == 1 or parts[1] not in _steps(store) or (len(parts) == 3 and store.tasks(parts[1])):
            raise
        found = []
    if not found:
        click.echo(f"{'/'.join(parts)} has written nothing so far. (The run: {status(store)}.)", err=True)
    return found


def task_of(invocation: Invocation, pathspec: str) -> tuple[RunStore, TaskName]:
    """The run and the name of a task, which need not exist.

    Raises :class:`InvalidPathspec` if the pathspec is not ``run/step/task``.
    """
    parts = _parts(invocation, pathspec)
    if len(parts) != 3:
        raise InvalidPathspec(f"'{pathspec}' is not RUN/STEP/TASK.")
    run, step, task = parts
    return invocation.run_store(run), TaskName(step, task)


def _parts(invocation: Invocation, pathspec: str) -> list[str]:
    """Its parts without the flow, which may be there or not."""
    return pathspec.removeprefix(f"{invocation.flow_class.__name__}/").split("/")


def _found(invocation: Invocation, full: str, depth: int) -> list[Task]:
    if depth == 3:
        return [reopen(Task, full, invocation.store, None)]
    if depth == 2:
        return list(reversed(list(reopen(Step, full, invocation.store, None))))
    steps = reopen(Run, full, invocation.store, None)
    return sorted((task for step in steps for task in step), key=lambda task: task.created_at)


def _steps(store: RunStore) -> Container[str]:
    """The steps of the flow as the run knows it, whether they have run or not."""
    if store.task(PARAMETERS) is None:
        return ()
    steps: Container[str] = store.graph_info()["steps"]
    return steps
