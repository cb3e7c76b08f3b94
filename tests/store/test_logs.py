"""Lines keep their time and order; of too many both ends are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from daskflow.store import logs
from daskflow.store.logs import TRUNCATED, Lines, LogWriter
from daskflow.store.storage import LocalStorage

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_short_log_stands_in_the_record(tmp_path: Path):
    writer = LogWriter(LocalStorage(str(tmp_path)), "log", 1000)
    writer.add("T", ["one", "two"])

    log = writer.close()

    assert log == logs.Log(8, text="T one\nT two\n")
    assert list(tmp_path.iterdir()) == []


def test_a_log_of_a_task_that_runs_on_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs, "FLUSH_SECONDS", -1)
    writer = LogWriter(LocalStorage(str(tmp_path)), "log", 1000)
    writer.add("T", ["so far"])

    writer.tick()

    assert (tmp_path / "log").read_text() == "T so far\n"
    writer.add("T", ["more"])
    assert writer.close().path == "log"
    assert (tmp_path / "log").read_text() == "T so far\nT more\n"


def test_of_too_long_a_log_the_first_and_the_last_half_are_kept(tmp_path: Path):
    writer = LogWriter(LocalStorage(str(tmp_path)), "log", 20_000)
    writer.add("T", [f"{n:097d}" for n in range(10_000)])

    log = writer.close()
    lines = (tmp_path / "log").read_text().splitlines()

    assert log.size == 980_000
    assert lines[0] == f"T {0:097d}"
    assert lines[-1] == f"T {9999:097d}"
    assert lines.count(f"T {TRUNCATED}") == 1
    assert 19_000 < (tmp_path / "log").stat().st_size < 20_200


def test_one_line_longer_than_all_that_may_be_kept_is_cut(tmp_path: Path):
    writer = LogWriter(LocalStorage(str(tmp_path)), "log", 1000)
    writer.add("T", ["x" * 5000])

    text = writer.close().text

    assert text is not None
    assert TRUNCATED in text
    assert len(text) < 1000


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=9)), st.data())
def test_however_bytes_are_cut_the_lines_are_the_same(texts: list[str], data: st.DataObject):
    raw = "\n".join(texts).encode()
    lines, found = Lines(), []
    while raw:
        size = data.draw(st.integers(1, len(raw)))
        found += lines.feed(raw[:size])
        raw = raw[size:]
    found += lines.end()

    while texts and texts[-1] == "":  # an unfinished line without text is none
        texts = texts[:-1]
        if found and found[-1] == "":
            found = found[:-1]
    assert found == texts or found == [*texts, ""]
