"""Reading past runs: ``Flow("F").latest_run["step"].task.data.x``.

Listing, statuses, scalars and tables run no code of the flow and unpickle nothing; a pickle is loaded when its value
is asked for.
"""

from __future__ import annotations

from daskflow.client.artifacts import DataArtifact
from daskflow.client.namespaces import default_namespace, get_namespace, namespace
from daskflow.client.runs import Daskflow, Flow, Run
from daskflow.client.tasks import Step, Task

__all__ = [
    "Daskflow",
    "DataArtifact",
    "Flow",
    "Run",
    "Step",
    "Task",
    "default_namespace",
    "get_namespace",
    "namespace",
]
