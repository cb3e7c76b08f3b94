"""Where the files of a flow are laid out on a machine that does not see its folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from daskflow.errors import PackageError
from daskflow.store import packages
from daskflow.store.packages import Package
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from daskflow.task import unpacked

PACKAGE_ROOT = str(Path(__file__).parents[2])
PACKAGE = Package({"flow.py": b"x = 1", "sql/q.sql": b"select 1", "run.py": b"#!"}, frozenset({"run.py"}))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """A store with the package; copies are made in a temporary folder of the test."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    found = RunStore(storage_at(str(tmp_path / "store")), "F", "1")
    packages.save(PACKAGE, found.storage, found.layout)
    return found


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    return tmp_path / "tmp" / f"daskflow-{os.getuid()}" / "packages"


def content(folder: str) -> dict[str, bytes]:
    return {
        str(each.relative_to(folder)): each.read_bytes() for each in Path(folder).rglob("*") if each.is_file()
    }


def test_the_files_are_laid_out_as_they_were_and_once(store: RunStore):
    first = unpacked.unpack(store, PACKAGE.describe())
    made = os.stat(f"{first}/flow.py")
    again = unpacked.unpack(store, PACKAGE.describe())

    assert first == again
    assert content(first) == PACKAGE.files
    assert os.stat(f"{first}/flow.py") == made
    assert os.access(f"{first}/run.py", os.X_OK)
    assert not os.access(f"{first}/flow.py", os.X_OK)


def test_several_workers_of_a_machine_make_one_copy(store: RunStore, shelf: Path):
    program = (
        "import sys; from daskflow.store.runs import RunStore; from daskflow.store.storage import storage_at\n"
        "from daskflow.task.unpacked import unpack\n"
        f"told = {PACKAGE.describe()!r}\n"
        "print(unpack(RunStore(storage_at(sys.argv[1]), 'F', '1'), told))\n"
    )
    environment = os.environ | {"PYTHONPATH": PACKAGE_ROOT, "TMPDIR": str(shelf.parents[1])}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program, store.storage.url],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    told = {worker.communicate(timeout=60)[0].strip() for worker in workers}

    assert told == {str(shelf / PACKAGE.hash / "files")}
    assert [each.name for each in shelf.iterdir() if each.is_dir()] == [PACKAGE.hash]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "sql" / "q.sql").write_text("select 2"),
        lambda folder: (folder / "flow.py").unlink(),
        lambda folder: (folder.parent / "files.json").write_text("{"),
    ],
)
def test_a_copy_that_a_task_has_changed_is_made_anew_and_the_task_keeps_its_own(
    store: RunStore, shelf: Path, spoil
):
    first = Path(unpacked.unpack(store, PACKAGE.describe()))
    (first / "written.txt").write_text("by a task")
    spoil(first)

    again = unpacked.unpack(store, PACKAGE.describe())

    assert content(again) == PACKAGE.files
    [old] = shelf.glob("*.old")
    assert (old / "files" / "written.txt").read_text() == "by a task"


def test_what_was_cut_off_while_it_was_laid_out_is_not_used(store: RunStore, shelf: Path):
    (shelf / PACKAGE.hash / "files").mkdir(parents=True)
    (shelf / PACKAGE.hash / "files" / "flow.py").write_text("x =")
    shelf.parent.chmod(0o700)

    assert content(unpacked.unpack(store, PACKAGE.describe())) == PACKAGE.files


def test_a_copy_that_nobody_used_for_long_makes_room_for_others(store: RunStore, shelf: Path):
    first = unpacked.unpack(store, PACKAGE.describe())
    long_ago = time.time() - 31 * 24 * 3600
    os.utime(Path(first).parent, (long_ago, long_ago))
    other = Package({"flow.py": b"x = 2"})
    packages.save(other, store.storage, store.layout)

    unpacked.unpack(store, other.describe())

    assert [each.name for each in shelf.iterdir() if each.is_dir()] == [other.hash]


def test_a_folder_that_others_may_write_to_is_not_used(store: RunStore, shelf: Path):
    shelf.parent.mkdir(mode=0o700)
    shelf.parent.chmod(0o777)

    with pytest.raises(PackageError, match="not a folder of this account alone"):
        unpacked.unpack(store, PACKAGE.describe())


def test_where_nothing_can_be_written_is_one_error(store: RunStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc")

    with pytest.raises(PackageError, match="can't be laid out in /proc: .* another TMPDIR"):
        unpacked.unpack(store, PACKAGE.describe())


def test_the_drivers_folder_is_known_by_more_than_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "flow"
    folder.mkdir()
    told = unpacked.identity(str(folder))

    assert unpacked.is_here(told)
    assert not unpacked.is_here(told | {"number": told["number"] + 1})
    assert not unpacked.is_here(told | {"device": told["device"] + 1})
    assert not unpacked.is_here(told | {"machine": "another"})
    assert not unpacked.is_here(told | {"root": str(tmp_path / "gone")})


MOUNTS = """\
22 1 0:21 / /proc rw,nosuid - proc proc rw
30 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
41 30 0:45 / /home rw,relatime shared:9 - nfs4 files.example:/export/home rw,vers=4.2
42 30 0:46 / /win rw,relatime - cifs //files/win rw
43 30 0:47 / /big rw,relatime - gpfs big rw
"""


@pytest.mark.parametrize(
    ("device", "source"),
    [
        ((8, 1), None),
        ((0, 45), "files.example:/export/home"),
        ((0, 46), "//files/win"),
        ((0, 47), "big"),
        ((9, 9), None),
    ],
)
def test_a_file_system_of_many_machines_is_known_by_its_source(device: tuple[int, int], source: str | None):
    assert unpacked.shared_source(os.makedev(*device), MOUNTS) == source
