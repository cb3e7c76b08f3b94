"""A directory as a store: create-only, durable, all or nothing."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from children import at_once, everything_below, killed_at, survives
from faulty import only_local

from daskflow.errors import StoreError
from daskflow.store import storage as module
from daskflow.store.storage import LocalStorage, storage_at

PATH = "F/1/train/4/task.json"
DATA = b"all of it, " * 100
SYSTEM_CALLS = ("mkdir", "open", "write", "fsync", "link", "unlink", "close")


# Create-only


def test_of_many_processes_that_create_one_file_exactly_one_wins(storage: LocalStorage):
    paths = [f"F/1/s/{number}/task.json" for number in range(40)]

    def racer(name: str) -> Any:
        return lambda: [storage.create(path, f"{path} by {name}".encode()) for path in paths]

    answers = at_once([racer(name) for name in "abcdef"])

    for path, won in zip(paths, zip(*answers, strict=True), strict=True):
        assert sum(won) == 1
        assert storage.read(path).decode() == f"{path} by {'abcdef'[won.index(True)]}"
        assert storage.names(os.path.dirname(path)) == ["task.json"]


def test_of_many_threads_that_create_one_file_exactly_one_wins(storage: LocalStorage):
    threads = 8
    barrier = threading.Barrier(threads)

    def race(number: int) -> list[bool]:
        barrier.wait(timeout=30)
        return [storage.create(f"F/1/s/{n}/task.json", b"%d" % number) for n in range(20)]

    with ThreadPoolExecutor(threads) as pool:
        answers = list(pool.map(race, range(threads)))

    for n, won in enumerate(zip(*answers, strict=True)):
        assert sum(won) == 1
        assert storage.read(f"F/1/s/{n}/task.json") == b"%d" % won.index(True)


def test_a_file_that_is_there_is_never_replaced(storage: LocalStorage):
    assert storage.create(PATH, b"first")

    assert not storage.create(PATH, b"second")

    assert storage.read(PATH) == b"first"
    assert everything_below(Path(storage.url)) == [PATH]


def test_a_link_request_that_was_sent_twice_counts_as_won(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    real = os.link

    def twice(source: str, target: str) -> None:
        real(source, target)
        real(source, target)  # as a network file system answers when the first answer got lost

    monkeypatch.setattr(os, "link", twice)

    assert storage.create(PATH, DATA)
    assert storage.read(PATH) == DATA


# A crash at any moment


def test_after_a_crash_at_any_call_there_is_all_of_a_file_or_nothing_and_a_retry_succeeds(tmp_path: Path):
    outcomes = []
    for number in itertools.count():
        storage = LocalStorage(str(tmp_path / f"store {number}"))

        def commit(storage: LocalStorage = storage, number: int = number) -> None:
            killed_at(number, SYSTEM_CALLS)
            storage.create(PATH, DATA)

        survived = survives(commit)

        reader = LocalStorage(storage.url)
        there = reader.exists(PATH)
        assert reader.names("F/1/train/4") == (["task.json"] if there else [])
        if there:
            assert reader.read(PATH) == DATA, f"half a file after call {number}"
        else:
            with pytest.raises(FileNotFoundError):
                reader.read(PATH)
        assert reader.create(PATH, DATA) is not there
        assert reader.read(PATH) == DATA
        outcomes.append(there)
        if survived:
            break
    assert outcomes == sorted(outcomes)
    assert outcomes.count(False) > 10, "the calls of a commit were not seen"
    assert outcomes.count(True) > 2, "nobody died between the link and the end"


def test_an_artifact_that_a_crash_cut_is_no_part_of_any_record(tmp_path: Path):
    def write(number: int, storage: LocalStorage) -> None:
        killed_at(number, SYSTEM_CALLS)
        with storage.writer("F/1/train/4/0.dead/x.pickle") as file:
            file.write(DATA)
        storage.create(PATH, b"refers to x")

    for number in itertools.count():
        storage = LocalStorage(str(tmp_path / str(number)))
        survived = survives(lambda: write(number, storage))  # noqa: B023 - called at once
        if storage.exists(PATH):
            assert storage.read("F/1/train/4/0.dead/x.pickle") == DATA
        if survived:
            break


# Durability


class Calls:
    """What the system was asked to do, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, str]] = []
        real_fsync, real_write, real_link, real_mkdir = os.fsync, os.write, os.link, os.mkdir

        def path_of(descriptor: int) -> str:
            return os.readlink(f"/proc/self/fd/{descriptor}")

        def fsync(descriptor: int) -> None:
            self.seen.append(("fsync", path_of(descriptor)))
            real_fsync(descriptor)

        def write(descriptor: int, data: Any) -> int:
            self.seen.append(("write", path_of(descriptor)))
            return real_write(descriptor, bytes(data)[:400])  # in several parts

        def link(source: str, target: str) -> None:
            self.seen.append(("link", target))
            real_link(source, target)

        def mkdir(folder: str, *mode: int) -> None:
            real_mkdir(folder, *mode)
            self.seen.append(("mkdir", folder))

        for name, spy in {"fsync": fsync, "write": write, "link": link, "mkdir": mkdir}.items():
            monkeypatch.setattr(os, name, spy)

    def place(self, what: str, where: str) -> int:
        """The position of the last such call."""
        return max(n for n, call in enumerate(self.seen) if call == (what, where))


