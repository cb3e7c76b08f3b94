"""Workers that don't see the flow's folder run its tasks in a copy of it, as it was when the run began."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daskflow import Run, Task
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from tests.namespaces import needs_mounts, with_mounts
from tests.watching import ON_LOOPBACK, scheduler_address, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from s3server import Bucket

ROOT = str(Path(__file__).parents[2])
TOOL = "from daskflow.cli.tool import main; main()"
FLOW = """
import os
import sys

from daskflow import FlowSpec, step

import helper


class F(FlowSpec):
    @step
    def start(self):
        self.items = [0, 1, 2]
        self.next(self.work, foreach="items")

    @step
    def work(self):
        import subprocess
        import lazy.part
        self.seen = {
            "name": __name__, "file": __file__, "path": sys.path[0], "argv": sys.argv, "cwd": os.getcwd(),
            "helper": (helper.NAME, helper.__file__), "lazy": lazy.part.NAME,
            "query": open("queries/q.sql").read(), "ignored": os.path.exists("big.csv"),
            "program": subprocess.run(["./tool.py"], capture_output=True, text=True, check=True).stdout,
        }
        with open(f"written-{self.input}.txt", "w") as file:
            file.write("as on the laptop")
        self.next(self.join)

    @step
    def join(self, inputs):
        self.seen = [each.seen for each in inputs]
        self.next(self.end)

    @step
    def end(self):
        print("query:", open("queries/q.sql").read())


if __name__ == "__main__":
    F()
"""
FILES = {
    "flow.py": FLOW,
    "helper.py": "NAME = 'beside'",
    "lazy/part.py": "NAME = 'late'",
    "queries/q.sql": "select 1",
    "tool.py": f"#!{sys.executable}\nprint('ran')\n",
    "big.csv": "not for workers",
    ".env": "SECRET=1",
    ".daskflowignore": "*.csv\n",
}


class Cluster:
    """Workers of a scheduler, in a folder of their own, started when they are asked for."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.tmp = folder / "tmp"
        self.tmp.mkdir(parents=True)
        self.address = address
        self._started: list[subprocess.Popen[bytes]] = []

    def workers(self, count: int, python: Sequence[str] = (sys.executable,)) -> None:
        """Start workers."""
        words = (*python, "-m", "dask", "worker", self.address, "--nthreads", "1", "--no-nanny")
        self._started += [dask(self.folder, *words, TMPDIR=str(self.tmp)) for _ in range(count)]

    def end_workers(self) -> None:
        """End the workers."""
        while self._started:
            end(self._started.pop())

    @property
    def copies(self) -> Path:
        """Where the workers lay packages out."""
        return self.tmp / f"daskflow-{os.getuid()}" / "packages"


