"""A run as its store has it, told as events: what is there, and at each further look what has come since."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from daskflow.client.frames import FACTS
from daskflow.client.index import read_index
from daskflow.client.rows import facts_in, facts_of
from daskflow.dashboard.events import Committed, Failed, Planned, Started, Told
from daskflow.dashboard.heads import caught, error_of, head_of, shown
from daskflow.dashboard.task_rows import LONGEST_TEXT
from daskflow.errors import DamagedRecord, DaskflowException, NotFound, StoreError
from daskflow.pathspec import TaskName, TaskRange, natural_order
from daskflow.store.layout import PARAMETERS, began_at
from daskflow.store.records import TaskRecord
from daskflow.store.round_trips import at_once
from daskflow.store.runs import is_task_id
from daskflow.task.spec import was_stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from daskflow.dashboard.events import Event
    from daskflow.store.chunks import Chunk
    from daskflow.store.runs import RunStore

BATCH = 200
"""Tasks that are told of at once."""
T = TypeVar("T")
_MALFORMED = (KeyError, ValueError, TypeError, AttributeError, IndexError)


class Follower:
    """Tells what a run's store has.

    Parameters
    ----------
    store
        The run.
    tell
        Hears each event, in the thread that looks.

    Attributes
    ----------
    is_over
        Whether at the last look nobody drove the run.
    is_gone
        Whether it was not there any more.
    """

    def __init__(self, store: RunStore, tell: Callable[[Event], None]) -> None:
        self._store = store
        self._tell = tell
        self._graph = _Graph({})
        self._planned: Counter[str] = Counter()
        self._done: dict[str, set[str]] = {}
        self._joined: set[tuple[str, str]] = set()
        self._chunks: set[TaskRange] = set()
        self._seen: set[tuple[str, str]] = set()
        self._damaged: dict[str, str] = {}
        self._told: dict[str, Any] = {}
        self._settled: set[str] = set()
        self._has_origin = True
        self._nothing_follows = False
        self.is_over = self.is_gone = False
        self._has_all = False
        self._may_come = False

    def look(self) -> None:
        """Tell what is there that was not told yet. What is damaged is told of, and left out."""
        try:
            head = head_of(self._store)
        except NotFound:
            self.is_over = self.is_gone = True
            return
        except (DaskflowException, *_MALFORMED) as error:
            self.is_over = True
            text = getattr(error, "message", f"The run's record is damaged: {error!r}.")
            self._say({"status": "damaged", "reason": text, "damaged": [text]})
            return
        over = head["status"] != "running"
        if (
            over
            and self._has_all
            and all(self._told.get(name) == head[name] for name in ("status", "finished"))
        ):
            self._say(head | {"damaged": list(self._damaged.values())})
            return
        last = {name: head.pop(name) for name in ("status", "finished")}
        self._say(head if over else head | {"status": last["status"]})
        self._nothing_follows = last["status"] == "successful"
        self._may_come = False
        self._look_at_tasks()
        self._say(last | {"damaged": list(self._damaged.values())})
        self.is_over, self._has_all = over, over and not self._may_come

    def _say(self, facts: dict[str, Any]) -> None:
        new = {
            name: fact for name, fact in facts.items() if name not in self._told or self._told[name] != fact
        }
        if new:
            self._told |= new
            self._tell(Told(new))

    def _look_at_tasks(self) -> None:
        if not self._graph.steps:
            self._tried("graph", self._read_graph)
        for step in list(self._graph.steps) or self._unordered():
            if step not in self._settled:
                self._tried(f"step {step}", partial(self._look_at, step))
        if self._has_origin:
            self._has_origin = not self._tried("origin", self._take_over)

    def _unordered(self) -> list[str]:
        """The steps of a run whose graph can't be read."""
        return sorted(name for name in self._store.steps() if name != PARAMETERS.step)

    def _read_graph(self) -> bool:
        record = self._store.task(PARAMETERS)
        if record is None:  # it is about to start, or never did
            return False
        graph = record.artifacts["_graph_info"]
        if graph.encoding != "json":
            raise ValueError("the graph is not JSON")
        self._graph = _Graph(self._store.load("_graph_info", graph)["steps"])
        wanted = self._store.record().get("parameters") or ()
        parameters = {name: shown(record.artifacts[name]) for name in wanted if name in record.artifacts}
        self._tell(Told({"parameters": parameters, "steps": list(self._graph.steps.values())}))
        for start in list(self._graph.steps)[:1]:
            self._plan(Counter({start: 1}))
        return True

    def _look_at(self, step: str) -> None:
        names = self._store.chunks.look(step)
        for tasks in self._store.chunks.ranges(step):
            if tasks not in self._chunks:
                self._tried(f"chunk {tasks}", partial(self._read_chunk, tasks))
        done = self._done.setdefault(step, set())
        left = sorted((name for name in names if is_task_id(name) and name not in done), key=natural_order)
        if (
            self._store.storage.remote
            and self._nothing_follows
            and len(left) > 1
            and self._graph.is_indexed(step)
        ):
            self._tried(f"index of {step}", lambda: self._read_index(step, left))
        for batch in _batches(task for task in left if task not in done):
            self._read_alone(step, batch)
        if len(done) >= self._planned[step] > 0 and self._graph.before(step) <= self._settled:
            self._settled.add(step)

    def _read_index(self, step: str, ids: list[str]) -> None:
        """Tell of tasks that the step's index has: one request where each record would take one."""
        known = read_index(self._store, step)
        rows = [known[task] for task in ids if task in known]
        if not rows:
            return
        sample = self._store.committed_alone(TaskName(step, rows[0]["task"]))
        frames = [frame for frame in (sample.stack if sample else ()) if frame["kind"] == "foreach"][-1:]
        for batch in _batches(rows):
            columns = {name: [row.get(name) for row in batch] for name in FACTS if name in batch[0]}
            tasks = [str(row["task"]) for row in batch]
            if frames:
                split = TaskName.of(frames[0]["split"]).step
                columns["value"] = self._texts([_key(split, task) for task in tasks])
            self._tell(Committed(step, columns))
            self._done[step].update(tasks)

    def _read_chunk(self, tasks: TaskRange) -> None:
        chunk = self._store.chunks.read(tasks)
        if chunk is not None:
            self._tell_chunk(chunk, reused=False)
            self._chunks.add(tasks)

    def _tell_chunk(self, chunk: Chunk, *, reused: bool) -> None:
        if not chunk.each:
            return
        columns, count, step = facts_in(chunk), len(chunk.each), chunk.tasks.step
        stack = chunk.stack(0)
        foreach = [frame for frame in stack if frame.kind == "foreach"][-1:]
        columns["value"] = [None] * count
        for frame in foreach:
            columns["value"] = self._items(frame.split, frame.index, count)
        ways = [chunk.fact(place, "transition") or {} for place in range(count)]
        columns["to"] = list(map(_chosen, ways))
        self._tell(Committed(step, columns, "" if reused else chunk.tasks.name().task_id, reused))
        self._done.setdefault(step, set()).update(columns["task"])
        following: Counter[str] = Counter()
        for place, way in enumerate(ways):
            kind = stack[-1].kind if stack else ""
            following += self._following(columns["task"][place], way, kind, chunk.fact(place, "foreach"))
        self._plan(following - Counter(), fewer=(step, count) if reused else None)

    def _read_alone(self, step: str, ids: Iterable[str]) -> None:
        found = self._each(self._store.committed_alone, [TaskName(step, task) for task in ids])
        for name, record in found:
            if record is None or record.attempt:
                self._tried(f"attempts of {name}", partial(self._tell_attempts, name, record))
        self._tell_alone([record for _, record in found if record is not None], reused=False)

    def _tell_alone(self, records: list[TaskRecord], *, reused: bool) -> None:
        """Tasks of one step that are committed each for itself."""
        if not records:
            return
        step = records[0].step
        rows = list(map(facts_of, records))
        columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
        columns["value"] = self._values(records)
        columns["to"] = [_chosen(record.transition or {}) for record in records]
        columns["caught"] = list(map(caught, records))
        self._tell(Committed(step, columns, "", reused))
        self._done.setdefault(step, set()).update(columns["task"])
        following: Counter[str] = Counter()
        for record in records:
            kind = str(record.stack[-1]["kind"]) if record.stack else ""
            following += self._following(record.task, record.transition or {}, kind, record.foreach)
        self._plan(following, fewer=(step, len(records)) if reused else None)

    def _tell_attempts(self, name: TaskName, committed: TaskRecord | None) -> None:
        """Attempts of a task that failed, and the one that runs."""
        executions = self._store.executions(name)
        for execution in executions:
            if (str(name), execution) in self._seen:
                continue
            data = self._store.read(self._store.layout.attempt(name, execution))
            if data is not None:
                record = TaskRecord.of_json(data)
                again = committed is not None or execution != executions[-1]
                self._tell(_failure(record, again, self._values([record])[0]))
                self._seen.add((str(name), execution))
            elif (
                committed is None
                and execution == executions[-1]
                and (str(name), f"{execution}+") not in self._seen
            ):
                self._seen.add((str(name), f"{execution}+"))
                attempt, at = int(execution.partition(".")[0]), began_at(execution) or 0.0
                split = self._graph.split_before(name.step)
                (value,) = self._texts([_key(split, name.task_id) if split else None])
                self._tell(Started(name.step, name.task_id, 1, at, "", 0, attempt, value))

    def _take_over(self) -> bool:
        """Tell what a resumed run took over; that never changes."""
        origin = self._store.origin
        for tasks in origin.tasks.ranges() if origin is not None else ():
            if tasks.step != PARAMETERS.step:
                self._tried(f"origin {tasks}", partial(self._tell_taken, tasks))
        return True

    def _tell_taken(self, tasks: TaskRange) -> None:
        alone = []
        for piece, chunk in self._store.pieces(tasks):
            if chunk is None:
                alone.append(piece.name())
            else:
                self._tell_chunk(chunk.part(piece), reused=True)
        for batch in _batches(alone):
            found = self._each(self._store.alone, batch)
            self._tell_alone([record for _, record in found if record is not None], reused=True)

    def _plan(self, following: Counter[str], fewer: tuple[str, int] | None = None) -> None:
        for step, count in following.items():
            self._planned[step] += count
            self._tell(Planned(step, count))
        if fewer:  # what a run took over counts by itself
            self._tell(Planned(fewer[0], -fewer[1]))

    def _following(
        self, task: str, way: dict[str, Any], kind: str, foreach: dict[str, Any] | None
    ) -> Counter[str]:
        """How many tasks are known to follow one; a join is, once for all that it joins."""
        found: Counter[str] = Counter()
        for to in way.get("targets", ()):
            if to in self._graph.joins:
                base, _, iteration = task.partition(".")
                joined = base.rpartition("-")[0] if kind == "foreach" else f"{base}.{iteration}"
                if (to, joined) in self._joined:
                    continue
                self._joined.add((to, joined))
            found[to] += int(foreach["size"]) if foreach else 1
        return found

    def _values(self, records: list[TaskRecord]) -> list[str | None]:
        """The items of tasks that each have a record; neighbours of one foreach are read at once."""
        frames = [[frame for frame in record.stack if frame["kind"] == "foreach"][-1:] for record in records]
        return self._texts([(str(f[0]["split"]), int(f[0]["index"])) if f else None for f in frames])

    def _texts(self, keys: Sequence[tuple[str, int] | None]) -> list[str | None]:
        texts: dict[tuple[str, int], str | None] = {}
        for split, first, count in _neighbours(sorted({key for key in keys if key is not None})):
            items = self._items(TaskName.of(split), first, count)
            texts |= {(split, first + place): item for place, item in enumerate(items)}
        return [None if key is None else texts.get(key) for key in keys]

    def _items(self, split: TaskName, first: int, count: int) -> list[str | None]:
        def read() -> list[str | None]:
            record = self._store.task(split)
            if record is None or record.foreach is None:
                raise ValueError("there are no items")
            return list(self._store.items.texts(record.foreach, first, count, LONGEST_TEXT))

        return self._tried(f"items of {split}", read) or [None] * count

    def _tried(self, what: str, read: Callable[[], Any]) -> Any:
        """What ``read`` returns; None if what it reads is damaged, which is noted."""
        try:
            found = read()
        except DaskflowException as error:
            self._damaged[what] = error.message
            if isinstance(error, StoreError) and not isinstance(error, DamagedRecord):
                self._may_come = True
        except _MALFORMED as error:
            self._damaged[what] = f"{what} of {self._store.flow}/{self._store.run} can't be read: {error!r}."
        else:
            self._damaged.pop(what, None)
            return found
        return None

    def _each(
        self, read: Callable[[TaskName], TaskRecord | None], names: Sequence[TaskName]
    ) -> list[tuple[TaskName, TaskRecord | None]]:
        """The records of tasks, None for one that has none; what is damaged is noted and left out."""

        def one(name: TaskName) -> tuple[TaskName, TaskRecord | None] | None:
            return self._tried(str(name), lambda: (name, read(name)))  # type: ignore[no-any-return]

        return [found for found in at_once(self._store.storage, one, names) if found is not None]


