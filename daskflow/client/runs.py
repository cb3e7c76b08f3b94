"""Flows and their runs."""

from __future__ import annotations

import contextlib
from functools import cached_property
from typing import TYPE_CHECKING

from daskflow.client.base import OfRun, Stored, not_found, storage_of
from daskflow.client.frames import Rows
from daskflow.client.namespaces import get_namespace
from daskflow.client.rows import RunRows
from daskflow.client.tasks import Step, Task
from daskflow.errors import NamespaceMismatch, NotFound
from daskflow.pathspec import TaskName
from daskflow.store.flows import flows, run_numbers
from daskflow.store.layout import PARAMETERS
from daskflow.store.records import moment
from daskflow.store.sessions import last_session, snapshot_of, status
from daskflow.store.tags import change_tags, read_tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    import pandas as pd

    from daskflow.client.data import Data
    from daskflow.store.tags import Tags


class Daskflow:
    """The flows of a store that have runs in the current namespace.

    Parameters
    ----------
    store
        The directory of the store; None for the one the settings name.
    """

    def __init__(self, store: str | None = None) -> None:
        self._storage = storage_of(store)

    @property
    def flows(self) -> list[Flow]:
        """Its flows, by name."""
        return list(self)

    def __iter__(self) -> Iterator[Flow]:
        for name in flows(self._storage):
            with contextlib.suppress(NamespaceMismatch):
                yield Flow(name, self._storage.url)

    def __getitem__(self, name: str) -> Flow:
        try:
            return Flow(name, self._storage.url)
        except NotFound as error:
            raise KeyError(str(error)) from None

    def __contains__(self, name: object) -> bool:
        return any(flow.id == name for flow in self)

    def __repr__(self) -> str:
        return f"Daskflow('{self._storage.url}')"


class Flow(Stored["Run"]):
    """The runs of a flow in the current namespace: iteration is newest first, ``flow["12"]`` is one run.

    Raises :class:`NamespaceMismatch` if it has none there.
    """

    parts = 1

    def _check(self) -> None:
        if not run_numbers(self._storage, self.id):
            raise not_found("Flow", self.pathspec, self._storage, flows(self._storage))

    def _is_visible(self) -> bool:
        return any(True for _ in self)

    def _child(self, name: str) -> Run:
        run = self._reach(Run, self.pathspec, name)
        if self._namespace is not None and self._namespace not in run.tags:
            raise run._mismatch()
        return run

    def _child_names(self) -> list[str]:
        return [str(number) for number in reversed(run_numbers(self._storage, self.id))]

    def to_pandas(self) -> pd.DataFrame:
        """The tasks of its runs as a frame, a row each, oldest run first. See :meth:`Step.to_pandas` for the columns."""
        rows = Rows()
        for run in reversed(list(self)):
            found = run._rows()
            rows.add(found.count, found.columns)
        return rows.frame()

    @property
    def latest_run(self) -> Run:
        """The run with the highest number. Raises :class:`NamespaceMismatch` if all have gone from the namespace."""
        for name in self._child_names():
            with contextlib.suppress(NamespaceMismatch):
                return self._child(name)
        raise self._mismatch()

    @property
    def latest_successful_run(self) -> Run | None:
        """The latest run that succeeded, None if none did."""
        return next((run for run in self if run.successful), None)

    def runs(self, *tags: str) -> Iterator[Run]:
        """The runs that have all of ``tags``, newest first."""
        return (run for run in self if run.tags.issuperset(tags))


