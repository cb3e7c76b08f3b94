"""Whole flows, run as a user runs them: a file, an interpreter of its own, a store of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daskflow.pathspec import TaskName
from daskflow.store.runs import RunStore
from daskflow.store.sessions import how_it_ended, last_session
from daskflow.store.storage import storage_at

if TYPE_CHECKING:
    from daskflow.store.records import TaskRecord
    from daskflow.store.storage import Storage

PACKAGE_ROOT = Path(__file__).parents[2]
TIMEOUT = 60
BUCKET = os.environ.get("TEST_BUCKET", "")
"""The URL of a bucket that is to hold the stores, in place of folders; see ``tests/s3/test_flows_on_s3.py``."""
_STARTS = re.compile(r"Task is starting\.|\d+ tasks are starting, one after the other\.")


def store_at(folder: Path) -> str:
    """Where the store of a workspace is."""
    return f"{BUCKET}{folder}" if BUCKET else str(folder / "store")


@dataclass
class Files:
    """What a store holds, wherever it is: paths start at its root."""

    url: str

    @property
    def storage(self) -> Storage:
        return storage_at(self.url)

    def names(self, path: str = "") -> list[str]:
        return sorted(self.storage.names(path))

    def exists(self, path: str = "") -> bool:
        """Whether there is a file of that name, or something in a folder of that name."""
        return (bool(path) and self.storage.exists(path)) or bool(self.names(path))

    def all(self, path: str = "") -> list[str]:
        """The paths of all files below a folder, or of the file itself."""
        below = [found for name in self.names(path) for found in self.all(f"{path}/{name}" if path else name)]
        return below or ([path] if self.storage.exists(path) else [])

    def read(self, path: str) -> bytes:
        return self.storage.read(path)

    def json(self, path: str) -> Any:
        return json.loads(self.read(path))

    def write(self, path: str, data: bytes) -> None:
        self.storage.replace(path, data)

    def remove(self, path: str) -> None:
        if not BUCKET:
            Path(self.storage.locate(path)).unlink()
            return
        import boto3

        bucket, _, key = self.storage.locate(path).removeprefix("s3://").partition("/")
        boto3.client("s3").delete_object(Bucket=bucket, Key=key)


@dataclass
class Result:
    """What a command line left: its output, and the records in its store."""

    folder: Path
    returncode: int
    stdout: str
    stderr: str
    flow: str = ""
    stores: dict[str, RunStore] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.stdout + self.stderr

    @property
    def store(self) -> Files:
        """The files in its store."""
        return Files(store_at(self.folder))

    @property
    def lines(self) -> list[str]:
        """What the steps printed, in the order it was shown, without time and label."""
        found = re.findall(r"^[-\d]+ [:.\d]+ \[[^\]]*\(pid \d+\)\] (.*)$", self.stdout, re.MULTILINE)
        return [line for line in found if not _STARTS.fullmatch(line)]

    def run(self, number: int = 1) -> RunStore:
        """A run of the flow, by its number."""
        key = str(number)
        if key not in self.stores:
            self.stores[key] = RunStore(storage_at(store_at(self.folder)), self.flow, key)
        return self.stores[key]

    def status(self, number: int = 1) -> str:
        """What the last driver of a run said when it ended."""
        store = self.run(number)
        last = last_session(store)
        assert last is not None
        ended = how_it_ended(store, last)
        assert ended is not None
        return ended["status"]

    def tasks(self, step: str) -> list[str]:
        """Ids of the tasks of a step that are committed."""
        return [task for task in self.run().tasks(step) if self.run().task(TaskName(step, task)) is not None]

    def record(self, step: str, task: str = "0") -> TaskRecord:
        found = self.run().task(TaskName(step, task))
        assert found is not None, f"{step}/{task} is not committed"
        return found

    def failed(self, step: str, task: str = "0") -> TaskRecord:
        """The only failed attempt of a task."""
        (found,) = self.run().failed_attempts(TaskName(step, task))
        return found

    def names(self, step: str, task: str = "0") -> set[str]:
        """The artifacts a task has, without parameters and constants."""
        return set(self.record(step, task).artifacts)

    def value(self, step: str, name: str, task: str = "0"):
        """The value of an artifact after a task."""
        return self.run().load(name, self.run().artifacts(self.record(step, task))[name])

    def values(self, step: str, name: str) -> list:
        """The values of an artifact after all tasks of a step, in the order of their ids."""
        return [self.value(step, name, task) for task in self.tasks(step)]

    def log(self, step: str, task: str = "0", stream: str = "stderr") -> str:
        """The stored log of a failed attempt of a task."""
        log = self.failed(step, task).logs[stream]
        if log.text is not None:
            return log.text
        return self.run().storage.appended(log.path).decode()


@dataclass
class Workspace:
    """A folder with flow files, a store and an environment of its own."""

    folder: Path

    @property
    def store(self) -> Files:
        """The files in its store."""
        return Files(store_at(self.folder))

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("DASKFLOW_", "XDG_"))
        }
        return kept | {
            "PYTHONPATH": str(PACKAGE_ROOT),
            "HOME": str(self.folder / "home"),
            "USERNAME": "ada",
            "DASKFLOW_USER": "ada",
            "DASKFLOW_DATASTORE": store_at(self.folder),
            "PYTHONDONTWRITEBYTECODE": "x",
        }

    def write(self, source: str, name: str = "flow.py") -> str:
        """Write a file; returns the name of the last class in it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source).lstrip("\n"), encoding="utf-8")
        classes = re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        return classes[-1] if classes else ""

    def start(self, *command: str, env: dict[str, str] | None = None, **options) -> subprocess.Popen[str]:
        """Start an interpreter with these arguments in the folder, in a process group of its own."""
        keywords = {
            "cwd": self.folder,
            "env": self.environment | (env or {}),
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "encoding": "utf-8",
            "start_new_session": True,
        }
        return subprocess.Popen([sys.executable, *command], **(keywords | options))

    def call(self, *command: str, flow: str = "", env: dict[str, str] | None = None, **options) -> Result:
        """Run an interpreter with these arguments to its end."""
        with self.start(*command, env=env, **options) as process:
            try:
                out, err = process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return self.result(process, flow, out, err)

    def result(
        self, process: subprocess.Popen[str], flow: str, out: str | None = "", err: str | None = ""
    ) -> Result:
        """What a process that has ended left."""
        return Result(self.folder, process.returncode, out or "", err or "", flow)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """A function that gives a new folder."""

    def make() -> Workspace:
        folder = tmp_path_factory.mktemp("flow")
        (folder / "home").mkdir()
        return Workspace(folder)

    return make


@pytest.fixture(scope="session")
def run_flow(workspace):
    """A function: source of a flow file and arguments of ``run`` to what came of it."""

    def run(
        source: str,
        *args: str,
        expect: int = 0,
        command: tuple[str, ...] = ("run",),
        env: dict[str, str] | None = None,
    ) -> Result:
        place = workspace()
        flow = place.write(source)
        result = place.call("flow.py", *command, *args, flow=flow, env=env)
        assert result.returncode == expect, result.text
        assert "Internal error" not in result.text
        return result

    return run
