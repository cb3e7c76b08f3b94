"""``inputs``: what a join sees of the tasks that lead to it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from numbers import Number
from typing import TYPE_CHECKING, Any, overload

from daskflow.errors import DataException, DataMissing
from daskflow.flow.spec import in_task
from daskflow.store.chunks import OTHER
from daskflow.store.records import ArtifactRef, Frame
from daskflow.task.view import Place, View

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow.dataset as ds

    from daskflow.flow.spec import FlowSpec
    from daskflow.pathspec import TaskName, TaskNames
    from daskflow.store.chunks import Chunk
    from daskflow.store.records import TaskRecord
    from daskflow.store.runs import RunStore

FEW = 1_000
"""So many inputs at most are kept once they were touched; of more only those on which something was set."""


class Inputs:
    """The inputs of a join: a sequence of views of its parents, each loaded when it is touched.

    What is set on one of them stays there.

    Branches come in the order of their ``self.next``, items of a foreach in the order of their index. The input of a
    branch is also there under the name of its last step: ``inputs.a``.
    """

    __daskflow_flow__ = True  # as little an artifact as the flows in it

    def __init__(self, flow_class: type[FlowSpec], store: RunStore, parents: TaskNames) -> None:
        self._flow_class = flow_class
        self._store = store
        self._parents = parents
        self._views: dict[int, FlowSpec] = {}

    def __len__(self) -> int:
        return len(self._parents)

    def __iter__(self) -> Iterator[FlowSpec]:
        place = 0
        for tasks, chunk in self._pieces():
            for index in range(tasks.count):
                if place in self._views:
                    yield self._views[place]
                elif chunk is None:
                    yield self._made(place, _Input(self._store, tasks.name()))
                else:
                    yield self._made(
                        place, _InChunk(self._store, chunk, tasks.first - chunk.tasks.first + index)
                    )
                place += 1

    @overload
    def __getitem__(self, index: int) -> FlowSpec: ...
    @overload
    def __getitem__(self, index: slice) -> list[FlowSpec]: ...
    def __getitem__(self, index: int | slice) -> FlowSpec | list[FlowSpec]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        if place in self._views:
            return self._views[place]
        return self._made(place, _Input(self._store, self._parents[place]))

    def __getattr__(self, step: str) -> FlowSpec:
        if step.startswith("_"):
            raise AttributeError(step)
        end = len(self)
        for tasks in reversed(self._parents.ranges):
            if tasks.step == step:
                return self[end - 1]
            end -= tasks.count
        steps = ", ".join(dict.fromkeys(tasks.step for tasks in self._parents.ranges))
        raise AttributeError(f"No input comes from a step '{step}'; the inputs come from: {steps}.")

    @property
    def flows(self) -> list[FlowSpec]:
        """All inputs as a list."""
        return list(self)

    def scalars(self, *names: str) -> np.ndarray[Any, Any] | pd.DataFrame:
        """A small artifact of all inputs at once, much faster than one by one.

        Parameters
        ----------
        names
            One artifact, or several.

        Returns
        -------
        For one name an array of as many values as there are inputs, in their order; for several a frame with a column
        each. If the values of one name are dicts, a frame with their keys as columns.

        Raises
        ------
        DataException
            If a value is a collection of others, a table or an array; a dict of single values is not.
        AttributeError
            If an input has no such artifact.
        """
        import numpy as np
        import pandas as pd

        columns = {name: list(self._values(name)) for name in names}
        if len(names) != 1:
            return pd.DataFrame(columns)
        (values,) = columns.values()
        if values and all(type(value) is dict for value in values):
            return pd.DataFrame(values)
        alike = len({type(value) for value in values}) == 1 or all(map(_is_number, values))
        return np.array(values, dtype=None if alike else object)

    def concat(self, name: str) -> Any:
        """The tables that the inputs set under a name as one lazy ``dask.dataframe.DataFrame``, in the order of the inputs.

        Nothing is read before it is computed, but for the first table, whose columns and types hold for all. What polars and
        Arrow made becomes pandas', lazy or not; series become a ``dask.dataframe.Series``. The categories of several tables
        are not known before they are computed (``frame.x.cat.as_known()``): then they are those of all.

        Raises
        ------
        DataException
            If one of them is no table, or some are series and some are not.
        AttributeError
            If an input has no such artifact.
        """
        from daskflow.store import gathered

        return gathered.concat(self._store, name, list(self._refs(name)))

    def dataset(self, name: str) -> ds.Dataset:
        """The tables that the inputs set under a name as one lazy pyarrow dataset, with the columns of all.

        Raises :class:`DataException` if one of them is none or a column is of types that do not go together,
        ``AttributeError`` if an input has no such artifact.
        """
        from daskflow.store import tables

        refs = list(self._refs(name))
        for ref in refs:
            if ref.encoding not in ("parquet", "dask"):
                why = f", because {ref.info['why']}" if "why" in ref.info else ""
                raise DataException(
                    f"Artifact '{name}' of an input is a {ref.type}, kept as {ref.encoding}{why}."
                )
        return tables.dataset(self._store.storage, chain.from_iterable(map(tables.partitions, refs)))

    def _refs(self, name: str) -> Iterator[ArtifactRef]:
        """Where the values of all inputs are."""
        for tasks, chunk in self._pieces():
            for index in range(tasks.count):
                if chunk is None:
                    ref = parent_record(self._store, tasks.name()).artifacts.get(name)
                else:
                    found = chunk.ref(tasks.first - chunk.tasks.first + index, name)
                    ref = None if found is None else ArtifactRef.of_json(found)
                if ref is None:
                    raise AttributeError(_no_artifact(name, tasks.name(index)))
                yield self._store.resolve(name, ref)

    def _values(self, name: str) -> Iterator[Any]:
        place = 0
        for tasks, chunk in self._pieces():
            for index in range(tasks.count):
                value = OTHER
                if chunk is not None and place not in self._views:
                    value = self._value_in(chunk, tasks.first - chunk.tasks.first + index, name)
                if value is OTHER:
                    value = self._value_of(place, name)
                if type(value) not in _PLAIN:
                    _check_small(name, value, tasks.name(index))
                yield value
                place += 1

    def _value_in(self, chunk: Chunk, index: int, name: str) -> Any:
        value = chunk.scalar(index, name)
        ref = chunk.ref(index, name) if value is OTHER else None
        return value if ref is None else self._store.load(name, ArtifactRef.of_json(ref))

    def _value_of(self, place: int, name: str) -> Any:
        try:
            return getattr(self[place], name)
        except AttributeError:
            raise AttributeError(_no_artifact(name, self._parents[place])) from None

    def _pieces(self) -> Iterator[tuple[Any, Chunk | None]]:
        for tasks in self._parents.ranges:
            yield from self._store.pieces(tasks)

    def _made(self, place: int, view: _Input) -> FlowSpec:
        flow = in_task(self._flow_class, view)
        if len(self) <= FEW:
            self._views[place] = flow
        else:
            view.keep = partial(self._keep, place, weakref.ref(flow))
        return flow

    def _keep(self, place: int, made: weakref.ref[FlowSpec]) -> None:
        flow = made()
        if flow is not None:
            self._views[place] = flow


class _Input(View):
    """An input; all of it is made when it is asked for."""

    def __init__(self, store: RunStore, task: TaskName) -> None:
        self.step = task.step
        self.keep: Callable[[], None] = _nothing
        self._run = store
        self._task = task

    def __getattr__(self, name: str) -> Any:
        if name not in _MADE_LATE:
            raise AttributeError(name)
        record = self._read()
        place = Place(self.step, [Frame.of_json(frame) for frame in record.stack])
        super().__init__(place, self._run, dict(record.artifacts), record)
        return self.__dict__[name]

    def _read(self) -> TaskRecord:
        return parent_record(self._run, self._task)

    def forget(self, name: str, *, unless: object = None) -> bool:
        """As of any view; something was set on the input, so it must not be made anew."""
        self.keep()
        return super().forget(name, unless=unless)


class _InChunk(_Input):
    """An input that is committed with others: its scalars are there without its record."""

    def __init__(self, store: RunStore, chunk: Chunk, index: int) -> None:
        self.step = chunk.tasks.step
        self.keep = _nothing
        self._run = store
        self._chunk = chunk
        self._index = index

    def _read(self) -> TaskRecord:
        return self._chunk.record(self._index)

    def artifact(self, name: str) -> Any:
        """As of any view."""
        value = self._chunk.scalar(self._index, name)
        return super().artifact(name) if value is OTHER else value


_PLAIN = frozenset({int, float, str, bool, type(None)})
_MADE_LATE = {"refs", "record", "_place", "_store", "_base", "_values", "_prints", "_items"}


def _no_artifact(name: str, task: TaskName) -> str:
    return f"Task {task} has no artifact '{name}': set it in every item, before anything can fail."


def _nothing() -> None:
    """Few inputs are kept anyway."""


def _check_small(name: str, value: Any, task: TaskName) -> None:
    inner = value.values() if type(value) is dict else (value,)
    if any(hasattr(each, "__len__") and not isinstance(each, (str, bytes)) for each in inner):
        raise DataException(
            f"Artifact '{name}' of task {task} is a {type(value).__name__}; scalars() is for numbers, texts and the like. "
            "Go over the inputs one by one."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) and not isinstance(value, bool)


Sequence.register(Inputs)  # not inherited: `inputs.count` is the input that comes from a step `count`


def parent_record(store: RunStore, parent: TaskName) -> TaskRecord:
    """The commit of a task that others start from. Raises :class:`DataMissing` if it is not there."""
    record = store.task(parent)
    if record is None:
        raise DataMissing(
            f"Task {store.flow}/{store.run}/{parent} should have been committed; its record is not there."
        )
    return record
