"""``merge_artifacts``: which artifacts the inputs of a join agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskflow.errors import (
    MergeArtifactsException,
    MissingInMergeArtifactsException,
    UnhandledInMergeArtifactsException,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from daskflow.flow.spec import FlowSpec
    from daskflow.store.records import ArtifactRef, TaskRecord
    from daskflow.store.runs import RunStore


def records_of(inputs: Iterable[FlowSpec]) -> Iterator[TaskRecord]:
    """The outcomes of tasks that a join takes from, in their order.

    Raises :class:`MergeArtifactsException` if one is not an input of a join.
    """
    for one in inputs:
        record = getattr(getattr(one, "__daskflow_task__", None), "record", None)
        if record is None:
            raise MergeArtifactsException(
                f"merge_artifacts takes the join's `inputs`, or some of them; {type(one).__name__} is none."
            )
        yield record


def merged(
    records: Iterable[TaskRecord],
    store: RunStore,
    taken: set[str],
    exclude: Sequence[str],
    include: Sequence[str],
) -> dict[str, ArtifactRef]:
    """References to the artifacts on which all inputs that have them agree.

    Identities are compared first; where they differ, the values.

    Parameters
    ----------
    records
        The inputs.
    store
        Where their values are.
    taken
        Names that the join has set already, or that every task has.
    exclude, include
        Names to leave out, or the only names to take.

    Raises
    ------
    MergeArtifactsException
        if both ``exclude`` and ``include`` are given.
    MissingInMergeArtifactsException
        if no input has an artifact of ``include``.
    UnhandledInMergeArtifactsException
        if inputs disagree.
    """
    if exclude and include:
        raise MergeArtifactsException("merge_artifacts takes `exclude` or `include`, not both.")
    offers: dict[str, dict[str, ArtifactRef]] = {}
    for record in records:
        for name, ref in record.artifacts.items():
            offers.setdefault(name, {}).setdefault(ref.hash, ref.inherited(record.name))
    missing = [name for name in include if name not in offers and name not in taken]
    if missing:
        raise MissingInMergeArtifactsException(
            f"No input has {_names(missing)}, which merge_artifacts(include=...) asks for.", missing
        )
    wanted = [
        name for name in (include or offers) if name in offers and name not in taken and name not in exclude
    ]
    conflicts = [name for name in wanted if not _agree(name, list(offers[name].values()), store)]
    if conflicts:
        raise UnhandledInMergeArtifactsException(
            f"The inputs disagree on {_names(conflicts)}. Set each of them on self before merge_artifacts, "
            "or leave them out with exclude=[...].",
            conflicts,
        )
    return {name: next(iter(offers[name].values())) for name in wanted}


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _agree(name: str, refs: list[ArtifactRef], store: RunStore) -> bool:
    """Whether references of different identity stand for equal values."""
    if len(refs) == 1:
        return True
    if len({ref.type for ref in refs}) > 1:
        return False
    first, *others = (store.load(name, ref) for ref in refs)
    return all(_equal(first, other) for other in others)


def _equal(a: Any, b: Any) -> bool:
    """Equality that only a plain True proves: what can't say so counts as different."""
    try:
        if hasattr(a, "equals"):  # tables: pandas, polars, pyarrow
            return a.equals(b) is True
        return (a == b) is True
    except Exception:  # noqa: BLE001 - a user's __eq__ may raise anything
        return False
