"""SQL over the runs of a flow, by DuckDB: each step a table of its tasks, each table artifact a table of its rows.

Step ``fit`` is the table ``fit``, as :meth:`Step.to_pandas` has it for all runs together. The artifact ``features`` of its
tasks is ``fit.features``: the rows of all of them, with ``run``, ``task`` and ``index`` in front; a column of such a name
has an underscore behind it. A step whose name is that of one of DuckDB's own schemas, or of another step but for capitals,
has an underscore behind it in both; so has a table that is called as another one of its step but for capitals. Only what a
query names is read, and nothing is unpickled.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from daskflow.client.base import reopen, storage_of
from daskflow.client.frames import Rows
from daskflow.client.rows import RunRows
from daskflow.client.runs import Flow, Run
from daskflow.client.unions import TAGS, free_name, shown, union_of, without_nanoseconds
from daskflow.errors import CommandException, DataException, DataMissing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    import pyarrow as pa

_TAKEN = frozenset({"main", "temp", "system", "memory", "information_schema", "pg_catalog"})
"""Names that mean something to DuckDB where a table or its schema is named."""


_SETTINGS = (
    "timezone = 'UTC'",
    "python_enable_replacements = false",
    "enable_external_access = false",
    "lock_configuration = true",
)
"""So that times are those of the frames, and a query sees nothing but the tables: no file, no variable of this program."""


_BY_NANOSECOND = re.compile(r"\bTIME(STAMP(TZ)?)?_NS\b")


class Answer(NamedTuple):
    """What a query returned: names of columns, and rows."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


class _Named(NamedTuple):
    """What a query speaks of, in small letters: tables with their schemas, and whether it lists all there are."""

    tables: frozenset[tuple[str, str]]
    lists: bool


def query(sql: str, flow: str, runs: Sequence[str] = (), store: str | None = None) -> Answer:
    """What a query of a flow's runs returns.

    Parameters
    ----------
    sql
        One statement that only reads.
    flow
        The flow's name.
    runs
        Numbers of runs; all that the namespace shows if there is none.
    store
        The directory or URL of the store; None for the one the settings name.

    Raises
    ------
    CommandException
        If the statement is wrong, or would do more than read; the words are DuckDB's.
    DataException
        If DuckDB is not installed.
    NotFound, NamespaceMismatch
        If there is no such flow or run, or none that the namespace shows.
    """
    duckdb = _duckdb()
    with duckdb.connect(":memory:", config={"autoload_known_extensions": False}) as connection:
        try:
            named = _named(connection, sql)
            tables = _Tables(_runs(flow, runs, store))
            for step in tables.steps:
                connection.execute(f"create schema {_quoted(step)}").fetchall()
            for name, table in tables.of(named):
                distinct = _distinct(table)
                connection.register(".".join(filter(None, name)), distinct)
                _show(connection, name, distinct.schema.names)
            for setting in _SETTINGS:
                connection.execute(f"set {setting}").fetchall()
            return _answer(connection, sql)
        except duckdb.CatalogException as error:
            steps = ", ".join(sorted(tables.steps))
            raise CommandException(f"{error}\n\nThe steps are: {steps}.") from error
        except duckdb.Error as error:
            raise CommandException(str(error)) from error
        except FileNotFoundError as error:
            raise DataMissing(f"The file of a table is missing: {error}") from error


def _answer(connection: Any, sql: str) -> Answer:
    """What a query returns. Python's times have no nanoseconds: those of such columns are pandas' or, within others, texts."""
    import pandas as pd

    found = connection.execute(sql)
    names, kinds = (
        [column[0] for column in found.description],
        [str(column[1]) for column in found.description],
    )
    rows = found.fetchall()
    exact = [_BY_NANOSECOND.sub("VARCHAR", kind) for kind in kinds]
    if exact == kinds:
        return Answer(names, rows)
    [(text,)] = connection.execute(
        "select json_deserialize_sql(json_serialize_sql(?::varchar))", [sql]
    ).fetchall()
    columns = [f"c{place}" for place in range(len(kinds))]
    chosen = [
        column if same == kind else f"{column}::{same}"
        for column, kind, same in zip(columns, kinds, exact, strict=True)
    ]
    found = connection.execute(f"select {', '.join(chosen)} from ({text}) as answer({', '.join(columns)})")
    are_times = [kind in ("TIMESTAMP_NS", "TIMESTAMPTZ_NS") for kind in kinds]
    rows = [
        tuple(
            pd.Timestamp(value) if is_time and value is not None else value
            for value, is_time in zip(row, are_times, strict=True)
        )
        for row in found.fetchall()
    ]
    return Answer(names, rows)


