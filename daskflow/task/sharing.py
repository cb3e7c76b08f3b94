"""Several items of a foreach in one process, as the worker sees it: their output apart, their outcomes in few records.

What was done is committed, whatever became of the process. An item that failed there, or took the process down, is to be
tried alone: only then it counts.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, overload

from daskflow.errors import DaskflowException
from daskflow.store.chunks import Chunk, encoded
from daskflow.store.layout import new_execution
from daskflow.store.records import TaskRecord
from daskflow.task import wire
from daskflow.task.channels import LauncherDied, TaskNotStarted
from daskflow.task.dask_client import give_back_slot, remove_scratch
from daskflow.task.devices import devices
from daskflow.task.execute import (
    LAUNCHER_DEATHS,
    cause,
    closed,
    facts_of,
    keep_failure,
    known_to,
    left_running,
    result_of,
    store_of,
)
from daskflow.task.launchers import LAUNCHERS, Launchers, RunStopped
from daskflow.task.output import Output
from daskflow.task.spec import TaskResult, TaskSpec, Together
from daskflow.task.trace import trace

if TYPE_CHECKING:
    from daskflow.pathspec import TaskRange
    from daskflow.store.records import Log
    from daskflow.store.runs import RunStore
    from daskflow.task.channels import Ended
    from daskflow.task.output import Sink

FACTS = (b'"transition"', b'"foreach"')
"""What the driver has to know of an item if it differs from the first."""
PROGRESS_SECONDS = 0.3
"""How often it is told, at most, how many items of a process are done."""
MOST_HELD = 1_000
"""Times that an item has written of which what it wrote is shown when it is done; the log has it all."""


def execute_together(work: Together, sink: Sink, launchers: Launchers = LAUNCHERS) -> list[TaskResult]:
    """Run attempts in one process, those that are not committed already; never raises for a user's failure.

    How it went is told of each task once; those that are still to be run are ``released``.
    """
    store = store_of(work.specs[0])
    looked = time.time_ns()
    results: list[TaskResult] = []
    left = list(work.specs)
    try:
        for spec in work.specs:
            found = committed(store, spec.tasks, sink)
            if found is not None:
                left.remove(spec)
                results += [replace(each, reused=each.committed) for each in found]
        if left:
            results += _run(replace(work, specs=tuple(left)), store, sink, launchers, looked)
    except RunStopped:
        results += [not_run(spec) for spec in left]
    except (LauncherDied, TaskNotStarted) as error:
        results += blamed(replace(work, specs=tuple(left)), error.message)
    except DaskflowException as error:
        results += failed(replace(work, specs=tuple(left)), error, sink)
    return results


def blamed(work: Together, why: str) -> list[TaskResult]:
    """Let the first task be tried alone, for which nothing could be done in company; the others go on as they can."""
    first, *others = work.specs
    results = _set_free(first, [first.tasks.part(0, 1), first.tasks.part(1, first.count)])
    if results[0].status == "released":
        results[0] = replace(results[0], alone=True, error=("", why))
    return results + [_result(spec.tasks, "released") for spec in others]


def failed(work: Together, error: DaskflowException, sink: Sink | None = None) -> list[TaskResult]:
    """What is said of tasks of which not even the record can be written, or the code not loaded: the first has failed."""
    first, *others = work.specs
    failure = replace(keep_failure(first.item(0), error, sink), final=work.count > 1)
    rest = [first.part(1, first.count)] if first.count > 1 else []
    return [failure, *map(not_run, [*rest, *others])]


def committed(store: RunStore, tasks: TaskRange, sink: Sink | None = None) -> list[TaskResult] | None:
    """How a chunk, or a single task, went that is committed; None if it is not."""
    found = store.committed_alone(tasks.name()) if tasks.count == 1 else store.chunks.read(tasks)
    if found is None:
        return None
    if sink is not None:
        sink.committed(found)
    return results_of(found) if isinstance(found, Chunk) else [result_of(found)]


def release(spec: TaskSpec) -> list[TaskResult]:
    """Let the items of a chunk be single tasks, unless it is committed meanwhile; how it stands then."""
    found = committed(store_of(spec), spec.tasks)
    if found is not None:
        return found
    return _set_free(spec, [spec.tasks.part(i, i + 1) for i in range(spec.count)])


def _set_free(spec: TaskSpec, rest: Sequence[TaskRange]) -> list[TaskResult]:
    """Let the items of a chunk of which none is done go on in other pieces; how it stands, if another was first.

    A single task is in no chunk, and goes on as it is.
    """
    if spec.count == 1:
        return [_result(spec.tasks, "released")]
    chunk = Chunk(spec.tasks, rest=rest)
    return results_of(store_of(spec).chunks.commit(chunk, chunk.encoded()))


def results_of(chunk: Chunk) -> list[TaskResult]:
    """What the driver needs to know of a chunk: neighbours that went the same way at once."""

    def way(place: int) -> tuple[tuple[str, ...], str, int | None]:
        transition, foreach = chunk.fact(place, "transition") or {}, chunk.fact(place, "foreach")
        targets = tuple(transition.get("targets", ()))
        return targets, transition.get("kind", ""), foreach["size"] if foreach else None

    found = []
    for (targets, kind, size), places in groupby(range(len(chunk.each)), way):
        first, *others = places
        tasks = chunk.tasks.part(first, first + 1 + len(others))
        how = {"targets": targets, "kind": kind, "size": size}
        found.append(_result(tasks, "committed", execution=chunk.execution, **how))
    return found + [_result(piece, "released") for piece in chunk.rest]


def not_run(spec: TaskSpec) -> TaskResult:
    """What is said of tasks that were not run."""
    return TaskResult(spec.name, spec.attempt, "not_run", count=spec.count)


def _result(tasks: TaskRange, status: str, **known: Any) -> TaskResult:
    return TaskResult(tasks.name(), 0, status, count=tasks.count, **known)


def _run(work: Together, store: RunStore, sink: Sink, launchers: Launchers, looked: int) -> list[TaskResult]:
    policy = work.specs[0].node.policy
    for deaths in range(LAUNCHER_DEATHS):
        launcher = launchers.start(work.specs[0].run, policy.environment, sink.notice)
        heard = _Heard(work, store, sink)
        try:
            launchers.describe(launcher, sink)
            with devices().lent(policy.gpu) as lent:
                known = known_to(heard.work.specs[0], store)
                specs = tuple(replace(spec, devices=lent, known=known) for spec in heard.work.specs)
                work_now = replace(heard.work, specs=specs)
                for spec in specs:
                    trace("starts", spec, looked=looked)
                heard.asked_for()
                ended = launcher.run(work_now, heard.started, heard.output, heard.message)
        except LauncherDied as error:
            launchers.discard(work.specs[0].run, launcher)
            if heard.nothing and deaths + 1 == LAUNCHER_DEATHS:
                raise
            sink.notice(f"{error.message} It is started again.")
            if heard.nothing:
                continue
            return heard.committed({})
        remove_scratch(ended.pid)
        heard.ended(ended)
        return heard.committed(facts_of(ended, launcher))
    raise AssertionError("the loop returns or raises")


@dataclass
class _Part:
    """What was heard of the items of one spec.

    Attributes
    ----------
    guilty
        Why the first item of which nothing was heard is to be tried alone.
    apart
        What the last of them left behind that others must not find.
    whole
        The files that they share are complete.
    """

    spec: TaskSpec
    first: dict[str, Any] = field(default_factory=dict)
    each: list[bytes] = field(default_factory=list)
    logs: dict[int, dict[str, Log]] = field(default_factory=dict)
    guilty: str | None = None
    apart: str = ""
    whole: bool = False

    @property
    def kept(self) -> int:
        """How many of them can be committed: of incomplete files nothing can be read."""
        if self.whole or self.spec.count == 1:
            return len(self.each)
        shared = f"/chunk.{self.spec.tasks.ids}.{self.spec.execution}/".encode()
        if shared in json.dumps(self.first).encode():
            return 0
        return next((place for place, item in enumerate(self.each) if shared in item), len(self.each))


class _Heard:
    """What a process tells of its items and what they write; the outcome is taken from that."""

    def __init__(self, work: Together, store: RunStore, sink: Sink) -> None:
        specs = tuple(replace(spec, execution=new_execution(0)) for spec in work.specs)
        self.work = replace(work, specs=specs, mark=b"\0" + secrets.token_hex(8).encode() + b"\n")
        self._store = store
        self._sink = sink
        self._parts = [_Part(spec) for spec in specs]
        self._told = 0
        self._told_of_progress = 0.0
        self._handed_over = self._began = time.monotonic()
        self._took = self._in_items = 0.0
        self._pid = 0
        self._ends_early = False
        self._streams = {1: _Stream(self.work.mark), 2: _Stream(self.work.mark)}
        self._outputs: dict[int, tuple[Output, _Held]] = {}

    @property
    def nothing(self) -> bool:
        """Whether no item is done."""
        return not self._parts[0].each

    def _at(self, number: int) -> tuple[_Part, int]:
        """The part and the place in it of the item with that number."""
        for part in self._parts:
            if number < part.spec.count:
                return part, number
            number -= part.spec.count
        return self._parts[-1], self._parts[-1].spec.count - 1

    def started(self, pid: int) -> None:
        """The process runs."""
        self._pid = pid
        self._began = time.monotonic()
        self._sink.started(self.work.specs[0], pid, self.work.count)

    def asked_for(self) -> None:
        """The process is asked for."""
        self._handed_over = time.monotonic()

    def output(self, descriptor: int, data: bytes) -> bool:
        """Bytes that the process wrote; whether any are an item's."""
        pieces = self._streams[descriptor].feed(data) if descriptor else []
        for number, piece in pieces:
            self._output_of(number).feed(descriptor, piece)
            if number < self._told:
                self._outputs[number][1].show()
        return bool(pieces)

    def _output_of(self, number: int) -> Output:
        if number not in self._outputs:
            part, place = self._at(number)
            held = _Held(self._sink)
            output = Output(part.spec.item(place), self._store, held)
            output.shown_as(self._pid)
            self._outputs[number] = output, held
        return self._outputs[number][0]

    def message(self, message: bytes) -> None:
        """See :func:`daskflow.task.together.run`."""
        kind, text = message[:1], message[1:]
        part, _ = self._at(self._told)
        if message == wire.DASK:
            give_back_slot()
        elif kind == wire.WHOLE:
            next(each for each in self._parts if each.spec.count > 1 and not each.whole).whole = True
        elif kind == wire.FIRST:
            part.first = json.loads(text)
        elif kind == wire.ITEM:
            part.each.append(text)
            if self._told in self._outputs:
                self._outputs[self._told][1].show()
            self._told += 1
            self._tell_of_progress()
        elif kind == wire.GUILTY:
            part.guilty = text.decode()
        else:
            self._ends_early = True
            self._goes_on_elsewhere(text.decode())

    def _tell_of_progress(self) -> None:
        now = time.monotonic()
        if now - self._told_of_progress > PROGRESS_SECONDS:
            if self._told_of_progress:  # what ends at once is told when it is committed
                self._sink.progress(self.work.specs[0], self._told)
            self._told_of_progress = now

    def _goes_on_elsewhere(self, why: str) -> None:
        if why:
            last, place = self._at(self._told - 1)
            last.apart = why
            name = last.spec.tasks.name(place)
            self._sink.notice(
                f"Task {last.spec.run.run}/{name}: {why}; the items after it go on in another process."
            )

    def ended(self, ended: Ended) -> None:
        """How the process ended: if not as it should, the item that ran then, or the last one, is to blame."""
        for line in left_running(ended):
            self._output_of(max(0, self._told - 1)).say("stderr", line)
        part, _ = self._at(self._told)
        as_it_should = ended.exit_code == 0 and self._told == self.work.count
        if ended.killed or part.guilty is not None or self._ends_early or as_it_should:
            return
        if self._told == self.work.count:
            self._told -= 1
            part, _ = self._at(self._told)
            part.each.pop()
        part.guilty = cause(ended, part.spec, "before it was done")

    def committed(self, facts: dict[str, Any]) -> list[TaskResult]:
        """Commit what is done; how it went."""
        for number, (output, held) in sorted(self._outputs.items()):
            part, place = self._at(number)
            if place < len(part.each):
                part.logs[place] = {name: log for name, log in closed(output).items() if log.size}
                held.show()
        facts = facts | {"shared_by": self._told}
        self._took = time.monotonic() - self._began
        self._in_items = sum(_end_of(part.each[-1]) for part in self._parts if part.each)
        results: list[TaskResult] = []
        for part in self._parts:
            try:
                results += self._commit(part, facts)
            except DaskflowException as error:
                results += failed(replace(self.work, specs=(part.spec,)), error, self._sink)
        return results

    def _commit(self, part: _Part, facts: dict[str, Any]) -> list[TaskResult]:
        spec, kept = part.spec, part.each[: part.kept]
        if not kept and (part.guilty is None or spec.count == 1):
            alone = part.guilty is not None
            return [_result(spec.tasks, "released", alone=alone, error=_error(part.guilty))]
        first = part.first | {"process": facts} if part.first else {}
        if spec.count == 1:
            record = TaskRecord.of_json(first)
            counts = self._store.commit(replace(record, logs=part.logs.get(0, {})))
            if counts.execution == spec.execution:
                trace("committed", spec)
            self._sink.committed(counts, self._process)
            return [self._timed(result_of(counts))]
        logs = {place: log for place, log in part.logs.items() if place < len(kept)}
        chunk = Chunk(spec.tasks, first, list(map(_facts_of, kept)), logs, self._rest(part))
        winner = self._store.chunks.commit(chunk, encoded(chunk, kept))
        if winner is chunk:
            trace("committed", spec, done=len(kept))
        if winner.each:
            self._sink.committed(
                replace(winner, each=_Parsed(kept)) if winner is chunk else winner, self._process
            )
        results = list(map(self._timed, results_of(winner)))
        ours = winner is chunk or winner.first.get("execution") == spec.execution
        next_one = spec.tasks.name(len(part.each)) if ours else None
        for place, each in enumerate(results):
            if each.name == next_one and each.status == "released":
                alone = part.guilty is not None
                results[place] = replace(each, alone=alone, error=_error(part.guilty or part.apart or None))
        return results

    @property
    def _process(self) -> str:
        return self.work.specs[0].name.task_id

    def _timed(self, result: TaskResult) -> TaskResult:
        """With its time: all took as long, as far as is known here."""
        seconds = self._in_items * result.count / max(1, self._told)
        in_all = time.monotonic() - self._handed_over
        return replace(result, seconds=seconds, overhead=max(0.0, in_all - self._in_items))

    def _rest(self, part: _Part) -> list[TaskRange]:
        """How items go on that are not committed: one that is to blame alone, others as many as fit the time they take."""
        tasks, done = part.spec.tasks, len(part.each)
        size = tasks.count
        if part.guilty is None and self._took > self.work.seconds:
            size = max(1, int(self._told / self._took * self.work.seconds / 2))
        ends = [part.kept, done, done + 1 if part.guilty is not None else done, tasks.count]
        return [
            tasks.part(first, min(first + size, end))
            for start, end in pairwise(ends)
            for first in range(start, end, size)
        ]


