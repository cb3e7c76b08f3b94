"""One run in the store: its record, its tasks' records, its artifacts' values."""

from __future__ import annotations

import io
import os
import re
import secrets
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from daskflow.errors import (
    DamagedRecord,
    DamagedRecordWarning,
    DaskflowException,
    DataException,
    DataMissing,
    NotFound,
    StoreError,
)
from daskflow.pathspec import TaskName, TaskRange, TaskSet, natural_order
from daskflow.store import packages, records
from daskflow.store.chunks import Chunks
from daskflow.store.items import Items
from daskflow.store.layout import NOT_STEPS, PARAMETERS, Layout, chunk_of, part_of_plan
from daskflow.store.records import ArtifactRef, TaskRecord
from daskflow.store.retries import retried
from daskflow.store.serializers import decode
from daskflow.store.serializers.base import Folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from daskflow.store.chunks import Chunk
    from daskflow.store.serializers.parquet import RowGroup
    from daskflow.store.storage import Storage

MOST_READ_AHEAD = 1 << 30
"""Bytes of a table's file that are fetched as a whole where a read takes a round trip."""
MAX_REMEMBERED = 10_000
"""Records that a run's store keeps at hand, some 5 kB each; a run may have a hundred thousand."""


class _RunRecord(dict[str, Any]):
    """The content of a ``run.json`` that says which file it is if something is missing."""

    def __init__(self, data: dict[str, Any], where: str) -> None:
        super().__init__(data)
        self._where = where

    def __missing__(self, key: str) -> Any:
        raise DamagedRecord(f"{self._where} is damaged: '{key}' is missing.")


@dataclass(frozen=True)
class Taken:
    """What a resumed run took over from another run of its flow."""

    store: RunStore
    tasks: TaskSet


