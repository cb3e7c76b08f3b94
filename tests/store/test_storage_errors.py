"""What a store says when the system refuses: the path and the reason, with nothing half and nothing lost."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pandas
import pytest
from children import everything_below, in_child
from faulty import only_local

from daskflow.errors import StoreError
from daskflow.pathspec import TaskName
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.runs import RunStore
from daskflow.store.storage import LocalStorage

PATH = "F/1/train/4/task.json"
DATA = b"all of it, " * 100
NOBODY = 65534


# The disk says no


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 128 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(folder)]
    if (
        os.getuid() != 0
        or subprocess.run(mount, capture_output=True, check=False, timeout=60).returncode != 0
    ):
        pytest.skip("only root can mount a small file system; the injected error is tested all the same")
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=60)


def test_a_full_disk_says_so_leaves_nothing_half_and_loses_nothing(small_disk: Path):
    storage = LocalStorage(str(small_disk / "store"))
    storage.create("F/1/run.json", b"before")
    (small_disk / "filler").write_bytes(bytes(64 << 10))
    large = os.urandom(100 << 10)

    with pytest.raises(StoreError, match=r"small/store/F/1/train/4/task\.json: No space left on device"):
        storage.create(PATH, large)
    with (
        pytest.raises(StoreError, match=r"0\.a/x\.bin: No space left on device"),
        storage.writer("F/1/0.a/x.bin") as file,
    ):
        file.write(large)
    with pytest.raises(StoreError, match="No space left on device"):
        storage.append("F/1/log", large)

    assert sorted(everything_below(small_disk / "store")) == ["F/1/log", "F/1/run.json"]
    (small_disk / "filler").unlink()
    (small_disk / "store/F/1/log").unlink()
    assert storage.create(PATH, large)
    assert storage.read(PATH) == large
    assert storage.read("F/1/run.json") == b"before"


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize(
    "value", [os.urandom(100 << 10), os.urandom(2 << 20), "table"], ids=["pickle", "buffers", "table"]
)
def test_an_artifact_for_which_there_is_no_room_is_no_fault_of_the_value(small_disk: Path, value: Any):
    if value == "table":
        value = pandas.DataFrame({"a": [os.urandom(8).hex() for _ in range(20_000)]})
    writer = ArtifactWriter(RunStore(LocalStorage(str(small_disk)), "F", "1"), TaskName("train", "4"), "0.a")
    (small_disk / "filler").write_bytes(bytes(64 << 10))

    with pytest.raises(StoreError, match=r"0\.a/x\.\w+: No space left on device"):
        writer.save("x", value)

    assert [name for name in everything_below(small_disk) if name != "filler"] == []


@only_local
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("call", ["mkdir", "open", "write", "fsync", "link"])
def test_an_error_of_the_system_names_the_file_and_the_reason(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, call: str, code: int
):
    storage.create("F/1/run.json", b"before")

    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        with pytest.raises(StoreError) as caught:
            storage.create(PATH, DATA)

    assert caught.value.message == f"Can't create {storage.locate(PATH)}: {os.strerror(code)}."
    assert everything_below(Path(storage.url)) == ["F/1/run.json"]
    assert storage.create(PATH, DATA)


@only_local
def test_a_write_that_fails_half_way_leaves_nothing(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch):
    real = os.write
    room = [300]

    def full(descriptor: int, data: Any) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(descriptor, bytes(data)[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", full)

    with pytest.raises(StoreError, match="No space left on device"):
        storage.create(PATH, DATA)

    assert everything_below(Path(storage.url)) == []


@only_local
def test_an_error_in_the_body_of_a_writer_leaves_no_file_and_stays_what_it_is(storage: LocalStorage):
    trouble = PermissionError(errno.EACCES, "the user's own")

    with pytest.raises(PermissionError) as caught, storage.writer("F/1/s/0/0.a/x.pickle") as file:
        file.write(DATA)
        raise trouble

    assert caught.value is trouble
    assert everything_below(Path(storage.url)) == []


def test_a_folder_without_write_permission_is_an_error_that_names_it():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        storage = LocalStorage(folder)
        storage.create("F/1/run.json", b"before")

        def try_all() -> list[str]:
            if os.getuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            else:
                os.chmod(f"{folder}/F/1", 0o555)
            messages = []
            for attempt in (
                lambda: storage.create(PATH, DATA),
                lambda: storage.create("F/1/other.json", DATA),
                lambda: storage.append("F/1/s/0/0.a/stdout.log", DATA),
                lambda: storage.writer("F/1/s/0/0.a/x.pickle").__enter__(),
            ):
                try:
                    attempt()
                except StoreError as error:
                    messages.append(error.message)
            assert storage.read("F/1/run.json") == b"before"
            return messages

        assert in_child(try_all) == [
            f"Can't create {folder}/{PATH}: Permission denied.",
            f"Can't create {folder}/F/1/other.json: Permission denied.",
            f"Can't append to {folder}/F/1/s/0/0.a/stdout.log: Permission denied.",
            f"Can't write {folder}/F/1/s/0/0.a/x.pickle: Permission denied.",
        ]
        os.chmod(f"{folder}/F/1", 0o755)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_what_may_not_be_read_is_an_error_and_not_absent():
    with tempfile.TemporaryDirectory() as folder:
        storage = LocalStorage(folder)
        storage.create("F/1/run.json", b"secret")

        def look() -> list[str]:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            messages = []
            for question in (storage.read, storage.open, storage.exists, storage.names):
                with pytest.raises(StoreError) as caught:
                    question("F/1/run.json")
                messages.append(caught.value.message)
            return messages

        place = f"{folder}/F/1/run.json: Permission denied."
        assert in_child(look) == [f"Can't {verb} {place}" for verb in ("read", "open", "look for", "list")]


# What is in the way


@only_local
def test_a_file_where_a_folder_should_be_is_an_error_that_names_the_path(storage: LocalStorage):
    storage.create("F/1/train", b"a file")
    place = storage.locate(PATH)

    with pytest.raises(StoreError, match="Not a directory") as caught:
        storage.create(PATH, DATA)
    assert place in caught.value.message
    with pytest.raises(StoreError, match="Not a directory"), storage.writer(PATH):
        pass
    with pytest.raises(StoreError, match=f"Can't append to {place}"):
        storage.append(PATH, DATA)

    assert storage.names("F/1/train") == []
    assert not storage.exists(PATH)
    assert storage.read("F/1/train") == b"a file"


@only_local
def test_a_folder_where_a_file_should_be_is_an_error_that_names_the_path(storage: LocalStorage):
    storage.create(f"{PATH}/inner", DATA)

    assert not storage.create(PATH, DATA)

    with pytest.raises(StoreError, match=r"Can't read .*task\.json: Is a directory"):
        storage.read(PATH)


def test_a_link_to_nowhere_as_the_root_is_an_error_that_names_the_path(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    storage = LocalStorage(str(tmp_path / "link"))

    for write in (storage.create, storage.append):
        with pytest.raises(StoreError, match=f"{tmp_path}/link/F/1/train/4/task.json"):
            write(PATH, DATA)


def test_a_missing_file_is_file_not_found(storage: LocalStorage):
    for question in (storage.read, storage.open):
        with pytest.raises(FileNotFoundError):
            question(PATH)
    assert not storage.exists(PATH)
    assert storage.names("F/1") == []
