"""Which files beside a flow travel, and that what is packed was there at one moment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daskflow.errors import PackageError, StoreError
from daskflow.store import packages
from daskflow.store.layout import Layout
from daskflow.store.packages import Package
from daskflow.store.storage import storage_at
from daskflow.task import package
from daskflow.task.code import Code
from daskflow.task.package import Selection, choose, pack

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE_ROOT = str(Path(__file__).parents[2])


def lay(folder: Path, *names: str) -> None:
    """Make files that hold their own names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def chosen(folder: Path, **selection: object) -> set[str]:
    return set(choose(str(folder), Selection(**selection)))


def flow_in(folder: Path) -> Code:
    lay(folder, "flow.py")
    return Code(str(folder), "flow.py", None, {"flow.py": b"flow.py"})


def test_code_and_what_code_reads_travels_and_nothing_else(tmp_path: Path):
    wanted = {"flow.py", "a/b/query.sql", "a/table.csv", "settings.toml", "prompt.txt", "page.j2"}
    lay(tmp_path, *wanted, "model.bin", "a/picture.png", "notes", "venv.py.old")

    assert chosen(tmp_path) == wanted


def test_more_suffixes_are_added_to_those_or_all_files_asked_for(tmp_path: Path):
    lay(tmp_path, "flow.py", "model.bin", "run.sh", "notes")

    assert chosen(tmp_path, suffixes=(".bin",)) == {"flow.py", "model.bin"}
    assert chosen(tmp_path, suffixes=("*",)) == {"flow.py", "model.bin", "run.sh", "notes"}


def test_what_is_hidden_or_made_by_tools_never_travels(tmp_path: Path):
    lay(
        tmp_path,
        "flow.py",
        ".env",
        ".git/config.txt",
        "__pycache__/flow.py",
        "node_modules/x.json",
        "pkg/.secret.json",
    )
    lay(
        tmp_path,
        "anything/pyvenv.cfg",
        "anything/lib/x.py",
        "conda/conda-meta/x.json",
        "lib/site-packages/x.py",
    )

    assert chosen(tmp_path, suffixes=("*",)) == {"flow.py"}


def test_the_store_does_not_travel(tmp_path: Path):
    lay(tmp_path, "flow.py", "results/F/1/run.json")

    assert chosen(tmp_path, store=str(tmp_path / "results")) == {"flow.py"}


def test_an_ignore_file_speaks_as_that_of_git(tmp_path: Path):
    (tmp_path / ".daskflowignore").write_text("# data\ndata/\n*.csv\n!small.csv\n/top.txt\ndeep/**/x.json\n")
    lay(
        tmp_path,
        "flow.py",
        "data/a.txt",
        "a.csv",
        "sub/small.csv",
        "top.txt",
        "sub/top.txt",
        "deep/a/b/x.json",
    )

    assert chosen(tmp_path) == {"flow.py", "sub/small.csv", "sub/top.txt"}


def test_a_pattern_that_is_none_is_an_error_that_names_the_file(tmp_path: Path):
    (tmp_path / ".daskflowignore").write_text("!\n")

    with pytest.raises(PackageError, match=r"\.daskflowignore has a pattern that is none: .*'!'"):
        choose(str(tmp_path), Selection())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda file: file.mkdir(), "Is a directory"),
        (lambda file: file.symlink_to("gone"), "No such file or directory"),
        (lambda file: file.symlink_to(file.name), "Too many levels of symbolic links"),
        (lambda file: file.symlink_to("/proc/self/mem"), "Input/output error"),
    ],
)
def test_an_ignore_file_that_can_not_be_read_is_an_error_and_not_taken_for_none(
    tmp_path: Path, make: Callable[[Path], None], told: str
):
    make(tmp_path / ".daskflowignore")

    with pytest.raises(PackageError, match=rf"\.daskflowignore can't be read: {told}\. .* mend or remove it"):
        choose(str(tmp_path), Selection())


def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    folder = tmp_path / "flow"
    lay(folder, "flow.py", "sub/a.py")
    lay(tmp_path / "shared", "tool.py", "more/b.py")
    (folder / "shared").symlink_to(tmp_path / "shared")
    (folder / "sub" / "up").symlink_to(folder)
    (tmp_path / "shared" / "more" / "round").symlink_to(tmp_path / "shared")
    (folder / "itself.py").symlink_to("itself.py")
    (folder / "nowhere.py").symlink_to("gone.py")
    (folder / "linked.sql").symlink_to(folder / "flow.py")

    found = pack(Code(str(folder), "flow.py", None, {}), Selection())

    assert set(found.files) == {"flow.py", "sub/a.py", "shared/tool.py", "shared/more/b.py", "linked.sql"}
    assert found.files["linked.sql"] == b"flow.py"


