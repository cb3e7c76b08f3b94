"""A region as one graph of ``dask.delayed`` tasks."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from daskflow.engine.worker import run_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskflow.engine.frontier import Planned
    from daskflow.pathspec import TaskName
    from daskflow.task.spec import TaskSpec


def key_of(spec: TaskSpec) -> tuple[str, str, int, int]:
    """The Dask key of an attempt.

    The dashboard groups by its first part; no key is ever used twice, since a scheduler answers the key of a task it
    still holds without running it.
    """
    run = spec.run
    return (f"{run.flow}/{run.run}/{spec.name.step}", spec.name.task_id, spec.attempt, run.session)


def submit(client: Any, region: Sequence[Planned]) -> dict[Any, TaskName]:
    """Hand a region to the scheduler; the future of each of its tasks, with the task's name.

    The edges of the graph are the flow's edges. A spec travels as bytes: Dask would search its fields for more graph.
    What waits for a slot gets one in the region's order; left to itself Dask takes what is independent in any.
    """
    from dask import annotate, delayed

    run = delayed(run_task, pure=False, traverse=False)
    made: dict[TaskName, Any] = {}
    for place, task in enumerate(region):
        upstream = [made[name] for name in task.upstream]
        with annotate(priority=-place):
            made[task.spec.name] = run(pickle.dumps(task.spec), *upstream, dask_key_name=key_of(task.spec))
    futures = client.compute(list(made.values()), optimize_graph=False)
    return dict(zip(futures, made, strict=True))
