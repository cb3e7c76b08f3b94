"""A region as one graph of ``dask.delayed`` tasks."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from daskflow.engine.worker import run_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskflow.engine.frontier import Planned
    from daskflow.flow.policy import Policy
    from daskflow.pathspec import TaskName
    from daskflow.task.spec import TaskSpec, Together

UNITS = {"cpu": "CPU", "memory": "MEMORY", "gpu": "GPU"}
"""What a step may ask for, and the Dask resource that stands for it. Memory is in megabytes."""


def key_of(spec: TaskSpec, turn: int) -> tuple[str, str, int, str]:
    """The Dask key of a task's, or a chunk's, ``turn``-th submission by this driver.

    The dashboard groups by its first part; no key is ever used twice, since a scheduler answers the key of a task it
    still holds without running it.
    """
    run = spec.run
    return (f"{run.flow}/{run.run}/{spec.name.step}", spec.tasks.ids, spec.attempt, f"{run.token}.{turn}")


def needs(policy: Policy) -> dict[str, float]:
    """The Dask resources that a task takes while it runs."""
    asked = {unit: getattr(policy, name) for name, unit in UNITS.items()}
    return {unit: amount for unit, amount in asked.items() if amount}


def submit(
    client: Any, region: Sequence[Planned], turn: int = 0, counted: bool = False
) -> dict[TaskName, Any]:
    """Hand a region to the scheduler; the future of each of its tasks.

    The edges of the graph are the flow's edges. A spec travels as bytes: Dask would search its fields for more graph.
    What waits for a slot gets one in the region's order; left to itself Dask takes what is independent in any.

    Parameters
    ----------
    client, region
        Where, and what.
    turn
        Makes the keys differ from those of an earlier submission of the same tasks.
    counted
        Whether tasks take Dask resources; one that asks for nothing takes one core then.
    """
    from dask import annotate, delayed

    run = delayed(run_task, pure=False, traverse=False)
    made: dict[TaskName, Any] = {}
    for place, task in enumerate(region):
        upstream = [made[name] for name in task.upstream]
        taken = {"resources": {"CPU": 1} | needs(task.spec.node.policy)} if counted else {}
        with annotate(priority=-place, **taken):
            key = key_of(task.spec, turn)
            made[task.spec.name] = run(pickle.dumps(task.spec), *upstream, dask_key_name=key)
    futures = client.compute(list(made.values()), optimize_graph=False)
    return dict(zip(made, futures, strict=True))


def submit_together(client: Any, work: Together, turn: int = 0, counted: bool = False) -> Any:
    """Hand tasks that share a process to the scheduler, see :func:`submit`; their one future."""
    from dask import annotate, delayed

    lead = work.specs[0]
    taken = {"resources": {"CPU": 1} | needs(lead.node.policy)} if counted else {}
    with annotate(**taken):
        run = delayed(run_task, pure=False, traverse=False)
        task = run(pickle.dumps(work), dask_key_name=key_of(lead, turn))
    return client.compute(task, optimize_graph=False)