def _error(text: str | None) -> tuple[str, str] | None:
    return None if text is None else ("", text)


class _Parsed(Sequence[dict[str, Any]]):
    """What a process told of items, taken apart by who looks at it."""

    def __init__(self, items: Sequence[bytes]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | Sequence[dict[str, Any]]:
        if isinstance(place, slice):
            return _Parsed(self._items[place])
        found: dict[str, Any] = json.loads(self._items[place])
        return found


def _end_of(item: bytes) -> float:
    """Seconds from the start of the first item of its chunk to the end of this one."""
    told = json.loads(item)
    return float(told["at"] + told["took"])


def _facts_of(item: bytes) -> dict[str, Any]:
    """What the driver has to know of an item that differs from the first."""
    found: dict[str, Any] = json.loads(item) if any(fact in item for fact in FACTS) else {}
    return found


class _Held:
    """What an item writes is shown when it is done: one that fails is tried again, and writes it again."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._lines: deque[tuple[TaskSpec, int, str, Sequence[str]]] = deque(maxlen=MOST_HELD)

    def started(self, spec: TaskSpec, pid: int, count: int = 1) -> None:
        """It was told of all of them together."""

    def lines(self, spec: TaskSpec, pid: int, stream: str, lines: Sequence[str]) -> None:
        """Keep them."""
        self._lines.append((spec, pid, stream, lines))

    def notice(self, text: str) -> None:
        """Show it at once."""
        self._sink.notice(text)

    def progress(self, spec: TaskSpec, done: int) -> None:
        """It is told of all of them together."""

    def committed(self, found: TaskRecord | Chunk, process: str = "") -> None:
        """It is told of all of them together."""

    def show(self) -> None:
        """Show what was kept."""
        while self._lines:
            self._sink.lines(*self._lines.popleft())


class _Stream:
    """Bytes of one stream, cut where the items end."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._number = 0
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Pieces, each with the number of the item that wrote it. What may be the begin of a mark is held back."""
        *ended, rest = (self._rest + data).split(self._mark)
        found = []
        for piece in ended:
            if piece:
                found.append((self._number, piece))
            self._number += 1
        held = rest.rfind(b"\0", max(0, len(rest) - len(self._mark) + 1))
        now, self._rest = (rest, b"") if held < 0 else (rest[:held], rest[held:])
        if now:
            found.append((self._number, now))
        return found
