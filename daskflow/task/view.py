"""What a flow object sees: artifacts loaded when they are touched, the items around it, and what was changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskflow.errors import MergeArtifactsException
from daskflow.store.serializers import fingerprint
from daskflow.task.merge import merged, records_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from daskflow.flow.spec import FlowSpec
    from daskflow.store.records import ArtifactRef, Frame, TaskRecord
    from daskflow.store.runs import RunStore
    from daskflow.task.spec import TaskSpec


@dataclass(frozen=True)
class Place:
    """Where in the flow a task stands.

    Attributes
    ----------
    step
        Its step.
    stack
        The splits around it.
    iterations
        ``[k]`` in the k-th iteration of a recursion, else empty.
    is_join
        Only a join may merge.
    """

    step: str
    stack: Sequence[Frame]
    iterations: tuple[int, ...] = ()
    is_join: bool = False

    @classmethod
    def of(cls, spec: TaskSpec) -> Place:
        """The place of a task that is to run."""
        iterations = (spec.iteration,) if spec.node.recursive else ()
        return cls(spec.name.step, spec.stack, iterations, spec.node.type == "join")

    def facts(self) -> dict[str, Any]:
        """What a task knows of itself under private names; no artifact, for it follows from the task's name."""
        frames = [frame for frame in self.stack if frame.kind == "foreach"]
        return {
            "_current_step": self.step,
            "_foreach_stack": [(f.split.step, f.var, f.size, f.index) for f in frames],
            "_iteration_stack": list(self.iterations),
        }


class View:
    """The artifacts of one task, by reference, and the values that were loaded.

    Parameters
    ----------
    place
        Where the task stands.
    store
        The run.
    refs
        What the task inherits.
    record
        The task's outcome, if it is over and this is an input of a join.
    """

    def __init__(
        self, place: Place, store: RunStore, refs: dict[str, ArtifactRef], record: TaskRecord | None = None
    ) -> None:
        self.step = place.step
        self.refs = refs
        self.record = record
        self._place = place
        self._store = store
        self._base = store.parameters().artifacts
        self._values: dict[str, Any] = {}
        self._prints: dict[str, str | None] = {}
        self._items: list[tuple[int, int, Any]] | None = None

    def artifact(self, name: str) -> Any:
        """The value of an inherited artifact, loaded once; ``KeyError`` if there is none."""
        if name not in self._values:
            ref = self.refs.get(name) or self._base.get(name)
            value = self._place.facts()[name] if ref is None else self._store.load(name, ref)
            self._prints[name] = fingerprint(value) if name in self.refs else None
            self._values[name] = value
        return self._values[name]

    def forget(self, name: str, *, unless: object = None) -> bool:
        """Let go of what was loaded under that name, unless it is ``unless``; whether there is such an artifact."""
        if name in self._values and self._values[name] is not unless:
            del self._values[name]
        return name in self.refs or name in self._base

    def unchanged(self, name: str, value: Any) -> bool:
        """Whether ``value`` is still exactly what was loaded, so that the inherited reference stands for it."""
        if self._values.get(name, self) is not value:
            return False
        # No print of what all tasks of a run share: a change of it in place stays within this task.
        before = self._prints[name]
        return before is None or before == fingerprint(value)

    def missing(self, name: str) -> str:
        """Why there is no such artifact."""
        reason = f"Step '{self.step}' has no artifact '{name}'."
        if self._place.is_join:
            reason += " Nothing passes a join by itself: take it from `inputs`, or call self.merge_artifacts(inputs)."
        return reason

    def foreach_stack(self) -> list[tuple[int, int, Any]]:
        """Index, number of items and item of each foreach around the task, outermost first."""
        if self._items is None:
            frames = [frame for frame in self._place.stack if frame.kind == "foreach"]
            self._items = [(frame.index, frame.size, self._item(frame)) for frame in frames]
        return list(self._items)

    def _item(self, frame: Frame) -> Any:
        split = self._store.task(frame.split)
        assert split is not None
        assert split.foreach is not None
        return self._store.items.load(split.foreach, frame.index)

    def merge(
        self, flow: FlowSpec, inputs: Iterable[FlowSpec], exclude: list[str], include: list[str]
    ) -> None:
        """Take over the artifacts on which the inputs agree."""
        if not self._place.is_join:
            raise MergeArtifactsException(
                f"merge_artifacts is for joins; step '{self.step}' has no inputs to merge."
            )
        taken = set(vars(flow)) | set(self._base) | set(self.refs)
        self.refs.update(merged(records_of(inputs), self._store, taken, exclude, include))
