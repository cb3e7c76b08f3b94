"""Pathspecs of the command line, which leave out the flow: ``run/step`` and ``run/step/task``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daskflow.client import Step, Task
from daskflow.errors import InvalidPathspec

if TYPE_CHECKING:
    from daskflow.cli.entry import Invocation


def tasks_at(invocation: Invocation, pathspec: str) -> list[Task]:
    """The task of that name, or all tasks of the step, oldest first.

    Raises :class:`InvalidPathspec` if it is neither, :class:`NotFound` if there is no such step or task.
    """
    parts = pathspec.split("/")
    full = f"{invocation.flow_class.__name__}/{pathspec}"
    if len(parts) == 2:
        return list(reversed(list(Step(full, invocation.store))))
    if len(parts) == 3:
        return [Task(full, invocation.store)]
    raise InvalidPathspec(f"'{pathspec}' is neither RUN/STEP nor RUN/STEP/TASK.")