def _duckdb() -> Any:
    try:
        import duckdb
    except ModuleNotFoundError as error:
        if error.name != "duckdb":
            raise
        raise DataException(
            "SQL needs DuckDB, which is not installed: pip install 'daskflow[sql]'."
        ) from error
    return duckdb


def _runs(flow: str, runs: Sequence[str], store: str | None) -> list[Run]:
    """The runs, oldest first; those that are named whoever's they are."""
    if not runs:
        return list(reversed(list(Flow(flow, store))))
    url = storage_of(store).url
    return [
        reopen(Run, f"{flow}/{run}", url, None) for run in sorted(set(runs), key=lambda run: (len(run), run))
    ]


def _show(connection: Any, name: tuple[str, str], columns: list[str]) -> None:
    """Let what was registered as ``fit.features`` be the table ``features`` of the schema ``fit``."""
    if not name[0]:
        return
    front = {f"__{tag}": tag for tag in TAGS} | {tag: tag for tag in TAGS if f"__{tag}" not in columns}
    chosen = [f"{_quoted(each)} as {_quoted(front.get(each) or shown(each))}" for each in columns]
    schema, table = map(_quoted, name)
    connection.execute(
        f"create view {schema}.{table} as select {', '.join(chosen)} from {_quoted('.'.join(name))}"
    ).fetchall()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _named(connection: Any, sql: str) -> _Named:
    """What a query speaks of, by DuckDB's own parser.

    Raises :class:`CommandException` if it is not one query, and what DuckDB raises of a mistake.
    """
    connection.extract_statements(sql)  # a mistake is told with its place
    [(text,)] = connection.execute("select json_serialize_sql(?::varchar)", [sql]).fetchall()
    parsed = json.loads(text)
    if parsed["error"]:
        raise CommandException(
            "Only a query can be carried out: SELECT, FROM, WITH, DESCRIBE, SUMMARIZE or SHOW TABLES."
        )
    if len(parsed["statements"]) != 1:
        raise CommandException(f"One query at a time: there are {len(parsed['statements'])}.")
    tables: set[tuple[str, str]] = set()
    lists = False
    for node in _nodes(parsed):
        kind = node.get("type")
        if kind == "BASE_TABLE":
            tables.add((node["schema_name"].lower(), node["table_name"].lower()))
        lists |= (kind == "SHOW_REF" and node["query"] is None) or str(node.get("schema_name")).lower() in (
            "information_schema",
            "pg_catalog",
        )
    return _Named(frozenset(tables), lists)


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """All objects within JSON."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _nodes(inner)


class _Tables:
    """The tables of some runs of a flow."""

    def __init__(self, runs: list[Run]) -> None:
        self._runs = runs
        self.steps: dict[str, str] = {}
        """The name of each step in SQL."""
        taken = set(_TAKEN)
        for step in dict.fromkeys(step for run in runs for step in reversed(run._child_names())):
            self.steps[free_name(step, taken)] = step

    def of(self, named: _Named) -> Iterator[tuple[tuple[str, str], Any]]:
        """Those that a query names, with their names: schema, which of a step is empty, and table."""
        stores = [run._store for run in self._runs]
        for name, step in self.steps.items():
            if named.lists or any((schema, name.lower()) in named.tables for schema in ("", "temp")):
                yield ("", name), self._of_step(step)
            wanted = {table for schema, table in named.tables if schema == name.lower()}
            if wanted or named.lists:
                for artifact, table in union_of(stores, step, wanted, others=named.lists):
                    yield (name, artifact), table

    def _of_step(self, step: str) -> pa.Table:
        rows = Rows()
        for run in self._runs:
            found = RunRows(run._store).of_steps([step])
            rows.add(found.count, found.columns)
        return _as_arrow(rows.frame())


def _distinct(table: Any) -> Any:
    """A table whose columns SQL can tell apart; one that is a dataset is loaded if they are not so yet."""
    taken: set[str] = set()
    names = [free_name(name, taken) for name in table.schema.names]
    if names == table.schema.names:
        return table
    return (table if hasattr(table, "rename_columns") else table.to_table()).rename_columns(names)


def _as_arrow(frame: pd.DataFrame) -> pa.Table:
    """A frame as SQL has it: of values of several types, their texts."""
    import pyarrow as pa

    columns = {}
    for name, column in frame.items():
        try:
            columns[name] = pa.Array.from_pandas(column)
        except (pa.ArrowException, OverflowError):
            columns[name] = pa.array([None if value is None else str(value) for value in column])
    table = pa.table(columns)
    return table.cast(without_nanoseconds(table.schema))
