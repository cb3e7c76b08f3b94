"""A trace of executions for those who test the promises: what looked when, what started, what committed.

With ``DASKFLOW_TRACE_FILE`` set every worker appends a line of JSON for each event.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daskflow.task.spec import TaskSpec

VARIABLE = "DASKFLOW_TRACE_FILE"


def trace(event: str, spec: TaskSpec, **facts: Any) -> None:
    """Append an event of an execution, if there is a file for it."""
    path = os.environ.get(VARIABLE)
    if path:
        run = f"{spec.run.flow}/{spec.run.run}"
        line = {"event": event, "run": run, "task": str(spec.tasks), "execution": spec.execution} | facts
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(
            descriptor, f"{json.dumps(line)}\n".encode()
        )  # one write: lines of several workers don't mix
        os.close(descriptor)
