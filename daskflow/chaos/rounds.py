"""One run after the other: start it, kill things, let it go on until it has succeeded; then look at what it left."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskflow.chaos.cluster import end_with_parent
from daskflow.pathspec import TaskName, TaskRange
from daskflow.store import sessions
from daskflow.store.layout import PARAMETERS
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from daskflow.task import trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from daskflow.chaos.cluster import KillableCluster

KINDS = ("task", "worker", "scheduler", "driver")
MOST_KILLS = 3
"""Kills in one round; after them the run is left alone."""
MOST_DRIVERS = 10
"""Drivers that a run may need; if it has not succeeded then it can't be finished."""
PATIENCE_SECONDS = 600.0


@dataclass
class Round:
    """What one run went through and what was found.

    Attributes
    ----------
    run
        Its number.
    kills
        What was killed, in order.
    drivers
        How many drivers it took.
    finished
        Whether it succeeded in the end.
    differing
        Artifacts whose value is not that of the undisturbed run.
    late_starts
        Bodies that an execution started although it looked after the task was committed.
    double_commits
        Tasks of which two executions believe that theirs is the commit.
    """

    run: str = ""
    kills: list[str] = field(default_factory=list)
    drivers: int = 0
    finished: bool = False
    differing: list[str] = field(default_factory=list)
    late_starts: list[str] = field(default_factory=list)
    double_commits: list[str] = field(default_factory=list)
    seconds: float = 0.0
    last_lines: str = ""

    @property
    def ok(self) -> bool:
        """Whether all promises held."""
        return self.finished and not (self.differing or self.late_starts or self.double_commits)