class _Graph:
    """What of a flow's graph it takes to know what follows."""

    def __init__(self, steps: dict[str, dict[str, Any]]) -> None:
        self.steps = {name: {"name": name} | step for name, step in steps.items()}
        self.joins = {step["matching_join"] for step in steps.values() if step.get("matching_join")}
        self._before: dict[str, set[str]] = {}
        for name, step in steps.items():
            for to in step.get("next", ()):
                self._before.setdefault(to, set()).add(name)

    def is_indexed(self, step: str) -> bool:
        """Whether an index has all that is told of a step: no switch, nothing that repeats itself, no failure that was caught."""
        found = self.steps.get(step, {})
        catches = any(each.get("name") == "catch" for each in found.get("decorators", ()))
        is_plain = found.get("type") != "switch" and step not in found.get("next", ())
        return bool(found) and is_plain and not catches

    def split_before(self, step: str) -> str | None:
        """The step whose items are those of a step's tasks; None if there is none right before it."""
        splits = [name for name in self.before(step) if self.steps[name].get("type") == "foreach"]
        return splits[0] if len(splits) == 1 else None

    def before(self, step: str) -> set[str]:
        """The steps after which a step may come, but for itself."""
        return self._before.get(step, set()) - {step}


def _key(split: str, task: str) -> tuple[str, int]:
    """Where the item of a task is, whose step follows a step that splits: the task that split, and the place."""
    outer, _, index = task.partition(".")[0].rpartition("-")
    return f"{split}/{outer or 0}", int(index)


def _batches(names: Iterable[T]) -> Iterator[list[T]]:
    left = iter(names)
    while batch := list(islice(left, BATCH)):
        yield batch


def _chosen(way: dict[str, Any]) -> str | None:
    return str(way["targets"][0]) if way.get("kind") == "switch" else None


def _failure(record: TaskRecord, again: bool, value: str | None) -> Failed:
    facts = facts_of(record)
    return Failed(
        record.step,
        record.task,
        record.attempt,
        error_of(record),
        facts["started"].timestamp(),
        record.seconds,
        str(facts["worker"] or ""),
        again,
        was_stopped(record),
        value=value,
        cpu_seconds=facts["cpu_seconds"],
        peak_memory=facts["peak_memory"],
        pid=facts["pid"] or 0,
    )


def _neighbours(keys: list[tuple[str, int]]) -> Iterator[tuple[str, int, int]]:
    """Sorted places as runs of neighbours: where, the first of them, and how many."""
    start = 0
    for end in range(1, len(keys) + 1):
        if end == len(keys) or keys[end] != (keys[end - 1][0], keys[end - 1][1] + 1):
            yield (*keys[start], end - start)
            start = end
