"""Tables of items that share a process: one file for many of them, each still its own."""

from __future__ import annotations

import io
import re

import pandas as pd
import polars as pl
import pytest

TABLES = """
    import os
    import signal
    import pandas as pd
    import polars as pl
    from daskflow import FlowSpec, Parameter, step

    class Tables(FlowSpec):
        killed = Parameter("killed", default=-1)

        @step
        def start(self):
            self.items = range(24)
            self.next(self.work, foreach="items")

        @step
        def work(self):
            rows = self.input % 3 + 1
            self.frame = pd.DataFrame({"i": [self.input] * rows, "s": ["x"] * rows})
            self.mixed = pd.Series([1.5] * rows) if self.input % 2 else pd.Series(["a"] * rows, name="letters")
            self.none = pd.DataFrame({"i": pd.Series([], dtype="int64")})
            self.polars = pl.DataFrame({"i": [self.input]})
            one = pl.Enum(["a", "b"]) if self.input % 2 else pl.Enum(["b", "c"])
            self.letters = pl.Series("letters", ["b"], dtype=one)
            if self.input == self.killed and not os.path.exists("once"):
                open("once", "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            self.next(self.join)

        @step
        def join(self, inputs):
            self.sizes = [len(each.frame) for each in inputs]
            self.values = [int(each.frame["i"].iloc[-1]) for each in inputs]
            self.kinds = [str(each.mixed.dtype) for each in inputs]
            self.names = [each.mixed.name for each in inputs]
            self.indices = {type(each.frame.index).__name__ for each in inputs}
            self.empty = {len(each.none) for each in inputs}
            self.polars = [each.polars.item() for each in inputs]
            self.letters = [(each.letters.name, each.letters[0], *each.letters.dtype.categories) for each in inputs]
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Tables()
"""


def check(result) -> None:
    assert result.value("join", "sizes") == [index % 3 + 1 for index in range(24)]
    assert result.value("join", "values") == list(range(24))
    assert result.value("join", "kinds")[1::2] == ["float64"] * 12
    assert result.value("join", "names") == ["letters", None] * 12
    assert result.value("join", "indices") == {"RangeIndex"}
    assert result.value("join", "empty") == {0}
    assert result.value("join", "polars") == list(range(24))
    assert result.value("join", "letters") == [("letters", "b", "b", "c"), ("letters", "b", "a", "b")] * 12


def files(result, name: str) -> list[io.BytesIO]:
    """What is in the files of an artifact of all items that share one."""
    found = [
        path
        for path in result.store.all("Tables/1/work")
        if re.search(rf"/chunk\..*/{name}[^/]*\.parquet$", path)
    ]
    return [io.BytesIO(result.store.read(path)) for path in found]


@pytest.fixture(scope="module")
def tables(run_flow):
    return run_flow(TABLES, "--chunk", "8")


def test_each_item_has_the_table_that_it_set(tables):
    check(tables)


def test_tables_of_a_chunk_with_one_schema_are_one_file_that_pandas_reads(tables):
    found = files(tables, "frame")

    assert len(found) == 3
    whole = pd.concat(map(pd.read_parquet, found), ignore_index=True)
    assert sorted(whole["i"]) == [index for index in range(24) for _ in range(index % 3 + 1)]


@pytest.mark.parametrize("name", ["mixed", "letters"])
def test_tables_of_a_chunk_with_two_schemas_are_two_files(tables, name):
    assert len(files(tables, name)) == 6


def test_polars_reads_the_one_file_of_its_frames_too(tables):
    found = files(tables, "polars")

    assert len(found) == 3
    assert sorted(pl.concat(map(pl.read_parquet, found))["i"]) == list(range(24))


def test_if_the_process_is_killed_no_table_of_an_incomplete_file_counts(run_flow):
    result = run_flow(TABLES, "--chunk", "8", "--killed", "5")

    check(result)
    assert "Task 1/work/5 failed in a process that it shared" in result.text


RAISES = TABLES.replace("os.kill(os.getpid(), signal.SIGKILL)", "raise ValueError('no')")


def test_what_an_item_set_that_failed_in_company_is_in_no_file_that_others_share(run_flow):
    result = run_flow(RAISES, "--chunk", "8", "--killed", "5")

    check(result)
    shared = pd.concat(map(pd.read_parquet, files(result, "frame")))
    assert 5 not in set(shared["i"])
    assert len(shared) == sum(index % 3 + 1 for index in range(24) if index != 5)
