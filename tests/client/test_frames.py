"""A column has the one type that its values have; what a frame or an index holds is what the records say."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.client.frames import Rows, column_of, series
from daskflow.client.index import decoded, encoded
from daskflow.store.serializers import Encoded
from daskflow.store.serializers.typed_json import TypedJsonSerializer

TOKYO = dt.timezone(dt.timedelta(hours=9))
NOON = dt.datetime(2026, 1, 1, 12)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        ([1, None], "Int64"),
        ([1.5, None], "float64"),
        ([1, 2.5, None], "float64"),
        ([2**53 + 1, 2.5], "object"),
        ([True, False], "bool"),
        ([True, None], "boolean"),
        (["a", None], str(pd.Series(["a", None]).dtype)),
        ([None, None], "object"),
        ([1, "a"], "object"),
        ([True, 1], "object"),
        ([2**70, 1], "object"),
        ([NOON.replace(tzinfo=TOKYO), pd.Timestamp(NOON, tz="UTC")], "datetime64[us, UTC]"),
        ([NOON, NOON.replace(tzinfo=TOKYO)], "object"),
        ([dt.date(2026, 1, 1), None], "object"),
        ([Decimal("1.1")], "object"),
    ],
)
def test_a_column_is_of_the_one_type_that_its_values_have(values: list, dtype: str):
    found = series(values)

    assert str(found.dtype) == dtype
    assert found.isna().tolist() == [value is None for value in values]
    assert [value for value in found if not pd.isna(value)] == [
        value for value in values if value is not None
    ]


def test_times_without_a_zone_and_durations_have_types_of_their_own():
    assert series([NOON, None]).dtype.kind == "M"
    assert series([dt.timedelta(1), None]).dtype.kind == "m"


def test_rows_that_lack_a_column_are_filled_up():
    rows = Rows()
    rows.add_each([{"task": "0", "x": 1}, {"task": "1"}])
    rows.add(1, {"task": ["2"], "y": ["a"]})

    frame = rows.frame()

    assert frame["x"].isna().tolist() == [False, True, True]
    assert frame["y"].isna().tolist() == [True, True, False]
    assert list(Rows().frame().columns) == list(frame.columns.drop(["x", "y"]))


@pytest.mark.parametrize(
    ("artifact", "column"), [("score", "score"), ("run", "run_"), ("run_", "run__"), ("x_", "x_")]
)
def test_an_artifact_that_is_called_as_a_fact_gets_an_underscore(artifact: str, column: str):
    assert column_of(artifact) == column


def in_records(value: object) -> bool:
    """Whether a record can hold it."""
    return isinstance(TypedJsonSerializer().encode(value, lambda _: pytest.fail("a file"), 1 << 14), Encoded)


SINGLE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.dates(), st.timedeltas(),
    st.datetimes(), st.datetimes(timezones=st.just(dt.UTC)), st.decimals(allow_nan=False),
).filter(in_records)  # fmt: skip


@given(st.lists(st.fixed_dictionaries({"x": SINGLE, "y": SINGLE}), min_size=1, max_size=5))
def test_an_index_gives_back_what_it_was_given(values: list[dict]):
    began = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    rows = [{"task": str(n), "index": n, "started": began, **row} for n, row in enumerate(values)]

    back = decoded(encoded(rows, {"run": 1, "step": "s"}))

    for row in rows:
        found = back[row["task"]]
        assert {name: repr(found[name]) for name in ("task", "index", "x", "y")} == {
            name: repr(row[name]) for name in ("task", "index", "x", "y")
        }
        assert found["started"] == began
        assert "run" not in found


def test_an_index_is_a_table_that_any_program_reads():
    rows = [{"task": "0", "score": 1.5, "mixed": 1}, {"task": "1", "score": 2.5, "mixed": "a"}]

    import io

    table = pq.read_table(io.BytesIO(encoded(rows, {"run": 3, "step": "s", "alpha": 5})))

    assert table["score"].to_pylist() == [1.5, 2.5]
    assert table["alpha"].to_pylist() == [5, 5]
    assert table["mixed"].to_pylist() == ["1", '"a"']
    assert table.schema.field("mixed").metadata[b"daskflow.encoding"] == b"json"