@only_local
def test_a_commit_syncs_the_content_before_it_has_its_name_and_the_folder_after(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    calls = Calls(monkeypatch)

    storage.create(PATH, DATA)

    (temporary,) = {where for what, where in calls.seen if what == "write"}
    folder = f"{storage.url}/F/1/train/4"
    assert temporary.startswith(f"{folder}/.tmp-")
    assert [what for what, where in calls.seen if where == temporary] == ["write"] * 3 + ["fsync"]
    assert calls.place("fsync", temporary) < calls.place("link", f"{folder}/task.json")
    assert calls.place("link", f"{folder}/task.json") < calls.place("fsync", folder)


@only_local
def test_each_new_folder_is_synced_in_its_parent_before_the_commit(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    calls = Calls(monkeypatch)

    storage.create(PATH, DATA)

    made = [where for what, where in calls.seen if what == "mkdir"]
    assert [os.path.relpath(folder, storage.url) for folder in made] == [
        ".",
        "F",
        "F/1",
        "F/1/train",
        "F/1/train/4",
    ]
    for folder in made:
        parent = os.path.dirname(folder)
        assert (
            calls.place("mkdir", folder)
            < calls.place("fsync", parent)
            < calls.place("link", f"{made[-1]}/task.json")
        )


@only_local
def test_a_folder_whose_maker_may_have_died_before_its_sync_is_synced_again(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    os.makedirs(f"{storage.url}/F/1/train/4")
    calls = Calls(monkeypatch)

    storage.create(PATH, DATA)

    synced = {where for what, where in calls.seen if what == "fsync"}
    assert {f"{storage.url}{below}" for below in ("", "/F", "/F/1", "/F/1/train", "/F/1/train/4")} <= synced


@only_local
def test_who_finds_a_file_there_makes_its_name_durable_before_relying_on_it(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    storage.create(PATH, DATA)
    calls = Calls(monkeypatch)

    assert not LocalStorage(storage.url).create(PATH, DATA)

    assert calls.place("link", storage.locate(PATH)) < calls.place("fsync", f"{storage.url}/F/1/train/4")


@only_local
def test_a_second_commit_in_a_step_does_not_sync_the_whole_way_again(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    storage.create(PATH, DATA)
    calls = Calls(monkeypatch)

    storage.create("F/1/train/5/task.json", DATA)

    synced = [os.path.relpath(where, storage.url) for what, where in calls.seen if what == "fsync"]
    assert [where for where in synced if ".tmp" not in where] == ["F/1/train", "F/1/train/5"]


@only_local
def test_a_written_file_and_its_name_are_synced(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch):
    calls = Calls(monkeypatch)

    with storage.writer("F/1/train/4/0.a/x.pickle") as file:
        file.write(DATA)

    path = storage.locate("F/1/train/4/0.a/x.pickle")
    assert calls.place("fsync", path) < calls.place("fsync", os.path.dirname(path))
    assert storage.read("F/1/train/4/0.a/x.pickle") == DATA


@only_local
def test_a_run_that_was_removed_by_hand_can_be_made_again(storage: LocalStorage):
    storage.create(PATH, DATA)
    subprocess.run(["rm", "-r", f"{storage.url}/F"], check=True, timeout=60)

    assert storage.create(PATH, DATA)
    assert storage.read(PATH) == DATA


# File systems that lack something


def _no_links(_source: str, _target: str) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_without_hard_links_an_exclusive_rename_publishes(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "link", _no_links)

    assert storage.create(PATH, b"first")
    assert not storage.create(PATH, b"second")

    assert storage.read(PATH) == b"first"
    assert everything_below(Path(storage.url)) == [PATH]


@only_local
@pytest.mark.parametrize(
    "code", [errno.EINVAL, errno.ENOSYS, None], ids=["flag unknown", "call unknown", "no such function"]
)
def test_a_file_system_with_neither_links_nor_exclusive_rename_is_refused_with_its_name(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, code: int | None
):
    class Library:
        if code is not None:

            def renameat2(self, *_args: object) -> int:
                assert code is not None
                ctypes.set_errno(code)
                return -1

    monkeypatch.setattr(os, "link", _no_links)
    monkeypatch.setattr(module.ctypes, "CDLL", lambda *_args, **_kwargs: Library())

    with pytest.raises(StoreError) as caught:
        storage.create(PATH, DATA)

    assert caught.value.message == (
        f"Can't create {storage.locate(PATH)}: neither hard links nor an exclusive rename: "
        "this file system can't hold a store."
    )
    assert everything_below(Path(storage.url)) == []


@only_local
def test_any_other_error_of_a_link_is_not_taken_for_lacking_links(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    def refuse(_source: str, _target: str) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "link", refuse)

    with pytest.raises(StoreError, match="quota"):
        storage.create(PATH, DATA)


# Names


@pytest.mark.parametrize("name", ["with space", "grün 雪 🦆", "quote'\"$(x)", "a:b;c&d", "-rf", "percent%20"])
def test_any_name_of_a_directory_can_hold_a_store(tmp_path: Path, name: str):
    storage = storage_at(f"file://{tmp_path}/{name}")

    assert storage.create(f"{name}/1/run.json", DATA)
    storage.append(f"{name}/1/log", b"one")
    storage.append(f"{name}/1/log", b"two", size=3)

    assert storage.names("") == [name]
    assert sorted(storage.names(f"{name}/1")) == ["log", "run.json"]
    assert Path(storage.locate(f"{name}/1/log")).read_bytes() == b"onetwo"


def test_unfinished_files_are_never_listed(storage: LocalStorage):
    storage.create(PATH, DATA)
    (Path(storage.url) / "F/1/train/4/.tmp-0123456789abcdef").write_bytes(b"half")

    assert storage.names("F/1/train/4") == ["task.json"]


def test_a_url_that_is_no_directory_is_refused():
    with pytest.raises(StoreError, match="'gs://bucket/prefix' is neither a directory nor s3://"):
        storage_at("gs://bucket/prefix")


def test_the_root_is_absolute_whatever_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    storage = storage_at("store")
    monkeypatch.chdir("/")

    storage.create(PATH, DATA)

    assert (tmp_path / "store" / PATH).read_bytes() == DATA