class RunStore:
    """Everything one run has in the store.

    Attributes
    ----------
    when_committed
        Called with each record that this object commits to a remote storage, in the thread that does so.
    """

    def __init__(self, storage: Storage, flow: str, run: str) -> None:
        self.storage = storage
        self.flow = flow
        self.run = run
        self.layout = Layout(flow, run)
        self.chunks = Chunks(storage, self.layout)
        self.items = Items(storage)
        self.when_committed: Callable[[TaskRecord], None] = lambda _: None
        self._committed: dict[TaskName, TaskRecord] = {}
        self._parts_of_plan: dict[str, int] = {}
        self._plan_of_others: dict[str, list[TaskRange]] = {}

    @cached_property
    def origin(self) -> Taken | None:
        """The run that this one resumes, and which of its tasks it took over; None if it resumes none."""
        taken = self.record().get("origin")
        if taken is None:
            return None
        return Taken(RunStore(self.storage, self.flow, taken["run"]), TaskSet.of_json(taken["tasks"]))

    def record(self) -> dict[str, Any]:
        """The content of ``run.json``.

        Raises :class:`NotFound` if there is no such run.
        """
        try:
            raw = self.storage.read(self.layout.run_record)
        except FileNotFoundError:
            raise NotFound(f"Run '{self.flow}/{self.run}' does not exist in {self.storage.url}.") from None
        where = self.storage.locate(self.layout.run_record)
        data = records.decode(raw, where)
        try:
            records.check_run(data)
        except ValueError as error:
            raise DamagedRecord(f"{where} is damaged: {error}.") from error
        return _RunRecord(data, where)

    def code(self, snapshot: int = 0) -> dict[str, Any]:
        """What is recorded of the code with which driver session ``snapshot`` started or went on.

        Raises :class:`StoreError` if that record is missing.
        """
        if not snapshot:
            return dict(self.record()["code"])
        path = self.layout.driver(snapshot)
        data = self.read(path)
        if data is None or "code" not in data:
            raise StoreError(
                f"{self.storage.locate(path)}, which tells the run's code, is missing or damaged."
            )
        return dict(data["code"])

    def source(self, path: str, snapshot: int = 0) -> bytes:
        """A file of the run's code. Raises :class:`StoreError` if it is missing."""
        place = self.layout.code(path, snapshot)
        try:
            return self.storage.read(place)
        except FileNotFoundError:
            raise StoreError(f"{self.storage.locate(place)}, part of the run's code, is missing.") from None

    def sources(self, snapshot: int = 0, told: dict[str, Any] | None = None) -> dict[str, bytes]:
        """All files that are kept of the run's code, of which ``told`` is recorded if that is known, by path.

        Raises :class:`StoreError` if one is missing or damaged.
        """
        return dict(self.package(snapshot, told).files)

    def package(self, snapshot: int = 0, told: dict[str, Any] | None = None) -> packages.Package:
        """The same with what of it may be executed, which is known of what travelled to workers elsewhere.

        Raises :class:`StoreError` if a file is missing or damaged.
        """
        told = told or self.code(snapshot)
        if "package" in told:
            return packages.read(self.storage, self.layout, told["package"])
        return packages.Package({path: self.source(path, snapshot) for path in told["files"]})

    def read(self, path: str) -> dict[str, Any] | None:
        """The record at ``path``, None if there is none. Raises :class:`DamagedRecord` if it is."""
        try:
            raw = self.storage.read(path)
        except FileNotFoundError:
            return None
        return records.decode(raw, self.storage.locate(path))

    def task(self, name: TaskName) -> TaskRecord | None:
        """The commit of a task, None if it has none. Raises :class:`DamagedRecord` if it is."""
        record = self._committed.get(name)
        if record is None:
            record = self._read_task(name)
            if record is not None:
                self.remember(record)
        return record

    def remember(self, record: TaskRecord) -> None:
        """Know a commit without reading it."""
        if len(self._committed) >= MAX_REMEMBERED:
            self._committed.clear()
        self._committed[record.name] = record

    def _read_task(self, name: TaskName) -> TaskRecord | None:
        """First where it was looked before: of a wide foreach most tasks are in chunks, of other steps none is."""
        if not is_task_id(name.task_id):
            return None
        if self.chunks.looked(name.step) and (record := self._of_chunk(name)) is not None:
            return record
        record = self.committed_alone(name)
        if record is None and self.origin is not None and name in self.origin.tasks:
            record = self.origin.store.task(name)
        if record is None:
            self.chunks.look(name.step)
            record = self._of_chunk(name)
        return record

    def _of_chunk(self, name: TaskName) -> TaskRecord | None:
        found = self.chunks.holding(name)
        return None if found is None else found[0].record(found[1])

    def pieces(self, tasks: TaskRange) -> Iterator[tuple[TaskRange, Chunk | None]]:
        """Committed tasks with the chunks that have their records; those that are in none come one by one, with None."""
        if not self.chunks.looked(tasks.step):
            self.chunks.look(tasks.step)
        for piece, chunk in self.chunks.pieces(tasks):
            if chunk is None and self.origin is not None and piece.name() in self.origin.tasks:
                yield from self.origin.store.pieces(piece)
            else:
                yield piece, chunk

    def committed_alone(self, name: TaskName) -> TaskRecord | None:
        """The commit of a task that has one for itself in this very run. Raises as :meth:`task`."""
        return self._task_record(self.layout.commit(name))

    def plan(self, step: str) -> list[TaskRange]:
        """How the items of foreaches that begin with a step are cut, as far as that is decided: chunks and single tasks."""
        names = self.storage.names(self.layout.step(step))
        parts = {number for name in names if (number := part_of_plan(name)) is not None}
        for number in range(self._parts_of_plan.get(step, 0), max(parts, default=-1) + 1):
            if number in parts:
                self._read_part_of_plan(step, number)
        begun = [tasks for name in names if (tasks := chunk_of(step, name))]
        begun += [TaskRange.of(f"{step}/{name}") for name in names if is_task_id(name)]
        return _with_begun(self.plan_of_others(step), begun)

    def plan_of_others(self, step: str) -> list[TaskRange]:
        """Of that, what was read so far and not written by this very object."""
        return self._plan_of_others.get(step, [])

    def extend_plan(self, step: str, ranges: Sequence[TaskRange]) -> Sequence[TaskRange]:
        """Decide how items go on that :meth:`plan` does not have; another driver may have decided first.

        Returns what is decided now: ``ranges``, or what the other said.
        """
        number = self._parts_of_plan.get(step, 0)
        data = {
            "format": records.FORMAT,
            "token": secrets.token_hex(8),
            "items": [each.ids for each in ranges],
        }
        if not self.storage.create(self.layout.plan(step, number), records.encode(data)):
            return self._read_part_of_plan(step, number)
        self._parts_of_plan[step] = number + 1
        return ranges

    def _read_part_of_plan(self, step: str, number: int) -> list[TaskRange]:
        found = self._part_of_plan(step, number)
        self._parts_of_plan[step] = number + 1
        self._plan_of_others.setdefault(step, []).extend(found)
        return found

    def _part_of_plan(self, step: str, number: int) -> list[TaskRange]:
        path = self.layout.plan(step, number)
        data = self.read(path)
        try:
            if data is None:
                raise ValueError("it has gone")
            return [TaskRange.of_ids(step, ids) for ids in data["items"]]
        except (KeyError, ValueError, TypeError) as error:
            raise DamagedRecord(f"{self.storage.locate(path)} is damaged: {error}.") from error

    def _task_record(self, path: str) -> TaskRecord | None:
        data = self.read(path)
        if data is None:
            return None
        try:
            return TaskRecord.of_json(data)
        except ValueError as error:
            raise DamagedRecord(f"{self.storage.locate(path)} is damaged: {error}.") from error

    def commit(self, record: TaskRecord) -> TaskRecord:
        """Publish a task's outcome; returns the record that counts, which is another's if that one came first.

        That a record exists does not mean ours lost: a retried request reports it to the winner too. So it is read.
        """
        path = self.layout.commit(record.name)
        if self.storage.create(path, records.encode(record.to_json())):
            if (
                self.storage.remote
            ):  # else it is cheap to read, and who commits a hundred thousand reads hardly any
                self.remember(record)
                self.when_committed(record)
            return record
        winner = self.task(record.name)
        if winner is None:
            raise DataMissing(f"{self.storage.locate(path)} exists and can't be read.")
        return winner

    def steps(self) -> list[str]:
        """Names of the steps that have tasks, ``_parameters`` included, in no particular order."""
        own = [
            name
            for name in self.storage.names(self.layout.root)
            if name.isidentifier() and (name not in NOT_STEPS or self._has_tasks(name))
        ]
        return own if self.origin is None else list({*own, *self.origin.tasks.steps})

    def _has_tasks(self, folder: str) -> bool:
        names = self.storage.names(self.layout.step(folder))
        return any(is_task_id(name) or chunk_of(folder, name) for name in names)

    def tasks(self, step: str) -> list[str]:
        """Ids of a step's tasks, finished or not, in their natural order."""
        found = set(self.tasks_alone(step))
        found.update(
            name.task_id for chunk in self.chunks_seen(step) if chunk.done for name in chunk.done.names()
        )
        return sorted(found, key=natural_order)

    def alone(self, name: TaskName) -> TaskRecord | None:
        """The commit of a task of :meth:`tasks_alone`, None if it has none. Raises :class:`DamagedRecord` if it is."""
        record = self._committed.get(name) or self.committed_alone(name)
        if record is None and self.origin is not None and name in self.origin.tasks:
            return self.origin.store.alone(name)
        return record

    def tasks_alone(self, step: str) -> list[str]:
        """Ids of a step's tasks but for those that are committed with others in a chunk."""
        folders = (name for name in self.chunks.look(step) if is_task_id(name))
        found = {name for name in folders if self.chunks.holding(TaskName(step, name)) is None}
        if self.origin is not None:
            taken = [each for each in self.origin.tasks.ranges() if each.step == step]
            pieces = (piece for each in taken for piece, chunk in self.pieces(each) if chunk is None)
            found.update(piece.name().task_id for piece in pieces)
        return sorted(found, key=natural_order)

    def chunks_of(self, step: str) -> Iterator[Chunk]:
        """The chunks of a step, as far as the run has their items."""
        self.chunks.look(step)
        return self.chunks_seen(step)

    def chunks_seen(self, step: str) -> Iterator[Chunk]:
        """Those of :meth:`chunks_of` that were there at the last look, such as that of :meth:`tasks_alone`."""
        yield from self.chunks.of(step)
        if self.origin is not None:
            for tasks in self.origin.tasks.ranges():
                if tasks.step == step:
                    pieces = self.pieces(tasks)
                    yield from (chunk.part(piece) for piece, chunk in pieces if chunk is not None)

    def executions(self, name: TaskName) -> list[str]:
        """Names of the executions that left something behind, by attempt."""
        found = [entry for entry in self.storage.names(self.layout.task(name)) if _is_execution(entry)]
        return sorted(found, key=lambda entry: (int(entry.partition(".")[0]), entry))

    def failed_attempts(self, name: TaskName) -> Iterator[TaskRecord]:
        """Records of the attempts that failed, oldest first.

        A damaged one is left out, with a :class:`DamagedRecordWarning` that names the file.
        """
        for execution in self.executions(name):
            try:
                record = self._task_record(self.layout.attempt(name, execution))
            except StoreError as error:
                warnings.warn(str(error), DamagedRecordWarning, stacklevel=2)
                continue
            if record is not None:
                yield record

    def save_attempt(self, record: TaskRecord) -> None:
        """Keep how a failed attempt ended."""
        path = self.layout.attempt(record.name, record.execution)
        self.storage.create(path, records.encode(record.to_json()))

    def parameters(self) -> TaskRecord:
        """The record of the pseudo task that every task of the run inherits from."""
        record = self.task(PARAMETERS)
        if record is None:
            raise DataMissing(f"{self.storage.locate(self.layout.commit(PARAMETERS))} is missing.")
        return record

    def graph_info(self) -> dict[str, Any]:
        """The flow's graph as the run knows it. Raises :class:`DataMissing` if the run never began."""
        info: dict[str, Any] = self.load("_graph_info", self.parameters().artifacts["_graph_info"])
        return info

    def artifacts(self, record: TaskRecord) -> dict[str, ArtifactRef]:
        """All artifacts visible after a task: the run's parameters and constants, and what its record has."""
        if record.name == PARAMETERS:
            return record.artifacts
        return self.parameters().artifacts | record.artifacts

    def resolve(self, name: str, ref: ArtifactRef) -> ArtifactRef:
        """The reference in the record of the task that set the artifact, if ``ref`` points there."""
        if ref.record is None:
            return ref
        origin = self.task(TaskName.of(ref.record))
        if origin is None or name not in origin.artifacts or origin.artifacts[name].record is not None:
            raise DataMissing(
                f"Artifact '{name}' should be in task {self.flow}/{self.run}/{ref.record}; it is not."
            )
        return origin.artifacts[name]

    def load(self, name: str, ref: ArtifactRef) -> Any:
        """The value of an artifact.

        Raises :class:`DataMissing` if its file is gone or damaged, :class:`DataException` if it can't be loaded for
        another reason, and :class:`StoreError` if the file can't be read; the first two name the artifact.
        """
        found = self.resolve(name, ref)
        return self._loaded(
            name, found, lambda: decode(found.encoding, found.info, found.inline, _File(self, found))
        )

    def load_head(self, name: str, ref: ArtifactRef, rows: int) -> Any:
        """The first rows of a table that stands in a Parquet file, as its type. Raises as :meth:`load`."""
        from daskflow.store.serializers.parquet import head
        from daskflow.store.tables import head_by_polars

        def first() -> Any:
            if ref.info["producer"].startswith("polars") and "row_group" not in ref.info:
                self.open(ref).close()  # says what is wrong with it
                return head_by_polars(self.storage, ref, rows)
            return head(ref.info, lambda: self.open(ref), rows)

        return self._loaded(name, ref, first)

    def load_group(self, name: str, ref: ArtifactRef, group: RowGroup) -> Any:
        """The rows of a row group of a table that polars did not write, as its type. Raises as :meth:`load`."""
        from daskflow.store.serializers.parquet import read_group

        return self._loaded(name, ref, lambda: read_group(ref.info, lambda: self.open(ref), group))

    def _loaded(self, name: str, found: ArtifactRef, load: Callable[[], Any]) -> Any:
        place = f" from {self.storage.locate(found.path)}" if found.path else ""
        trouble = f"Artifact '{name}' of {self.flow}/{self.run} ({found.type}) can't be loaded{place}"
        try:
            return retried(load)
        except DataMissing as error:
            raise DataMissing(f"{trouble}: {error.message}{_remedy(found)}") from error
        except DataException as error:
            raise DataException(f"{trouble}: {error.message}") from error
        except (DaskflowException, MemoryError):
            raise
        except Exception as error:  # a damaged pickle may raise anything, and so may a class that is loaded
            raise DataException(f"{trouble}: {error!r}.") from error

    def open(self, ref: ArtifactRef) -> BinaryIO:
        """The file of an artifact. Raises :class:`DataMissing` if there is none, or it is gone."""
        if ref.path is None:
            raise DataMissing("Its record holds neither the value nor a path to it.")
        try:
            file = self.storage.open(ref.path, ref.info.get("version_id"))
        except FileNotFoundError:
            raise DataMissing("There is no such file.") from None
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if ref.info.get("row_group") is None and size != ref.size:
            file.close()
            raise DataMissing(
                f"It has {size:,} bytes, and {ref.size:,} were written: it was cut off or replaced."
            )
        return file

    def open_whole(self, ref: ArtifactRef) -> BinaryIO:
        """The same, for one who will read all of it. Raises as :meth:`open`."""
        file = self.open(ref)
        if not self.storage.remote:
            return file
        whole = ref.encoding == "parquet" and ref.info.get("row_group") is None
        if whole and ref.size <= MOST_READ_AHEAD:  # at once, as all of it will be wanted
            return io.BytesIO(file.read())
        return file if ref.encoding == "parquet" else io.BufferedReader(cast("io.RawIOBase", file))