def dask(folder: Path, *words: str, **more: str) -> subprocess.Popen[bytes]:
    """Start a process of a cluster."""
    return subprocess.Popen(
        [*words, *ON_LOOPBACK],
        cwd=folder,
        env=environment(**more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(60)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The scheduler's."""
    folder = tmp_path_factory.mktemp("scheduler")
    words = ("dask", "scheduler", "--port", "0", "--scheduler-file", str(folder / "s.json"))
    scheduler = dask(folder, sys.executable, "-m", *words)
    yield scheduler_address(folder / "s.json")
    end(scheduler)


@pytest.fixture
def cluster(address: str, tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path / "there", address)
    yield found
    found.end_workers()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The flow's, beside the store."""
    made = tmp_path / "here"
    for name, text in FILES.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    (made / "tool.py").chmod(0o755)
    return made


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": ROOT, "DASKFLOW_USER": "ada"} | more


def start(
    folder: Path, *words: str, file: str = "flow.py", store: str = "", **more: str
) -> subprocess.Popen[str]:
    """Start a command of the flow; the store is beside its folder, if nothing else is said."""
    store = store or str(folder.parent / "store")
    return subprocess.Popen(
        [sys.executable, *file.split(), "--datastore", store, *words],
        cwd=folder,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def begun(folder: Path, run: int = 1, session: int = 0) -> None:
    """Wait until a run has its driver."""
    wait_until((folder.parent / "store" / "F" / str(run) / "drivers" / f"{session}.json").exists, 60)


def ended(process: subprocess.Popen[str], status: int = 0) -> str:
    """Wait for a command's end; what it printed."""
    out, _ = process.communicate(timeout=100)
    assert process.returncode == status, out
    return out


def elsewhere(
    folder: Path, cluster: Cluster, *words: str, run: int = 1, session: int = 0, status: int = 0
) -> str:
    """A command that drives a run whose folder is gone before any worker could look; it comes back in the end."""
    process = start(folder, *words, "--cluster", cluster.address)
    begun(folder, run, session)
    away = folder.rename(folder.parent / "away")
    cluster.workers(2)
    out = ended(process, status)
    cluster.end_workers()
    away.rename(folder)
    return out


@pytest.mark.parametrize("launcher", ["fork", "fresh"])
def test_a_task_elsewhere_finds_everything_as_on_the_laptop(cluster: Cluster, folder: Path, launcher: str):
    reading = 'from daskflow import Task\n        print("read:", Task("F/1/start/0")["items"].data)\n        print("query'
    (folder / "flow.py").write_text(FLOW.replace('print("query', reading))
    process = start(folder, "run", "--cluster", cluster.address, DASKFLOW_LAUNCHER=launcher)
    begun(folder)
    folder.rename(folder.parent / "away")
    cluster.workers(2)
    out = ended(process)

    assert "query: select 1" in out
    assert "read: [0, 1, 2]" in out
    [copy] = cluster.copies.glob("*/files")
    there = str(copy)
    for seen in Task("F/1/join/0", store=str(folder.parent / "store")).data.seen:
        assert seen == {
            "name": "__main__",
            "file": f"{there}/flow.py",
            "path": there,
            "argv": [f"{there}/flow.py"],
            "cwd": there,
            "helper": ("beside", f"{there}/helper.py"),
            "lazy": "late",
            "query": "select 1",
            "ignored": False,
            "program": "ran\n",
        }
    assert {each.name for each in copy.glob("written-*")} == {f"written-{n}.txt" for n in range(3)}
    assert not (copy / ".env").exists()


@needs_mounts
def test_another_folder_under_the_same_path_is_not_taken_for_the_flows(cluster: Cluster, folder: Path):
    other = folder.parent / "other"
    other.mkdir()
    (other / "flow.py").write_text("raise SystemExit('another one')")
    hidden = f'mount --bind {other} {folder} && exec "$@"'
    cluster.workers(2, [*with_mounts(hidden), sys.executable])

    assert "query: select 1" in ended(start(folder, "run", "--cluster", cluster.address))


def test_a_package_comes_from_a_bucket_as_well(bucket: Bucket, cluster: Cluster, folder: Path):
    store = storage_at(f"s3://{bucket.name}/store")
    process = start(folder, "run", "--cluster", cluster.address, store=store.url)
    wait_until(lambda: store.exists("F/1/drivers/0.json"), 60)
    folder.rename(folder.parent / "away")
    cluster.workers(2)

    assert "query: select 1" in ended(process)
    assert Run("F/1", store=store.url).code["queries/q.sql"] == "select 1"
    assert len(store.names("F/packages")) == 1


def test_where_the_folder_is_to_be_seen_tasks_run_in_it(cluster: Cluster, folder: Path):
    cluster.workers(1)

    ended(start(folder, "run", "--cluster", cluster.address))

    assert (folder / "written-0.txt").exists()
    assert not cluster.copies.exists()


def test_paths_from_a_folder_above_the_flows_lead_to_the_same_files(
    cluster: Cluster, tmp_path: Path, folder: Path
):
    (folder / "flow.py").write_text(
        FLOW.replace("queries/", "flows/queries/").replace("./tool", "flows/tool")
    )
    project = tmp_path / "project"
    project.mkdir()
    folder.rename(project / "flows")
    process = start(project, "run", "--cluster", cluster.address, file="flows/flow.py")
    begun(project)
    (project / "flows").rename(project / "away")
    cluster.workers(1)

    assert "query: select 1" in ended(process)


def test_a_flow_that_is_a_module_of_a_package_travels_with_its_package(cluster: Cluster, folder: Path):
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text("NAME = 'of the package'")
    source = FLOW.replace("import helper\n", "import helper\nfrom . import NAME\n")
    (folder / "pack" / "flow.py").write_text(
        source.replace('print("query', 'print(NAME, __package__, "query')
    )
    process = start(folder, "run", "--cluster", cluster.address, file="-m pack.flow")
    begun(folder)
    folder.rename(folder.parent / "away")
    cluster.workers(1)

    assert "of the package pack query: select 1" in ended(process)


def test_a_folder_is_stored_and_laid_out_once_for_each_content(cluster: Cluster, folder: Path):
    elsewhere(folder, cluster, "run", run=1)
    elsewhere(folder, cluster, "run", run=2)
    (folder / "queries" / "q.sql").write_text("select 2")
    out = elsewhere(folder, cluster, "run", run=3)

    packages = folder.parent / "store" / "F" / "packages"
    told = [RunStore(storage_at(str(folder.parent / "store")), "F", run).code()["package"] for run in "123"]
    assert "query: select 2" in out
    assert told[0] == told[1] != told[2]
    assert {each.stem for each in packages.iterdir()} == {told[0]["hash"], told[2]["hash"]}
    assert {each.parent.name for each in cluster.copies.glob("*/files")} == {told[0]["hash"], told[2]["hash"]}
    assert set(told[0]["files"]) == {*FILES} - {"big.csv", ".env", ".daskflowignore"}
    with zipfile.ZipFile(packages / f"{told[0]['hash']}.zip") as archive:
        assert archive.read("queries/q.sql") == b"select 1"
    assert not (folder.parent / "store" / "F" / "1" / "code").exists()


def test_the_files_of_a_run_are_given_back(cluster: Cluster, folder: Path, tmp_path: Path):
    (folder / "weights.bin").write_bytes(b"\x00\xff")
    elsewhere(folder, cluster, "run", "--package-suffixes", ".bin,.pt", run=1)
    (folder / "queries" / "q.sql").write_text("select 2")
    (folder / "weights.bin").write_bytes(b"\x01\x00")
    elsewhere(folder, cluster, "run", "--package-suffixes", "*", run=2)

    store = str(folder.parent / "store")

    def code(*words: str) -> str:
        command = [sys.executable, "-c", TOOL, "code", *words, "--datastore", store]
        return subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True, timeout=60
        ).stdout

    code("F/1", "--save", "saved")
    assert Run("F/1", store=store).code["queries/q.sql"] == "select 1"
    assert (tmp_path / "saved" / "queries" / "q.sql").read_text() == "select 1"
    assert (tmp_path / "saved" / "weights.bin").read_bytes() == b"\x00\xff"
    assert os.access(tmp_path / "saved" / "tool.py", os.X_OK)
    assert not os.access(tmp_path / "saved" / "flow.py", os.X_OK)
    assert "# queries/q.sql\nselect 1\n" in code("F/1")
    assert "# weights.bin\n(2 bytes that are no text)\n" in code("F/1")
    assert json.loads(code("F/1", "--json"))["lazy/part.py"] == "NAME = 'late'"
    changes = code("F/2", "--diff", "F/1").splitlines()
    assert changes[-3:] == ["-select 1", "+select 2", "weights.bin, which is no text, differs"]
    (folder / "lazy" / "part.py").unlink()
    for name in ("new.sql", "new.bin", "notes", "new.csv", ".hidden"):  # the latter two don't travel
        (folder / name).write_text("new")
    names = [
        line for line in code("F/1", "--diff", str(folder)).splitlines() if line.startswith(("---", "+++"))
    ]
    assert names == [
        "--- /dev/null",
        "+++ F/1/lazy/part.py",
        f"--- {folder}/new.bin",
        "+++ /dev/null",
        f"--- {folder}/new.sql",
        "+++ /dev/null",
        f"--- {folder}/queries/q.sql",
        "+++ F/1/queries/q.sql",
    ]


BROKEN = FLOW.replace("self.seen = {", 'assert "2" in open("queries/q.sql").read()\n        self.seen = {')


def test_a_run_goes_on_with_the_files_it_began_with_unless_it_is_told_otherwise(
    cluster: Cluster, folder: Path
):
    (folder / "flow.py").write_text(BROKEN)
    elsewhere(folder, cluster, "run", status=1)
    (folder / "queries" / "q.sql").write_text("select 2")

    elsewhere(folder, cluster, "continue", "1", session=1, status=1)
    out = elsewhere(folder, cluster, "continue", "1", "--new-code", session=2)

    assert "query: select 2" in out
    assert Run("F/1", store=str(folder.parent / "store")).code["queries/q.sql"] == "select 2"


def test_a_run_that_began_on_the_laptop_goes_on_elsewhere(cluster: Cluster, folder: Path):
    (folder / "flow.py").write_text(BROKEN)
    ended(start(folder, "run"), status=1)
    (folder / "queries" / "q.sql").write_text("select 2")

    out = elsewhere(folder, cluster, "continue", "1", session=1)

    assert "query: select 2" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "have 5,000.0 MB, more than 100.0 MB. The largest: data/all.csv (5,000.0 MB)"),
        (["--package-suffixes", "csv"], "'csv' are not suffixes such as .parquet, or *"),
    ],
)
def test_what_can_not_travel_is_one_error_before_there_is_a_run(
    cluster: Cluster, folder: Path, words: list[str], told: str
):
    (folder / "data").mkdir()
    (folder / ".daskflowignore").unlink()
    with (folder / "data" / "all.csv").open("wb") as file:
        file.truncate(5_000_000_000 - sum(len(text) for name, text in FILES.items() if name[0] != "."))

    process = start(folder, "run", "--cluster", cluster.address, *words)
    out, _ = process.communicate(timeout=60)

    assert process.returncode != 0
    assert told in out
    assert "Traceback" not in out
    assert not (folder.parent / "store" / "F").exists()


