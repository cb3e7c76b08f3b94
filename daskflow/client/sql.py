"""SQL over the runs of a flow, by DuckDB: each step a table of its tasks, each table artifact a table of its rows.

Step ``fit`` is the table ``fit``, as :meth:`Step.to_pandas` has it for all runs together. The artifact ``features`` of its
tasks is ``fit.features``: the rows of all of them, with ``run``, ``task`` and ``index`` in front; a column of such a name
has an underscore behind it. A step whose name is that of one of DuckDB's own schemas, or of another step but for capitals,
has an underscore behind it in both. Only what a query names is read, and nothing is unpickled.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from daskflow.client.base import reopen, storage_of
from daskflow.client.frames import Rows
from daskflow.client.rows import RunRows
from daskflow.client.runs import Flow, Run
from daskflow.client.unions import TAGS, shown, union_of
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


class Answer(NamedTuple):
    """What a query returned: names of columns, and rows."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


class _Named(NamedTuple):
    """What a query speaks of, in small letters: tables with their schemas, or all there are; columns, or all."""

    tables: frozenset[tuple[str, str]] | None
    columns: frozenset[str] | None


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
            found = connection.execute(sql)
            return Answer([column[0] for column in found.description], found.fetchall())
        except duckdb.CatalogException as error:
            steps = ", ".join(sorted(tables.steps))
            raise CommandException(f"{error}\n\nThe steps are: {steps}.") from error
        except duckdb.Error as error:
            raise CommandException(str(error)) from error
        except FileNotFoundError as error:
            raise DataMissing(f"The file of a table is missing: {error}") from error


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
    words: set[str] = set()
    every_table = every_column = False
    for node in _nodes(parsed):
        kind = node.get("type")
        if kind == "BASE_TABLE":
            tables.add((node["schema_name"].lower(), node["table_name"].lower()))
        every_table |= (kind == "SHOW_REF" and node["query"] is None) or str(
            node.get("schema_name")
        ).lower() in (
            "information_schema",
            "pg_catalog",
        )
        every_column |= kind in ("STAR", "SHOW_REF") or node.get("ref_type") == "NATURAL"
        words.update(_words(node))
    return _Named(None if every_table else frozenset(tables), None if every_column else frozenset(words))


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """All objects within JSON."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _nodes(inner)


def _words(node: dict[str, Any]) -> Iterator[str]:
    """All texts that may be a column's name."""
    for value in node.values():
        yield from (
            each.lower() for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)
        )


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
        for name, step in self.steps.items():
            if named.tables is None or any((schema, name.lower()) in named.tables for schema in ("", "temp")):
                yield ("", name), self._of_step(step)
            wanted = None if named.tables is None else {t for s, t in named.tables if s == name.lower()}
            if wanted is None or wanted:
                stores, taken = [run._store for run in self._runs], set[str]()
                for artifact, table in union_of(stores, step, wanted, named.columns):
                    yield (name, free_name(artifact, taken)), table

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


def free_name(name: str, taken: set[str]) -> str:
    """A name that SQL, to which capitals are the same, does not know yet; it does from now on."""
    while name.lower() in taken:
        name += "_"
    taken.add(name.lower())
    return name


def _as_arrow(frame: pd.DataFrame) -> pa.Table:
    """A frame as SQL has it: of values of several types, their texts."""
    import pyarrow as pa

    columns = {}
    for name, column in frame.items():
        try:
            columns[name] = pa.Array.from_pandas(column)
        except (pa.ArrowException, OverflowError):
            columns[name] = pa.array([None if value is None else str(value) for value in column])
    return pa.table(columns)
