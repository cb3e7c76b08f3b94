"""Every path of a run. Nobody else joins names with ``/``.

::

    TrainFlow/12/run.json                         the run; create-only
    TrainFlow/12/code/flow.py                     the code it runs
    TrainFlow/12/code.1/flow.py                   the code with which driver session 1 went on, if it was changed
    TrainFlow/packages/3f0c....zip                what the flow's folder held when runs for workers elsewhere started
    TrainFlow/12/drivers/0.json                   a driver session: who drives, since when; create-only
    TrainFlow/12/drivers/0.beat.json  0.end.json  that it lives; how it ended
    TrainFlow/12/tags/0.json                      the user's tags after their first change; create-only
    TrainFlow/12/train/4/task.json                the commit of task train/4; create-only, written last
    TrainFlow/12/train/4/0.x7k2/features.parquet  artifact `features` of attempt 0, execution x7k2
    TrainFlow/12/train/4/0.x7k2/attempt.json      how that attempt ended, if it failed
    TrainFlow/12/train/4/0.x7k2/stdout.log
    TrainFlow/12/train/chunk.0..49.json           the commit of items 0 to 49 of a wide foreach; create-only
    TrainFlow/12/train/chunk.0..49.0.x7k2/features.parquet  artifact `features` of each of them, a row group an item
    TrainFlow/12/train/plan.0.json                into which chunks its items were cut first; create-only
    TrainFlow/12/train/index.parquet              in a bucket: what the task.json say, a row each; not needed
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from dataclasses import dataclass
from urllib.parse import quote

from daskflow.pathspec import TaskName, TaskRange

PARAMETERS = TaskName("_parameters", "0")
"""The pseudo task that holds a run's parameters, constants and graph."""

NOT_STEPS = frozenset({"code", "drivers", "tags"})
"""Folders of a run that are no steps. A step may bear these names too: its folder then holds task folders."""

LONGEST_NAME = 200
"""Bytes of an artifact's name in a file's name; 255 is what file systems take."""


def new_execution(attempt: int) -> str:
    """A name that no other execution of this attempt can have, such as ``0.19a3f0c2b7d4e1f05a21c``; later ones sort last."""
    return f"{attempt}.{time.time_ns() // 1_000_000:011x}{secrets.token_hex(5)}"


def began_at(execution: str) -> float | None:
    """When an execution of that name began, in seconds of the epoch, by the clock of its worker; None if it does not say."""
    found = _EXECUTION.fullmatch(execution)
    return int(found[1], 16) / 1000 if found else None


def file_name(artifact: str) -> str:
    """An artifact's name as a file name.

    Itself if it is an identifier, else percent-encoded. Of one that is too long for a file system the end is replaced
    by a hash of the whole.
    """
    raw = artifact.encode("utf-8", "surrogatepass")
    name = artifact if artifact.isidentifier() else quote(raw, safe="")
    if len(name.encode()) <= LONGEST_NAME:
        return name
    kept = name.encode()[:LONGEST_NAME].decode("utf-8", "ignore")
    return f"{kept}.{hashlib.blake2b(raw, digest_size=8).hexdigest()}"


_EXECUTION = re.compile(r"[0-9]+\.([0-9a-f]{11})[0-9a-f]{6,}")
_CHUNK = re.compile(r"chunk\.([0-9.-]+)\.json")
_PLAN = re.compile(r"plan\.([0-9]+)\.json")


def chunk_of(step: str, file: str) -> TaskRange | None:
    """The items whose commit a file in a step's folder is, None if it is no such file."""
    found = _CHUNK.fullmatch(file)
    try:
        return TaskRange.of_ids(step, found[1]) if found else None
    except ValueError:
        return None


def part_of_plan(file: str) -> int | None:
    """Which part of its step's plan a file is, None if it is none."""
    found = _PLAN.fullmatch(file)
    return int(found[1]) if found else None


@dataclass(frozen=True)
class Layout:
    """Paths of one run, relative to the root of the store."""

    flow: str
    run: str

    @property
    def root(self) -> str:
        """The run's own prefix."""
        return f"{self.flow}/{self.run}"

    @property
    def run_record(self) -> str:
        """What was asked for: parameters, code, user, versions. A run exists once this file does."""
        return f"{self.root}/run.json"

    def code(self, path: str, snapshot: int = 0) -> str:
        """A source file of the run's code; of the code with which driver session ``snapshot`` went on."""
        return f"{self.root}/code{f'.{snapshot}' if snapshot else ''}/{path}"

    def package(self, digest: str) -> str:
        """What a flow's folder held, by its content; runs share it."""
        return f"{self.flow}/packages/{digest}.zip"

    @property
    def drivers(self) -> str:
        """The folder of the driver sessions."""
        return f"{self.root}/drivers"

    def driver(self, session: int) -> str:
        """A driver session: who drives, since when."""
        return f"{self.root}/drivers/{session}.json"

    def driver_beat(self, session: int) -> str:
        """Written anew every few seconds as long as that driver lives."""
        return f"{self.root}/drivers/{session}.beat.json"

    def driver_end(self, session: int) -> str:
        """How that session ended. A run's status is its last session's."""
        return f"{self.root}/drivers/{session}.end.json"

    def tags(self, version: int | None = None) -> str:
        """The user's tags after a change, numbered from 0, or the folder of all of them. The highest number counts."""
        return f"{self.root}/tags" if version is None else f"{self.root}/tags/{version}.json"

    def step(self, step: str) -> str:
        """The folder of a step's tasks."""
        return f"{self.root}/{step}"

    def index(self, step: str) -> str:
        """What the records of a step's tasks say, a row each: derived from them, and not needed."""
        return f"{self.root}/{step}/index.parquet"

    def task(self, task: TaskName) -> str:
        """The folder of a task."""
        return f"{self.root}/{task.step}/{task.task_id}"

    def commit(self, task: TaskName) -> str:
        """The commit point: a task has succeeded once this file exists."""
        return f"{self.task(task)}/task.json"

    def chunk(self, tasks: TaskRange) -> str:
        """The commit point of items that run in one process."""
        return f"{self.root}/{tasks.step}/chunk.{tasks.ids}.json"

    def shared_artifact(self, tasks: TaskRange, execution: str, name: str, suffix: str) -> str:
        """An artifact of all items that run in one process, such as ``work/chunk.0..49.0.x7k2/features.parquet``."""
        folder = f"{self.root}/{tasks.step}/chunk.{tasks.ids}.{execution}"
        return f"{folder}/{file_name(name)}.{suffix}"

    def plan(self, step: str, number: int) -> str:
        """A part, numbered from 0, of how the items of foreaches that begin with a step are cut into chunks."""
        return f"{self.root}/{step}/plan.{number}.json"

    def execution(self, task: TaskName, execution: str) -> str:
        """The folder that belongs to one execution alone."""
        return f"{self.task(task)}/{execution}"

    def attempt(self, task: TaskName, execution: str) -> str:
        """How an execution ended that failed."""
        return f"{self.execution(task, execution)}/attempt.json"

    def artifact(self, task: TaskName, execution: str, name: str, suffix: str) -> str:
        """A stored artifact, such as ``.../features.parquet``."""
        return f"{self.execution(task, execution)}/{file_name(name)}.{suffix}"

    def log(self, task: TaskName, execution: str, stream: str) -> str:
        """A stored log; ``stream`` is ``stdout`` or ``stderr``."""
        return f"{self.execution(task, execution)}/{stream}.log"
