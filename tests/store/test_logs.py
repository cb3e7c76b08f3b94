"""What a task wrote, as it is kept."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskflow.errors import StoreError
from daskflow.store import logs
from daskflow.store.logs import INLINE_BYTES, TRUNCATED, Lines, LogWriter
from daskflow.store.storage import LocalStorage

if TYPE_CHECKING:
    from daskflow.store.records import Log

PATH = "F/1/s/0/0.a/stdout.log"
WHEN = "2024-01-02T03:04:05.000006Z"


class Appended:
    """A storage that keeps logs in memory."""

    append_bytes, append_seconds = LocalStorage.append_bytes, LocalStorage.append_seconds

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def append(self, path: str, data: bytes, size: int = 0) -> None:
        assert size == len(self.files.get(path, b""))
        self.files[path] = self.files.get(path, b"") + data


def texts(stored: str) -> list[str]:
    """The lines as the task wrote them."""
    *lines, last = stored.split("\n")
    assert last == ""
    assert all(line.startswith(f"{WHEN} ") for line in lines)
    return [line[len(WHEN) + 1 :] for line in lines]


def kept(lines: list[str], max_bytes: int = 10_000_000, batch: int = 1) -> tuple[list[str], Log, Appended]:
    storage: Any = Appended()
    writer = LogWriter(storage, PATH, max_bytes)
    for first in range(0, len(lines), batch):
        writer.add(WHEN, lines[first : first + batch])
    log = writer.close()
    stored = log.text if log.text is not None else storage.files[log.path].decode()
    return texts(stored), log, storage


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def fed(parts: list[bytes], max_line: int = 1 << 20) -> list[str]:
    lines = Lines(max_line)
    return [line for part in parts for line in lines.feed(part)] + lines.end()


# Bytes to lines


@settings(deadline=None)
@given(
    st.text("aä雪🦆\n\r\u2028", max_size=60).map(str.encode) | st.binary(max_size=60),
    st.lists(st.integers(0, 1000), max_size=12),
    st.integers(1, 20),
)
def test_however_bytes_are_cut_into_feeds_the_lines_are_the_same(data: bytes, cuts: list[int], max_line: int):
    assert fed(cut(data, cuts), max_line) == fed([data], max_line)


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.lists(st.integers(0, 1000), max_size=8))
def test_a_character_that_is_cut_in_two_comes_out_whole(text: str, cuts: list[int]):
    lines = fed(cut(text.encode(), cuts))

    assert "\n".join(lines) == text.removesuffix("\n")


@given(st.text("aä雪🦆", max_size=60), st.integers(4, 20))
def test_a_line_that_is_too_long_becomes_several_and_no_character_is_lost(text: str, max_line: int):
    lines = fed([text.encode(), b"\n"], max_line)

    assert "".join(lines) == text
    assert all(len(line.encode()) <= max_line for line in lines)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\n\nb\n", ["a", "", "b"]),
        (b"no end", ["no end"]),
        (b"\xff\xfe\n", ["\ufffd\ufffd"]),
        (b"50%\r100%\r\n", ["50%\r100%\r"]),
        (b"123456789012345678901\n", ["1234567890", "1234567890", "1"]),
        (b"1234567890\n1\n", ["1234567890", "1"]),
    ],
    ids=repr,
)
def test_what_counts_as_a_line(data: bytes, lines: list[str]):
    assert fed([data], max_line=10) == lines


def test_an_unfinished_line_is_held_back_until_it_ends():
    lines = Lines()

    assert lines.feed(b"half") == []
    assert lines.feed(b" and half\nrest") == ["half and half"]
    assert lines.end() == ["rest"]
    assert lines.end() == []


# Lines to what is kept


def test_a_task_that_wrote_nothing_has_an_empty_log():
    lines, log, storage = kept([])

    assert (lines, log.size, log.text, log.path) == ([], 0, "", None)
    assert storage.files == {}


def test_a_small_log_stays_in_the_record():
    lines, log, storage = kept(["one", "", "grün"])

    assert lines == ["one", "", "grün"]
    assert log.size == len("one\n\ngrün\n".encode())
    assert storage.files == {}


def test_a_larger_log_is_a_file():
    wrote = [f"line {n}" for n in range(1000)]

    lines, log, _storage = kept(wrote)

    assert lines == wrote
    assert (log.text, log.path) == (None, PATH)
    assert log.size == sum(len(line) + 1 for line in wrote)


def test_the_record_takes_just_so_much():
    stamp = len(WHEN) + 2

    assert kept(["x" * (INLINE_BYTES - stamp)])[1].path is None
    assert kept(["x" * (INLINE_BYTES - stamp + 1)])[1].path == PATH


def test_of_a_log_that_is_too_long_the_first_and_last_half_are_kept_with_a_marker_between():
    wrote = [f"{n:06d} {'x' * 64}" for n in range(10_000)]

    lines, log, _ = kept(wrote, max_bytes=20_000)

    (place,) = [n for n, line in enumerate(lines) if line == TRUNCATED]
    head, tail = lines[:place], lines[place + 1 :]
    assert head == wrote[: len(head)]
    assert tail == wrote[-len(tail) :]
    assert len(head) == len(tail) == 100
    assert log.size == 71 * 10_000 + 10_000


@settings(deadline=None)
@given(
    st.lists(st.text("aä🦆", max_size=400), max_size=40),
    st.integers(512, 3000),
    st.integers(1, 7),
)
def test_no_more_is_kept_than_may_be_and_only_the_middle_is_missing(
    wrote: list[str], max_bytes: int, batch: int
):
    lines, log, storage = kept(wrote, max_bytes, batch)

    stored = sum(len(WHEN) + len(line.encode()) + 2 for line in lines if line != TRUNCATED)
    whole = sum(len(WHEN) + len(line.encode()) + 2 for line in wrote)
    assert log.size == sum(len(line.encode()) + 1 for line in wrote)
    assert stored <= max(max_bytes, whole)
    if TRUNCATED in lines:
        assert whole > max_bytes or any(len(line.encode()) > max_bytes // 2 - 30 for line in wrote)
        place = lines.index(TRUNCATED)
        assert "".join(wrote).startswith("".join(lines[:place]))
        assert "".join(wrote).endswith("".join(lines[place + 1 :]))
        assert stored <= max_bytes
        assert stored > max_bytes // 4
    else:
        assert "".join(lines) == "".join(wrote)
        if all(len(line.encode()) <= max_bytes // 2 - 30 for line in wrote):
            assert lines == wrote
    assert (lines, log, storage.files) == tuple_of(kept(wrote, max_bytes, 1000))


def tuple_of(found: tuple[list[str], Log, Appended]) -> tuple[list[str], Log, dict[str, bytes]]:
    return found[0], found[1], found[2].files


def test_a_log_that_just_fits_is_kept_whole_whatever_the_lengths_of_its_lines():
    wrote = ["x" * 10, "y" * 180, *["z" * 150] * 3]
    size = sum(len(WHEN) + len(line) + 2 for line in wrote)

    assert kept(wrote, size)[0] == wrote
    assert TRUNCATED in kept(wrote, size - 1)[0]


def test_of_one_line_longer_than_the_maximum_both_ends_are_kept():
    line = "".join(f"{n:07d}," for n in range(10_000))

    lines, log, _ = kept([line], max_bytes=2000)

    place = lines.index(TRUNCATED)
    assert line.startswith("".join(lines[:place]))
    assert line.endswith("".join(lines[place + 1 :]))
    assert len("".join(lines[:place])) > 900
    assert log.size == 80_001


def test_a_line_with_line_ends_or_half_surrogates_does_not_break_the_file(storage: LocalStorage):
    writer = LogWriter(storage, PATH, 10_000_000)
    writer.add(WHEN, ["ended process 7 (sh -c 'a\nb'), \udcff", "x" * INLINE_BYTES])
    log = writer.close()

    assert log.path == PATH
    assert texts(storage.read(PATH).decode("utf-8"))[:2] == ["ended process 7 (sh -c 'a", "b'), \\udcff"]


# While the task runs


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    return now


def test_a_log_can_be_read_while_its_task_runs_on(storage: LocalStorage, clock: list[float]):
    writer = LogWriter(storage, PATH, 10_000_000)
    writer.add(WHEN, ["first"])
    writer.tick()
    assert not storage.exists(PATH)

    clock[0] += storage.append_seconds + 0.1
    writer.tick()
    assert texts(storage.read(PATH).decode()) == ["first"]

    writer.add(WHEN, ["second"])
    assert texts(storage.read(PATH).decode()) == ["first"]
    clock[0] += storage.append_seconds + 0.1
    writer.add(WHEN, ["third"])
    assert texts(storage.read(PATH).decode()) == ["first", "second", "third"]

    log = writer.close()
    assert (log.path, log.text) == (PATH, None)
    assert texts(storage.read(PATH).decode()) == ["first", "second", "third"]


def test_a_task_that_is_silent_makes_no_file_however_long_it_runs(storage: LocalStorage, clock: list[float]):
    writer = LogWriter(storage, PATH, 10_000_000)
    clock[0] += 1000
    writer.tick()

    assert writer.close().text == ""
    assert storage.names("") == []


def test_much_output_is_not_held_in_memory(storage: LocalStorage, clock: list[float]):
    writer = LogWriter(storage, PATH, 10_000_000)

    writer.add(WHEN, ["x" * INLINE_BYTES])

    assert texts(storage.read(PATH).decode()) == ["x" * INLINE_BYTES]


def test_a_log_that_can_not_be_written_does_not_disturb_its_task_and_is_told_at_the_end(
    storage: LocalStorage,
):
    storage.create("F/1/s/0/0.a", b"a file where the log's folder should be")
    log = LogWriter(storage, PATH, 1 << 20)

    for number in range(1_000):
        log.add(WHEN, [f"line {number}"])
        log.tick()

    with pytest.raises(StoreError, match=r"Can't append to .*/F/1/s/0/0\.a/stdout\.log: "):
        log.close()


def test_what_the_store_refused_for_a_while_is_in_the_log_all_the_same(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, clock: list[float]
):
    tries = []

    def refuse(*what: Any) -> None:
        tries.append(what)
        LocalStorage.append(LocalStorage(storage.url), PATH, b"half a l")
        raise StoreError("the disk is full.")

    log = LogWriter(storage, PATH, 1 << 20)
    wrote = ["x" * 2 * INLINE_BYTES, *(f"line {number}" for number in range(1000))]
    with monkeypatch.context() as patched:
        patched.setattr(storage, "append", refuse)
        for line in wrote:
            log.add(WHEN, [line])
        assert len(tries) == 1, "a task does not wait for the store at each of its lines"

    clock[0] += storage.append_seconds + 0.1
    log.add(WHEN, ["there is room again"])

    assert log.close().path == PATH
    assert texts(storage.read(PATH).decode()) == [*wrote, "there is room again"]


def test_a_log_that_the_store_does_not_take_to_the_end_is_no_log(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
):
    def refuse(path: str, data: bytes, size: int) -> None:
        raise StoreError("the disk is full.")

    log = LogWriter(storage, PATH, 1 << 20)
    log.add(WHEN, ["x" * 2 * INLINE_BYTES])
    monkeypatch.setattr(storage, "append", refuse)
    log.add(WHEN, ["the rest"])

    with pytest.raises(StoreError, match="disk is full"):
        log.close()