def test_what_is_no_file_is_left_out(tmp_path: Path):
    lay(tmp_path, "flow.py")
    os.mkfifo(tmp_path / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.json"))

        assert chosen(tmp_path) == {"flow.py"}


def test_a_name_that_is_no_text_is_an_error(tmp_path: Path):
    lay(tmp_path, "flow.py")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_text("")

    with pytest.raises(PackageError, match="is not UTF-8"):
        choose(str(tmp_path), Selection())


def test_a_module_that_the_flow_imports_travels_whatever_the_ignore_file_says(tmp_path: Path):
    (tmp_path / ".daskflowignore").write_text("helper.py\n")
    lay(tmp_path, "flow.py", "helper.py")

    found = pack(
        Code(str(tmp_path), "flow.py", None, {"flow.py": b"flow.py", "helper.py": b"was"}), Selection()
    )

    assert found.files == {"flow.py": b"flow.py", "helper.py": b"was"}


def test_a_folder_that_is_too_large_is_refused_unread_with_its_largest_files(tmp_path: Path):
    code = flow_in(tmp_path)
    for number, gigabytes in enumerate([1, 3, 2]):
        (tmp_path / "data").mkdir(exist_ok=True)
        with (tmp_path / "data" / f"{number}.csv").open("wb") as file:
            file.truncate(gigabytes << 30)

    with pytest.raises(PackageError) as refused:
        pack(code, Selection())

    told = str(refused.value)
    assert "have 6,442.5 MB, more than 100.0 MB" in told
    assert "data/1.csv (3,221.2 MB), data/2.csv (2,147.5 MB), data/0.csv (1,073.7 MB)" in told
    assert "by folder: data (6,442.5 MB), . (0.0 MB)" in told
    assert f"{tmp_path / '.daskflowignore'}" in told
    assert "DASKFLOW_MAX_PACKAGE_SIZE" in told


def test_too_many_files_are_refused_with_the_folders_they_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(package, "MOST_FILES", 10)
    code = flow_in(tmp_path)
    lay(tmp_path, *(f"items/{number}.json" for number in range(20)))

    with pytest.raises(PackageError, match=r"more than 10\. Most of those seen are in: items \(10\)"):
        pack(code, Selection())


def test_a_file_that_changes_once_while_it_is_packed_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    code = flow_in(tmp_path)
    lay(tmp_path, "a.txt", "b.txt")
    real = package._read

    def read(root: str, path: str) -> object:
        found = real(root, path)
        if (tmp_path / "b.txt").exists():  # the first time
            (tmp_path / "b.txt").unlink()
            (tmp_path / "a.txt").write_text("changed")
            lay(tmp_path, "c.txt")
        return found

    monkeypatch.setattr(package, "_read", read)

    assert pack(code, Selection()).files == {"flow.py": b"flow.py", "a.txt": b"changed", "c.txt": b"c.txt"}


def test_a_file_that_never_stands_still_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    code = flow_in(tmp_path)
    lay(tmp_path, "log.txt")
    real = package._read

    def read(root: str, path: str) -> object:
        with (tmp_path / "log.txt").open("a") as file:
            file.write("more")
        return real(root, path)

    def look(root: str, selection: Selection) -> object:
        with (tmp_path / "log.txt").open("a") as file:
            file.write("and more")
        return choose(root, selection)

    monkeypatch.setattr(package, "_read", read)
    monkeypatch.setattr(package, "choose", look)

    with pytest.raises(PackageError, match=r"log\.txt changes while it is packed.*\.daskflowignore"):
        pack(code, Selection())


def test_files_that_are_written_all_the_time_are_packed_as_they_were_at_one_moment_or_not_at_all(
    tmp_path: Path,
):
    code = flow_in(tmp_path)
    lay(tmp_path, "a.txt", "b.txt")
    program = (
        "import os, sys\n"
        "for count in range(10**9):\n"
        "    for name in ('a.txt', 'b.txt'):\n"
        "        with open('new', 'w') as file: file.write(name + str(count) + '.' * 100000)\n"
        "        os.replace('new', name)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    try:
        for _ in range(20):
            try:
                found = pack(code, Selection())
            except PackageError:
                continue
            a, b = (int(found.files[name][5:].rstrip(b".") or -1) for name in ("a.txt", "b.txt"))
            assert a - b in (0, 1)
    finally:
        writer.kill()
        writer.wait()


def test_a_file_that_can_not_be_read_is_an_error_that_names_it(tmp_path: Path):
    code = flow_in(tmp_path)
    (tmp_path / "private.json").symlink_to("/proc/self/mem")  # which even root can't read from its start

    with pytest.raises(PackageError, match=r"private\.json can't be read: Input/output error"):
        pack(code, Selection())


def test_the_same_content_is_one_package_and_what_may_be_executed_belongs_to_it(tmp_path: Path):
    code = flow_in(tmp_path)
    lay(tmp_path, "tool.py")
    before = pack(code, Selection())
    os.utime(tmp_path / "tool.py", (time.time() + 60, time.time() + 60))
    again = pack(code, Selection())
    (tmp_path / "tool.py").chmod(0o755)

    assert before.hash == again.hash
    assert pack(code, Selection()).hash != before.hash


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "is damaged"),
        (lambda path: path.write_bytes(b""), "is damaged"),
    ],
)
def test_a_package_that_is_not_what_was_stored_is_an_error(tmp_path: Path, spoil, told: str):
    storage, layout = storage_at(str(tmp_path)), Layout("F", "1")
    kept = Package({"flow.py": b"x = 1"}, frozenset({"flow.py"}))
    packages.save(kept, storage, layout)
    assert packages.read(storage, layout, kept.describe()) == kept

    spoil(tmp_path / layout.package(kept.hash))

    with pytest.raises(StoreError, match=told):
        packages.read(storage, layout, kept.describe())


def test_a_package_whose_record_or_content_was_changed_is_not_used(tmp_path: Path):
    storage, layout = storage_at(str(tmp_path)), Layout("F", "1")
    kept, other = Package({"flow.py": b"x = 1"}), Package({"flow.py": b"x = 2"})
    packages.save(other, storage, layout)
    (tmp_path / layout.package(other.hash)).rename(tmp_path / layout.package(kept.hash))

    with pytest.raises(StoreError, match="changed by hand"):
        packages.read(storage, layout, kept.describe())
    with pytest.raises(StoreError, match="outside: ../x"):
        packages.read(storage, layout, {"hash": kept.hash, "files": {"../x": ""}})