class Rounds:
    """Rounds of one flow against one cluster.

    Parameters
    ----------
    flow_file, arguments
        The flow and what follows ``run``.
    store
        Where the runs go; nobody else's are there.
    cluster
        Where tasks run; the log of the driver goes where its files go.
    kills
        What may be killed, of :data:`KINDS`.
    seed
        The same seed draws the same kills and moments, though not the same state of the run at them.
    """

    def __init__(
        self,
        flow_file: Path,
        arguments: Sequence[str],
        store: str,
        cluster: KillableCluster,
        kills: Sequence[str],
        seed: int,
    ) -> None:
        self._flow_file = flow_file
        self._arguments = list(arguments)
        self._folder = cluster.folder
        self._url = store
        self._cluster = cluster
        self._kinds = list(kills)
        self._chance = random.Random(seed)
        self._trace = Path(cluster.environment[trace.VARIABLE])
        self._expected: dict[str, Any] = {}
        self._whole_seconds = 0.0
        self._busy_seconds = 0.0

    def undisturbed(self) -> Round:
        """A run that all later ones are compared with, in length too."""
        found = self._until_finished([], 1)
        self._whole_seconds = found.seconds
        if found.finished:
            first = min(event["looked"] for event in self._events(found.run) if event["event"] == "starts")
            self._busy_seconds = (self._trace.stat().st_mtime_ns - first) / 1e9
        return self._compared(found)

    def disturbed(self) -> Round:
        """A run in which up to three things are killed."""
        count = self._chance.randint(1, MOST_KILLS)
        found = self._until_finished([self._chance.choice(self._kinds) for _ in range(count)])
        found.late_starts, found.double_commits = self._broken_promises(found.run)
        return self._compared(found)

    def _compared(self, found: Round) -> Round:
        if found.finished:
            results = self._results(found.run)
            expected = self._expected = self._expected or results
            names = sorted({*results, *expected})
            found.differing = [name for name in names if results.get(name) != expected.get(name)]
        return found

    def _until_finished(self, kills: list[str], most_drivers: int = MOST_DRIVERS) -> Round:
        found = Round()
        began = time.monotonic()
        told = self._folder / "run-id"
        told.unlink(missing_ok=True)
        while not found.finished and found.drivers < most_drivers:
            self._cluster.repair()
            start = ["run", *self._arguments, "--run-id-file", str(told)]
            command = ["continue", found.run] if found.run else start
            found.drivers += 1
            status = self._drive(command, kills, found)
            if not found.run and told.exists():
                found.run = self._if_begun(told.read_text())
            found.finished = status == 0 or self._has_succeeded(found.run)
        found.seconds = time.monotonic() - began
        return found

    def _if_begun(self, run: str) -> str:
        """The run, if its first driver came so far that another can go on."""
        return run if run and self._store(run).task(PARAMETERS) is not None else ""

    def _has_succeeded(self, run: str) -> bool:
        """Also if the driver was killed after it had said so."""
        return bool(run) and sessions.status(self._store(run)) == "successful"

    def _drive(self, command: list[str], kills: list[str], found: Round) -> int:
        """One driver to its end, whoever brings it about."""
        log = self._folder / "driver.log"
        words = ["--datastore", self._url, *command, "--cluster", self._cluster.address]
        with open(log, "wb") as out:
            driver = subprocess.Popen(
                [sys.executable, str(self._flow_file), *words, "--grace", "0"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self._cluster.environment,
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - this process has no other thread
            )
            try:
                self._disturb(driver, kills, found)
                status = driver.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                status = -1
            finally:
                driver.kill()
                driver.wait()
        found.last_lines = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        return status

    def _disturb(self, driver: subprocess.Popen[bytes], kills: list[str], found: Round) -> None:
        """Kill the next things, each after a random while, until the driver ends or none is left.

        A driver may be killed at any time, all else once tasks start.
        """
        traced = self._size_of_trace()
        while kills:
            kind = kills[-1]
            longest = self._whole_seconds if kind == "driver" else self._busy_seconds
            begins = _happens(lambda: kind == "driver" or self._size_of_trace() > traced, driver)  # noqa: B023
            moment = time.monotonic() + self._chance.uniform(
                0, longest / (1 + len(kills))
            )  # time for those that follow
            comes = begins and _happens(lambda: time.monotonic() > moment, driver)  # noqa: B023 - called at once
            if not comes or not _happens(lambda: self._kill(kind, driver), driver):  # noqa: B023
                return
            found.kills.append(kills.pop())
            if kind == "worker":
                self._cluster.repair()

    def _kill(self, kind: str, driver: subprocess.Popen[bytes]) -> bool:
        if kind != "driver":
            return self._cluster.kill(kind, self._chance)
        driver.kill()
        return True

    def _size_of_trace(self) -> int:
        return self._trace.stat().st_size if self._trace.exists() else 0

    def _events(self, run: str) -> Iterator[dict[str, Any]]:
        """What the trace has of a run."""
        store = self._store(run)
        for line in self._trace.read_text().splitlines():
            event: dict[str, Any] = json.loads(line)
            if event["run"] == f"{store.flow}/{store.run}":
                yield event

    def _results(self, run: str) -> dict[str, Any]:
        """The identity of every artifact of every task, by its name."""
        return {
            f"{name}/{artifact}": ref.hash
            for name, record in self._records(run)
            for artifact, ref in record.artifacts.items()
        }

    def _records(self, run: str) -> Iterator[tuple[TaskName, Any]]:
        store = self._store(run)
        for step in store.steps():
            for task in store.tasks(step):
                name = TaskName(step, task)
                record = store.task(name)
                if record is not None and name != PARAMETERS:
                    yield name, record

    def _store(self, run: str) -> RunStore:
        storage = storage_at(self._url)
        (flow,) = [name for name in storage.names("") if not name.startswith(".")]
        return RunStore(storage, flow, run)

    def _broken_promises(self, run: str) -> tuple[list[str], list[str]]:
        """What the trace says against P1: the store tells when a task was committed."""
        late, winners = [], Counter[str]()
        if not run:
            return [], []
        store = self._store(run)
        for event in self._events(run):
            tasks = TaskRange.of(event["task"])
            path = store.layout.commit(tasks.name()) if tasks.count == 1 else store.layout.chunk(tasks)
            if event["event"] == "committed":
                winners.update(map(str, tasks.part(0, event.get("done", 1)).names()))
            elif (made := store.storage.made_by(path)) is not None and event["looked"] > made:
                late.append(f"{event['task']} was started after its commit ({event['execution']})")
        return late, [f"{task} has {count} commits" for task, count in winners.items() if count > 1]


def _happens(happens: Callable[[], bool], driver: subprocess.Popen[bytes]) -> bool:
    """Wait for it; False if the driver ended before."""
    while not happens():
        if driver.poll() is not None:
            return False
        time.sleep(0.005)
    return True
