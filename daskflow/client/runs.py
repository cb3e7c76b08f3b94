"""Flows and their runs."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from daskflow.client.base import Stored, not_found, storage_of
from daskflow.client.tasks import Data, Step, Task
from daskflow.errors import NotFound
from daskflow.pathspec import TaskName
from daskflow.store.layout import PARAMETERS
from daskflow.store.records import moment
from daskflow.store.runs import RunStore, flows, run_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime


class Daskflow:
    """All flows of a store.

    Parameters
    ----------
    store
        The directory of the store; None for the one the settings name.
    """

    def __init__(self, store: str | None = None) -> None:
        self._storage = storage_of(store)

    @property
    def flows(self) -> list[Flow]:
        """The flows that have runs, by name."""
        return list(self)

    def __iter__(self) -> Iterator[Flow]:
        return (Flow(name, self._storage.url) for name in flows(self._storage))

    def __getitem__(self, name: str) -> Flow:
        try:
            return Flow(name, self._storage.url)
        except NotFound as error:
            raise KeyError(str(error)) from None

    def __contains__(self, name: object) -> bool:
        return name in flows(self._storage)

    def __repr__(self) -> str:
        return f"Daskflow('{self._storage.url}')"


class Flow(Stored["Run"]):
    """The runs of a flow: iteration is newest first, ``flow["12"]`` is one run."""

    parts = 1

    def _check(self) -> None:
        if not run_numbers(self._storage, self.id):
            raise not_found("Flow", self.pathspec, self._storage, flows(self._storage))

    def _child(self, name: str) -> Run:
        return Run(f"{self.pathspec}/{name}", self._storage.url)

    def _child_names(self) -> list[str]:
        return [str(number) for number in reversed(run_numbers(self._storage, self.id))]

    @property
    def latest_run(self) -> Run:
        """The run with the highest number."""
        return self._child(self._child_names()[0])

    @property
    def latest_successful_run(self) -> Run | None:
        """The latest run that succeeded, None if none did."""
        return next((run for run in self if run.successful), None)

    def runs(self) -> Iterator[Run]:
        """All runs, newest first."""
        return iter(self)


class Run(Stored[Step]):
    """One run of a flow: iteration is over its steps, newest first; ``run["step"]`` is one."""

    parts = 2

    def _check(self) -> None:
        self._store = RunStore(self._storage, *self.path_components)
        self._record = self._store.record()

    def _child(self, name: str) -> Step:
        return Step(f"{self.pathspec}/{name}", self._storage.url)

    def _child_names(self) -> list[str]:
        steps = [name for name in self._store.steps() if name != PARAMETERS.step]
        order = {name: place for place, name in enumerate(self._order)}
        return sorted(steps, key=lambda name: (-order.get(name, -1), name))

    @cached_property
    def _order(self) -> list[str]:
        """The steps in the order of the graph, which is that of their creation."""
        parameters = self._store.task(PARAMETERS)
        if parameters is None:
            return []
        info = self._store.load("_graph_info", parameters.artifacts["_graph_info"])
        return list(info["steps"])

    @property
    def parent(self) -> Flow:
        """Its flow."""
        return Flow(self.path_components[0], self._storage.url)

    @property
    def status(self) -> str:
        """``running``, ``successful``, ``failed`` or ``interrupted``: what its driver said last."""
        ended = self._ended
        return str(ended["status"]) if ended else "running"

    @property
    def _ended(self) -> dict[str, Any] | None:
        sessions = [
            int(name.partition(".")[0])
            for name in self._storage.names(f"{self._store.layout.root}/drivers")
            if name.partition(".")[0].isdecimal()
        ]
        return self._store.read(self._store.layout.driver_end(max(sessions, default=0)))

    @property
    def end_task(self) -> Task | None:
        """The task of the last step, None if it has not succeeded."""
        name = TaskName(self._record["end_step"], "0")
        if self._store.task(name) is None:
            return None
        return Task(f"{self.pathspec}/{name}", self._storage.url)

    @property
    def successful(self) -> bool:
        """Whether its last step has succeeded."""
        return self.end_task is not None

    @property
    def finished(self) -> bool:
        """Whether its last step has ended; False for a run that failed."""
        return self.end_task is not None

    @property
    def finished_at(self) -> datetime | None:
        """When its last step ended, None for a run that is not finished."""
        task = self.end_task
        return task.finished_at if task is not None else None

    @property
    def created_at(self) -> datetime:
        """When it was started."""
        return moment(self._record["created"])

    @property
    def data(self) -> Data | None:
        """The artifacts of the last step, None if it has not succeeded."""
        task = self.end_task
        return task.data if task is not None else None

    @property
    def code(self) -> dict[str, str]:
        """The sources it ran, by path."""
        layout = self._store.layout
        return {
            path: self._storage.read(layout.code(path)).decode("utf-8", "replace")
            for path in self._record["code"]["files"]
        }

    @property
    def origin_pathspec(self) -> str | None:
        """The run it resumed, None if it is no resumed run."""
        origin: str | None = self._record.get("origin")
        return origin

    def steps(self) -> Iterator[Step]:
        """All steps that have tasks, newest first."""
        return iter(self)