class _File:
    """The file of an artifact, or its folder, opened by whoever needs it."""

    def __init__(self, store: RunStore, ref: ArtifactRef) -> None:
        self._store = store
        self._ref = ref

    def __call__(self) -> BinaryIO:
        return self._store.open_whole(self._ref)

    def is_as_written(self) -> bool:
        """Whether the file at the place is what was written. Raises :class:`DataMissing` if there is none, or a part of it."""
        with self._store.open(self._ref) as file:
            return not getattr(file, "overwritten", False)

    @property
    def folder(self) -> Folder:
        """Where the files are of a value that has many."""
        return Folder(self._store.storage.url, str(self._ref.path))


_TASK_ID = re.compile(r"[0-9]+(-[0-9]+)*(\.[0-9]+)?")
_EXECUTION = re.compile(r"[0-9]+\.[^.]+")


def is_task_id(name: str) -> bool:
    """Whether a name in a step's folder is that of a task's folder."""
    return _TASK_ID.fullmatch(name) is not None


def _is_execution(name: str) -> bool:
    return _EXECUTION.fullmatch(name) is not None and not name.endswith(".json")


def _with_begun(plan: Sequence[TaskRange], begun: Iterable[TaskRange]) -> list[TaskRange]:
    """A plan with what was begun of parts of it that are lost, be it the last: that stays as it was cut."""
    found, decided = list(plan), TaskSet(plan)
    for tasks in sorted(begun, key=lambda tasks: -tasks.count):
        if sum(left.count for left in decided.missing(tasks)) == tasks.count:
            found.append(tasks)
            decided.add(tasks)
    return found


def _remedy(ref: ArtifactRef) -> str:
    """What to do if the file of an artifact is gone or damaged; nothing if it has none that a step wrote."""
    names = (ref.path or "").split("/")  # FLOW/RUN/STEP/...
    if len(names) < 4 or names[2].startswith("_"):
        return ""
    return f" Put the file back, or compute it anew: `resume {names[2]}`."
