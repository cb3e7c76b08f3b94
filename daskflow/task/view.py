"""What a flow object sees: artifacts loaded when they are touched, the items around it, and what was changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskflow.errors import MergeArtifactsException
from daskflow.store.items import load_item
from daskflow.store.serializers import fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskflow.flow.spec import FlowSpec
    from daskflow.store.records import ArtifactRef
    from daskflow.store.runs import RunStore
    from daskflow.task.spec import Frame


class View:
    """The artifacts of one task, by reference, and the values that were loaded.

    Parameters
    ----------
    step
        The step's name.
    store
        The run.
    refs
        What the task inherits.
    stack
        The splits around it.
    is_join
        Only a join may merge.
    """

    def __init__(
        self,
        step: str,
        store: RunStore,
        refs: dict[str, ArtifactRef],
        stack: Sequence[Frame],
        *,
        is_join: bool = False,
    ) -> None:
        self.step = step
        self.refs = refs
        self._store = store
        self._stack = [frame for frame in stack if frame.kind == "foreach"]
        self._is_join = is_join
        self._base = store.parameters().artifacts
        self._values: dict[str, Any] = {}
        self._prints: dict[str, str | None] = {}
        self._items: list[tuple[int, int, Any]] | None = None

    def artifact(self, name: str) -> Any:
        """The value of an inherited artifact, loaded once; ``KeyError`` if there is none."""
        if name not in self._values:
            ref = self.refs[name] if name in self.refs else self._base[name]
            value = self._store.load(name, ref)
            self._prints[name] = fingerprint(value)
            self._values[name] = value
        return self._values[name]

    def unchanged(self, name: str, value: Any) -> ArtifactRef | None:
        """The inherited reference of an artifact if ``value`` is still exactly what was loaded, else None."""
        if name not in self._values or name not in self.refs or self._values[name] is not value:
            return None
        before = self._prints[name]
        return self.refs[name] if before is None or before == fingerprint(value) else None

    def missing(self, name: str) -> str:
        """Why there is no such artifact."""
        reason = f"Step '{self.step}' has no artifact '{name}'."
        if self._is_join:
            reason += " Nothing passes a join by itself: take it from `inputs`, or call self.merge_artifacts(inputs)."
        return reason

    def foreach_stack(self) -> list[tuple[int, int, Any]]:
        """Index, number of items and item of each foreach around the task, outermost first."""
        if self._items is None:
            self._items = [(frame.index, frame.size, self._item(frame)) for frame in self._stack]
        return self._items

    def _item(self, frame: Frame) -> Any:
        split = self._store.task(frame.split)
        assert split is not None
        assert split.foreach is not None
        return load_item(split.foreach, frame.index, self._store.storage)

    def merge(self, flow: FlowSpec, inputs: Any, exclude: list[str], include: list[str]) -> None:
        """Take over the artifacts on which the inputs agree."""
        from daskflow.task.merge import merged

        if not self._is_join:
            raise MergeArtifactsException(
                f"merge_artifacts is for joins; step '{self.step}' has no inputs to merge."
            )
        taken = set(vars(flow)) | set(self._base) | set(self.refs)
        self.refs.update(merged(inputs.records(), self._store, taken, exclude, include))