def test_on_this_machine_s_own_cluster_nothing_is_packed(folder: Path):
    with (folder / "all.json").open("wb") as file:
        file.truncate(5_000_000_000)

    ended(start(folder, "run"))

    assert not (folder.parent / "store" / "F" / "packages").exists()
    assert (folder.parent / "store" / "F" / "1" / "code" / "lazy" / "part.py").exists()


@pytest.mark.parametrize("imports", ["import helper", "import lazy.part"])
def test_a_module_that_only_the_driver_finds_is_told_with_what_to_do(
    cluster: Cluster, folder: Path, imports: str
):
    (folder.parent / "library").mkdir()
    (folder.parent / "library" / "far.py").touch()
    (folder / "flow.py").write_text(FLOW.replace(imports, f"{imports}, far"))
    cluster.workers(1)

    path = os.pathsep.join([ROOT, str(folder.parent / "library")])
    out = ended(start(folder, "run", "--cluster", cluster.address, PYTHONPATH=path), status=1)

    assert "ModuleNotFoundError: No module named 'far'" in out
    assert (
        "what else the driver's PYTHONPATH leads to stays behind. Put far beside the flow, or have it" in out
    )


@pytest.mark.parametrize("handed", ["helper.size", "lambda text: helper.size(text)"])
def test_a_function_of_another_module_that_is_handed_to_dask_is_told_with_what_to_do(
    cluster: Cluster, folder: Path, handed: str
):
    (folder / "helper.py").write_text("NAME = 'beside'\n\n\ndef size(text):\n    return len(text)\n")
    call = f"import dask\n        print(dask.delayed({handed})('four').compute())\n        self.items"
    (folder / "flow.py").write_text(FLOW.replace("self.items", call))
    cluster.workers(1)

    out = ended(start(folder, "run", "--cluster", cluster.address), status=1)

    assert (
        "The Dask of the cluster has no module helper: its processes know no modules beside the flow." in out
    )


def test_a_package_that_is_gone_fails_the_run_in_one_sentence(cluster: Cluster, folder: Path):
    process = start(folder, "run", "--cluster", cluster.address)
    begun(folder)
    folder.rename(folder.parent / "away")
    [package] = (folder.parent / "store" / "F" / "packages").iterdir()
    package.unlink()
    cluster.workers(1)

    out = ended(process, status=1)

    assert f"{package}, the package of the run's code, is missing." in out
    assert "Traceback" not in out
