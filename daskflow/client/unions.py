"""The tables of all tasks of a step under one name as one, with ``run``, ``task`` and ``index`` in front."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskflow.client.rows import committed_alone, index_of, names_in
from daskflow.errors import DataException, DataMissing
from daskflow.store.records import ArtifactRef
from daskflow.store.retries import retried
from daskflow.store.tables import fragments, pieces, schema_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import pyarrow as pa
    import pyarrow.dataset as ds

    from daskflow.store.runs import RunStore
    from daskflow.store.storage import Storage


@dataclass(frozen=True)
class Part:
    """The table of one task, or a partition of it: a file, a row group of one, or a pickle."""

    run: int
    task: str
    index: int | None
    ref: ArtifactRef


TAGS = ("run", "task", "index")
"""The columns in front."""


def shown(column: str) -> str:
    """The name of a table's own column, with an underscore more if it is called as one of :data:`TAGS`."""
    return f"{column}_" if column.rstrip("_").lower() in TAGS else column


def free_name(name: str, taken: set[str]) -> str:
    """A name that SQL, to which capitals are the same, does not know yet; it does from now on. For no name it is ``_``."""
    name = name or "_"
    while name.lower() in taken:
        name += "_"
    taken.add(name.lower())
    return name


def union_of(
    stores: list[RunStore],
    step: str,
    wanted: Collection[str],
    *,
    others: bool = False,
) -> Iterator[tuple[str, pa.Table | ds.Dataset]]:
    """The tables of a step, by their names: those of the artifacts, such that SQL can tell them apart.

    Where a table has a column of its own with the name of one of :data:`TAGS`, the column in front is called ``__run`` and
    so on.

    Parameters
    ----------
    stores
        The runs.
    step
        The step.
    wanted
        Names of tables in small letters.
    others
        Whether all others are wanted too, for the sake of their names: of one that can't be had only the columns in front.

    Raises :class:`DataException` if the tables of different tasks do not go together, or one that is wanted by its name
    is a pickle in some of the tasks, or in all; :class:`DataMissing` if a file is gone or damaged.
    """
    artifacts = None if others else {name.rstrip("_") for name in wanted}
    parts: dict[str, list[Part]] = defaultdict(list)
    for store in stores:
        for name, part in _parts(store, step, artifacts):
            parts[name].append(part)
    taken: set[str] = set()
    served: set[str] = set()
    for artifact in sorted(parts):
        tables = [part for part in parts[artifact] if part.ref.encoding == "parquet"]
        if not tables:
            continue
        name = free_name(artifact, taken)
        served.add(name.lower())
        if name.lower() in wanted:
            _refuse_pickles(f"{step}.{name}", parts[artifact])
            yield name, _union(f"{step}.{name}", stores[0].storage, tables)
        elif others:
            try:
                yield name, _union(f"{step}.{name}", stores[0].storage, tables)
            except (DataException, DataMissing):
                yield name, _front(_tags(tables)).empty_table()
    for artifact in sorted(parts):
        if artifact.lower() in wanted and artifact.lower() not in served:
            _refuse_pickles(f"{step}.{artifact}", parts[artifact])


def _refuse_pickles(name: str, parts: list[Part]) -> None:
    """Raises :class:`DataException` if there is one: its rows would be missing."""
    pickles = {
        (part.run, part.task): part.ref.info.get("why") for part in reversed(parts) if _is_pickle(part)
    }
    if not pickles:
        return
    (run, task), why = list(pickles.items())[-1]
    count = len({(part.run, part.task) for part in parts})
    raise DataException(
        f"The rows of {name} are not all to be had: of {count} tasks {len(pickles)} set a pickle, the first of them "
        f"{run}/{name.partition('.')[0]}/{task}, because {why}. Choose runs with --run, or read it with .data."
    )


def _is_pickle(part: Part) -> bool:
    return part.ref.encoding == "pickle"


def _parts(store: RunStore, step: str, wanted: Collection[str] | None) -> Iterator[tuple[str, Part]]:
    """What has the rows of a step's artifacts: of those with names, in small letters and but for underscores, or of all."""
    run = int(store.run)

    def is_wanted(name: str) -> bool:
        return not name.startswith("_") and (wanted is None or name.lower().rstrip("_") in wanted)

    for record in committed_alone(store, step):
        for name, ref in record.artifacts.items():
            for piece in pieces(ref) if is_wanted(name) else ():
                yield name, Part(run, record.task, index_of(record), piece)
    for chunk in store.chunks_seen(step):
        for name in filter(is_wanted, names_in(chunk)):
            for place, task in enumerate(chunk.tasks.part(0, len(chunk.each)).names()):
                found = chunk.ref(place, name)
                for piece in pieces(ArtifactRef.of_json(found)) if found is not None else ():
                    yield name, Part(run, task.task_id, chunk.tasks.first + place, piece)