class Run(OfRun[Step]):
    """One run of a flow: iteration is over its steps, newest first; ``run["step"]`` is one."""

    parts = 2

    def _check(self) -> None:
        self._record = self._store.record()
        self._tags_then = read_tags(self._store, self._record)

    def _tags(self) -> Tags:
        return self._tags_then

    def _child(self, name: str) -> Step:
        return self._reach(Step, self.pathspec, name)

    def _child_names(self) -> list[str]:
        steps = [name for name in self._store.steps() if name != PARAMETERS.step]
        order = {name: place for place, name in enumerate(self._order)}
        return sorted(steps, key=lambda name: (-order.get(name, -1), name))

    @cached_property
    def _order(self) -> list[str]:
        """The steps in the order of the graph, which is that of their creation."""
        if self._store.task(PARAMETERS) is None:
            return []
        return list(self._store.graph_info()["steps"])

    def to_pandas(self) -> pd.DataFrame:
        """Its tasks as a frame, a row each, step by step in the order of the graph. See :meth:`Step.to_pandas`."""
        return self._rows().frame()

    def _rows(self) -> Rows:
        return RunRows(self._store).of_steps(reversed(self._child_names()))

    @property
    def parent(self) -> Flow:
        """Its flow."""
        return self._reach(Flow, self.path_components[0])

    @property
    def status(self) -> str:
        """``running``, ``lost`` if its driver died, or what its driver said last: ``successful``, ``failed``, ``interrupted``."""
        return status(self._store)

    @property
    def end_task(self) -> Task | None:
        """The task of the last step, None if it has not succeeded."""
        name = TaskName(self._record["end_step"], "0")
        if self._store.task(name) is None:
            return None
        return self._reach(Task, self.pathspec, str(name))

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
        """The sources it ran, by path; of a run that went on with new code, those it ran last.

        Of a run for workers elsewhere it is all that travelled to them of the flow's folder.
        """
        return {path: content.decode("utf-8", "replace") for path, content in self.code_files.items()}

    @property
    def code_files(self) -> dict[str, bytes]:
        """The same as bytes, for files that are no text."""
        return self._store.sources(snapshot_of(self._store, last_session(self._store)))

    @property
    def origin_pathspec(self) -> str | None:
        """The run it resumed, None if it is no resumed run."""
        origin = self._record.get("origin")
        return None if origin is None else f"{self._record['flow']}/{origin['run']}"

    def steps(self, *tags: str) -> Iterator[Step]:
        """The steps that have tasks, newest first; none if the run lacks one of ``tags``."""
        return iter(self) if self.tags.issuperset(tags) else iter(())

    def is_in_namespace(self) -> bool:
        """Whether the namespace that holds now shows it."""
        namespace = get_namespace()
        return namespace is None or namespace in self.tags

    def add_tag(self, tag: str) -> None:
        """Give it a tag. Changes nothing if it has it, as a system tag or a user's.

        Raises :class:`TaggingError` if it is no text of 1 to 500 characters, or the run has 50 user tags already.
        """
        self.replace_tags((), tag)

    def add_tags(self, tags: Iterable[str]) -> None:
        """Give it several tags, as one change; see :meth:`add_tag`."""
        self.replace_tags((), tags)

    def remove_tag(self, tag: str) -> None:
        """Take a tag from it. Changes nothing if it does not have it.

        Raises :class:`TaggingError` if it is a system tag.
        """
        self.replace_tags(tag, ())

    def remove_tags(self, tags: Iterable[str]) -> None:
        """Take several tags from it, as one change: all, or none if one is a system tag."""
        self.replace_tags(tags, ())

    def replace_tag(self, tag_to_remove: str, tag_to_add: str) -> None:
        """Take a tag from it, then give it another, as one change; see :meth:`replace_tags`."""
        self.replace_tags(tag_to_remove, tag_to_add)

    def replace_tags(self, tags_to_remove: Iterable[str], tags_to_add: Iterable[str]) -> None:
        """First take tags from it, then give it others, as one change.

        Tasks and other processes may change tags at the same time: each change has its effect.
        Raises :class:`TaggingError`, and changes nothing, as :meth:`add_tag` and :meth:`remove_tag` do.
        """
        self._tags_then = change_tags(self._store, remove=tags_to_remove, add=tags_to_add)
