"""``inputs``: what a join sees of the tasks that lead to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from daskflow.errors import DataMissing
from daskflow.flow.spec import in_task
from daskflow.task.spec import Frame
from daskflow.task.view import Place, View

if TYPE_CHECKING:
    from daskflow.flow.spec import FlowSpec
    from daskflow.pathspec import TaskName
    from daskflow.store.records import TaskRecord
    from daskflow.store.runs import RunStore


class Inputs:
    """The inputs of a join: a sequence of views of its parents, each loaded when it is touched.

    What is set on one of them stays there.

    Branches come in the order of their ``self.next``, items of a foreach in the order of their index. The input of a
    branch is also there under the name of its last step: ``inputs.a``.
    """

    __daskflow_flow__ = True  # as little an artifact as the flows in it

    def __init__(self, flow_class: type[FlowSpec], store: RunStore, parents: Sequence[TaskName]) -> None:
        self._flow_class = flow_class
        self._store = store
        self._parents = parents
        self._views: dict[int, FlowSpec] = {}

    def __len__(self) -> int:
        return len(self._parents)

    @overload
    def __getitem__(self, index: int) -> FlowSpec: ...
    @overload
    def __getitem__(self, index: slice) -> list[FlowSpec]: ...
    def __getitem__(self, index: int | slice) -> FlowSpec | list[FlowSpec]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        if place not in self._views:
            self._views[place] = self._view(self._parents[place])
        return self._views[place]

    def __getattr__(self, step: str) -> FlowSpec:
        if step.startswith("_"):
            raise AttributeError(step)
        for index in range(len(self) - 1, -1, -1):
            if self._parents[index].step == step:
                return self[index]
        steps = ", ".join(dict.fromkeys(parent.step for parent in self._parents))
        raise AttributeError(f"No input comes from a step '{step}'; the inputs come from: {steps}.")

    @property
    def flows(self) -> list[FlowSpec]:
        """All inputs as a list."""
        return self[:]

    def _view(self, parent: TaskName) -> FlowSpec:
        record = parent_record(self._store, parent)
        place = Place(parent.step, [Frame.of_json(frame) for frame in record.stack])
        return in_task(self._flow_class, View(place, self._store, dict(record.artifacts), record))


Sequence.register(Inputs)  # not inherited: `inputs.count` is the input that comes from a step `count`


def parent_record(store: RunStore, parent: TaskName) -> TaskRecord:
    """The commit of a task that others start from. Raises :class:`DataMissing` if it is not there."""
    record = store.task(parent)
    if record is None:
        raise DataMissing(
            f"Task {store.flow}/{store.run}/{parent} should have been committed; its record is not there."
        )
    return record