def _union(name: str, storage: Storage, parts: list[Part]) -> pa.Table | ds.Dataset:
    import pyarrow as pa
    import pyarrow.dataset as ds

    tags = _tags(parts)
    own = [part for part in parts if part.ref.info.get("row_group") is None]
    found = fragments(storage, [(part.ref, _expression(part, tags)) for part in own])
    examples = {_kind(part): fragment for part, fragment in zip(own, found, strict=True)}
    shared = _read_shared(storage, parts, tags)
    schemas = [*map(schema_of, examples.values()), *(each.schema for each in shared)]
    try:
        schema = pa.unify_schemas(
            [_front(tags), *(each.remove_metadata() for each in schemas)], promote_options="permissive"
        )
        schema = without_nanoseconds(schema)
        tables = pa.concat_tables([schema.empty_table(), *shared], promote_options="permissive").cast(schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataException(
            f"The tables {name} of different tasks do not go together: {error} Choose runs with --run."
        ) from error
    if not found:
        return tables
    files = ds.FileSystemDataset(found, schema, found[0].format, found[0].filesystem)
    return ds.UnionDataset(schema, [files, ds.InMemoryDataset(tables)]) if shared else files


def without_nanoseconds(schema: pa.Schema) -> pa.Schema:
    """A schema as SQL can have it without a loss: DuckDB's intervals have microseconds, so nanoseconds are whole numbers."""
    import pyarrow as pa

    for place, field in enumerate(schema):
        if field.type == pa.duration("ns"):
            schema = schema.set(place, field.with_type(pa.int64()))
    return schema


def _front(tags: dict[str, str]) -> pa.Schema:
    """The columns in front."""
    import pyarrow as pa

    return pa.schema([(tags["run"], pa.int64()), (tags["task"], pa.string()), (tags["index"], pa.int64())])


def _tags(parts: list[Part]) -> dict[str, str]:
    """How the columns in front are called."""
    own = {name.lower() for part in parts for name, _ in part.ref.info["schema"]}
    return {tag: f"__{tag}" if tag in own else tag for tag in TAGS}


def _kind(part: Part) -> str:
    """The same for files that have the same columns."""
    return json.dumps([part.ref.type, part.ref.info["schema"]])


def _expression(part: Part, tags: dict[str, str]) -> Any:
    """What holds for all rows of a task's table."""
    import pyarrow.dataset as ds

    found = (ds.field(tags["run"]) == part.run) & (ds.field(tags["task"]) == part.task)
    return found if part.index is None else found & (ds.field(tags["index"]) == part.index)


def _read_shared(storage: Storage, parts: list[Part], tags: dict[str, str]) -> list[pa.Table]:
    """The tables that stand in files with others, a file at a time: they are small."""
    files: dict[str, list[Part]] = defaultdict(list)
    for part in parts:
        if part.ref.info.get("row_group") is not None:
            files[str(part.ref.path)].append(part)
    return [_read_parts(storage, each, tags) for each in files.values()]


def _read_parts(storage: Storage, parts: list[Part], tags: dict[str, str]) -> pa.Table:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from daskflow.store.serializers.arrow_files import arrow_file
    from daskflow.store.serializers.parquet import undamaged

    groups = [part.ref.info["row_group"] for part in parts]

    path = str(parts[0].ref.path)

    def read() -> pa.Table:
        try:
            with storage.open(path) as opened, undamaged():
                return pq.ParquetFile(arrow_file(opened)).read_row_groups(groups)
        except DataMissing as error:
            raise DataMissing(f"{storage.locate(path)}: {error.message}") from error

    table = retried(read).replace_schema_metadata(None)
    counts = [part.ref.info["rows"] for part in parts]
    places = pa.array(np.repeat(np.arange(len(parts)), counts))
    front = {
        tags["run"]: pa.array([part.run for part in parts], pa.int64()),
        tags["task"]: pa.array([part.task for part in parts], pa.string()),
        tags["index"]: pa.array([part.index for part in parts], pa.int64()),
    }
    fields = {name: values.take(places) for name, values in front.items()}
    return pa.table(fields | dict(zip(table.column_names, table.columns, strict=True)))
