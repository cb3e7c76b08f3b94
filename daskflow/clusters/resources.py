"""What the workers of a cluster have to offer, as Dask resources."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin

from daskflow.errors import ClusterError
from daskflow.task import devices

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE_SECONDS = 8.0
"""How long a cluster that has no worker yet may take to show what its workers have."""
_WHAT = {"CPU": "{:g} cores", "MEMORY": "{:,.0f} MB of memory", "GPU": "{:g} GPUs"}


class _Offer(WorkerPlugin):  # type: ignore[misc] # Dask has no types for its plugins
    """Lets a worker offer its cores, megabytes of memory and GPUs, where it declares nothing itself."""

    name = "daskflow-resources"

    async def setup(self, worker: Any) -> None:
        import psutil

        limit = worker.memory_manager.memory_limit or psutil.virtual_memory().total
        there = {"CPU": worker.state.nthreads, "MEMORY": limit / 1e6, "GPU": len(devices.present())}
        declared = worker.state.total_resources
        await worker.set_resources(**{name: amount for name, amount in there.items() if name not in declared})


def provide(client: Any) -> None:
    """Let all workers, also those that come later, offer what they have."""
    client.register_plugin(_Offer())


def check(client: Any, demands: Mapping[str, Mapping[str, float]]) -> None:
    """See that each step's demand can be met by a worker.

    Parameters
    ----------
    client
        A Dask client.
    demands
        For each step what one of its tasks takes.

    Raises :class:`ClusterError` with the demand and what the workers have.
    """
    with contextlib.suppress(TimeoutError):
        client.wait_for_workers(1, timeout=PATIENCE_SECONDS)
    offers = [worker["resources"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
    for step, demand in demands.items():
        if not any(all(offer.get(name, 0) >= need for name, need in demand.items()) for offer in offers):
            has = "; ".join(sorted({_told(offer) for offer in offers})) or "none: there is no worker"
            raise ClusterError(
                f"No worker can ever run a task of step '{step}', which needs {_told(demand)}. The workers have: {has}."
            )


def _told(amounts: Mapping[str, float]) -> str:
    return ", ".join(words.format(amounts[name]) for name, words in _WHAT.items() if name in amounts)
