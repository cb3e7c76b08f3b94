"""One task at a time, in a process of its own, through either launcher."""

from __future__ import annotations

import secrets
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from daskflow.flow.node import Node
from daskflow.pathspec import TaskName, TaskNames
from daskflow.store.flows import new_run
from daskflow.store.layout import PARAMETERS
from daskflow.store.records import TaskRecord, timestamp
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from daskflow.task import code as task_code
from daskflow.task.execute import execute
from daskflow.task.launchers import Launchers
from daskflow.task.spec import RunContext, TaskResult, TaskSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from daskflow.store.chunks import Chunk

FLOW = """
{header}
from daskflow import FlowSpec, step


class F(FlowSpec):
    @step
    def start(self):
{body}

    @step
    def end(self):
        pass


if __name__ == "__main__":
    F()
"""


@dataclass
class Heard:
    """A sink that remembers."""

    pids: list[int] = field(default_factory=list)
    text: dict[str, list[str]] = field(default_factory=lambda: {"stdout": [], "stderr": []})
    notices: list[str] = field(default_factory=list)
    progress_made: list[int] = field(default_factory=list)
    commits: list[TaskRecord | Chunk] = field(default_factory=list)

    def started(self, spec: TaskSpec, pid: int, count: int = 1) -> None:
        self.pids.append(pid)

    def lines(self, spec: TaskSpec, pid: int, stream: str, lines: Sequence[str]) -> None:
        self.text[stream] += lines

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def progress(self, spec: TaskSpec, done: int) -> None:
        self.progress_made.append(done)

    def committed(self, found: TaskRecord | Chunk, process: str = "") -> None:
        self.commits.append(found)


@dataclass
class Ran:
    """What a task left."""

    result: TaskResult
    record: TaskRecord
    heard: Heard
    store: RunStore

    @property
    def stdout(self) -> list[str]:
        return self.heard.text["stdout"]

    @property
    def stderr(self) -> list[str]:
        return self.heard.text["stderr"]

    def artifact(self, name: str) -> object:
        return self.store.load(name, self.record.artifacts[name])


class Bench:
    """A run in the store whose tasks are started one by one."""

    def __init__(self, folder: Path, launcher: str) -> None:
        self.folder = folder
        self.launcher = launcher
        self.launchers = Launchers()
        self.heard = Heard()
        self.max_log_bytes = 10_000_000
        self._made: list[RunContext] = []

    def run_of(self, body: str, header: str = "", files: dict[str, str] | None = None) -> RunContext:
        """A new run of a flow whose first step does ``body``."""
        source = FLOW.format(
            header=textwrap.dedent(header), body=textwrap.indent(textwrap.dedent(body).strip(), " " * 8)
        )
        sources = {"flow.py": source} | {name: textwrap.dedent(text) for name, text in (files or {}).items()}
        for name, text in sources.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        code = task_code.Code(str(self.folder), "flow.py", None, {n: s.encode() for n, s in sources.items()})
        return self.run_with(code)

    def run_with(self, code: task_code.Code) -> RunContext:
        """A new run of this code."""
        storage = storage_at(str(self.folder / "store"))
        store = new_run(storage, "F", lambda run: {"flow": "F", "run": run, "code": code.describe()})
        task_code.save(code, store)
        now = timestamp()
        store.commit(TaskRecord("F", store.run, *_split(PARAMETERS), 0, "0.x", "ok", now, now))
        run = RunContext(
            "F",
            store.run,
            storage.url,
            secrets.token_hex(4),
            str(self.folder),
            self.max_log_bytes,
            self.launcher,
        )
        self._made.append(run)
        return run

    def spec(self, run: RunContext, task_id: str = "0") -> TaskSpec:
        """The first step of a run, as a task of that id."""
        node = Node(name="start", type="linear", targets=("end",), next_line=1, has_next=True)
        return TaskSpec(run, TaskName("start", task_id), node, TaskNames.single(PARAMETERS))

    def execute(self, run: RunContext, task_id: str = "0") -> Ran:
        """Run one task of a run to its end."""
        heard = Heard()
        result = execute(self.spec(run, task_id), heard, self.launchers)
        store = RunStore(storage_at(run.store), "F", run.run)
        name = TaskName("start", task_id)
        record = store.task(name) or next(iter(reversed(list(store.failed_attempts(name)))))
        return Ran(result, record, heard, store)

    def __call__(self, body: str, header: str = "", files: dict[str, str] | None = None) -> Ran:
        """Run a step that does ``body`` and then goes on."""
        return self.execute(self.run_of(textwrap.dedent(body) + "\nself.next(self.end)", header, files))

    def close(self) -> None:
        for run in self._made:
            self.launchers.close(run)


def _split(name: TaskName) -> tuple[str, str]:
    return name.step, name.task_id


@pytest.fixture(params=["fork", "fresh"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(tmp_path, request.param)
    yield made
    made.close()


@pytest.fixture
def auto_bench(tmp_path: Path) -> Iterator[Bench]:
    """Lets the launcher decide."""
    made = Bench(tmp_path, "auto")
    yield made
    made.close()
