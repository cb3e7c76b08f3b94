"""Dask's part of a cluster in EC2: dask-cloudprovider's classes, which here start and end machines of a :class:`Fleet`.

What dask-cloudprovider would leave behind or wait for is decided here: https://cloudprovider.dask.org/en/latest/aws.html
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING, Any

from dask_cloudprovider.aws.ec2 import EC2Cluster, EC2Scheduler, EC2Worker
from distributed import Adaptive
from distributed.core import Status

from daskflow.clusters import demand
from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.clusters.ec2_fleet import Fleet

POLITE_SECONDS = 10
"""How long workers and scheduler may take to say goodbye, before their machines are ended."""
PAUSE_SECONDS = 60
"""How long no worker is asked for after EC2 refused one."""
LOOK_SECONDS = 5.0
"""How often, at most, the number of workers is compared with the work."""


class Scheduler(EC2Scheduler):  # type: ignore[misc] # without types
    """The scheduler's machine."""

    async def create_vm(self) -> tuple[str, str]:
        """Start it; the addresses for the workers, and for us."""
        return await asyncio.to_thread(self.cluster.fleet.start_scheduler)

    async def wait_for_scheduler(self) -> None:
        """Return once it listens."""
        host = self.external_address.removeprefix("tls://").rpartition(":")[0]
        await asyncio.to_thread(self.cluster.fleet.wait_for_scheduler, host)

    async def destroy_vm(self) -> None:
        """Its machine ends with all others."""


class Worker(EC2Worker):  # type: ignore[misc] # without types
    """A worker's machine, which has the same name here, in Dask and in EC2."""

    def __init__(self, scheduler: str, *arguments: Any, name: str, **options: Any) -> None:
        super().__init__(scheduler, *arguments, **options)
        self.name = name
        self.machine: str | None = None

    async def start(self) -> None:
        """Start it; it will join the scheduler."""
        try:
            self.machine = await asyncio.to_thread(self.cluster.fleet.start_worker, self.name, self.scheduler)
        except BaseException:
            self.status = Status.failed
            raise
        self.status = Status.running

    async def destroy_vm(self) -> None:
        """End it, unless all are to be ended together."""
        if self.machine is not None and self.cluster.status == Status.running:
            await asyncio.to_thread(self.cluster.fleet.terminate, self.machine)


class Following(Adaptive):  # type: ignore[misc] # without types
    """As many workers as the tasks have slots for; more only when there were too few twice in a row."""

    _wanted = 0

    async def target(self) -> int:
        """How many workers there should be."""
        tasks: int = await getattr(self.scheduler, demand.OPERATION)()
        wanted: int = math.ceil(tasks / self.cluster.fleet.kinds[1].threads)
        before: int = self._wanted
        self._wanted = wanted
        return min(before, wanted) if wanted > len(set(self.plan)) else wanted


class Cluster(EC2Cluster):  # type: ignore[misc] # without types
    """A scheduler and workers.

    Parameters
    ----------
    fleet
        A prepared one; who made it ends it.
    workers
        How many.
    tell
        Called with a line for the user.
    """

    def __init__(self, fleet: Fleet, workers: int, tell: Callable[[str], None]) -> None:
        self.fleet, self._say = fleet, tell
        self.link = ""
        self._is_begun = False
        self._told = ""
        self._not_before = 0.0
        super().__init__(
            region=fleet.account.region,
            n_workers=workers,
            security=fleet.credentials.security(),
            shutdown_on_close=False,  # Dask would close it at the interpreter's end; that is the fleet's, whatever happens
        )

    scheduler_class = property(lambda _: Scheduler, lambda _, __: None)
    worker_class = property(lambda _: Worker, lambda _, __: None)

    def begun(self, workers: int) -> None:
        """All that has to be there is there: from now on the number of workers follows the work, and failures are told."""
        self._is_begun = True
        most = self.fleet.profile.max_workers
        if most > workers or self.fleet.profile.min_workers < workers:
            interval = min(LOOK_SECONDS, self.fleet.profile.idle_worker / 4)
            self.adapt(
                Adaptive=Following,
                minimum=self.fleet.profile.min_workers,
                maximum=most,
                interval=interval,
                wait_count=math.ceil(self.fleet.profile.idle_worker / interval),
            )

    @property
    def dashboard_link(self) -> str:
        """Where a person finds the dashboard."""
        return self.link

    def _log(self, log: str) -> None:
        self.quiet = True  # what is worth a line is told by us
        super()._log(log)

    def _new_worker_name(self, number: int) -> str:
        return f"{self.fleet.id}-worker-{number}"

    async def _correct_state_internal(self) -> None:
        await self._keep_to_the_cap()
        try:
            await super()._correct_state_internal()
        except Exception as error:
            for name in [name for name, each in self.workers.items() if each.status == Status.failed]:
                del self.workers[name]
                self.worker_spec.pop(name, None)
            if not self._is_begun:
                raise
            self._not_before = time.monotonic() + PAUSE_SECONDS
            self._tell(f"A worker could not be started. {_words(error)}")

    async def _keep_to_the_cap(self) -> None:
        """Plan no more machines than EC2 says there may be, and none for a while after it refused some."""
        missing = [name for name in self.worker_spec if name not in self.workers]
        if not missing or self.status in (Status.closing, Status.closed):
            return
        room = 0
        if time.monotonic() > self._not_before:
            room = max(await asyncio.to_thread(self.fleet.room), 0)
            if room < len(missing):
                most = self.fleet.profile.max_machines
                self._tell(
                    f"EC2 has as many machines of this profile as may be, {most} (max_machines): no more workers for now."
                )
        for name in missing[room:]:
            self.worker_spec.pop(name, None)

    def _tell(self, line: str) -> None:
        """Say something to the user, but not twice in a row."""
        if line != self._told:
            self._told = line
            self._say(line)

    def _update_worker_status(self, op: str, msg: Any) -> None:
        """Replace a worker that is lost, once Dask has given it up."""
        super()._update_worker_status(op, msg)
        if op == "remove":
            import dask
            from dask.utils import parse_timedelta

            given_up = parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout"))
            asyncio.get_running_loop().call_later(given_up + 1, self._replace)

    def _replace(self) -> None:
        if self.status == Status.running and set(self.worker_spec) - set(self.workers):
            task = self._correct_state()
            task.add_done_callback(self._told_if_failed)

    def _told_if_failed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._tell(f"A lost worker could not be replaced. {_words(error)}")

    async def _close(self) -> None:
        """Say goodbye for a while, and no longer; the machines are the fleet's."""
        with contextlib.suppress(Exception):
            await asyncio.wait_for(super()._close(), POLITE_SECONDS)
        self.status = Status.closed


def _words(error: BaseException) -> str:
    return error.message if isinstance(error, ClusterError) else repr(error)
