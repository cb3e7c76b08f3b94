"""How many slots the tasks at a scheduler could use.

Dask's own answer goes by how long tasks of a name took so far, and by default asks for machines only when five seconds of work wait for
each. A step may take milliseconds for one item and hours for the next; so here every task that is not done counts.
"""

from __future__ import annotations

from typing import Any

from distributed import SchedulerPlugin

OPERATION = "daskflow_demand"


class Demand(SchedulerPlugin):  # type: ignore[misc] # Dask has no types for its plugins
    """Lets a scheduler say how many tasks run or could run, and let go only of workers that do nothing."""

    name = "daskflow-demand"
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        """Called on the scheduler."""

        def demand() -> int:
            on_workers = sum(
                len(each.processing) - len(each.long_running) for each in scheduler.workers.values()
            )
            return int(on_workers + len(scheduler.queued) + len(scheduler.unrunnable))

        scheduler.handlers[OPERATION] = demand

    def valid_workers_downscaling(self, scheduler: Any, workers: list[Any]) -> list[Any]:
        """Those that may be closed: a task that runs on another would have to begin anew elsewhere."""
        return [each for each in workers if not each.processing]
