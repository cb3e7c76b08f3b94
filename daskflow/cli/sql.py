"""``daskflow sql``: a query over the runs of a flow."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from daskflow import settings

if TYPE_CHECKING:
    from daskflow.client.sql import Answer


@click.command()
@click.argument("query")
@click.option("--flow", required=True, metavar="FLOW", help="Whose runs.")
@click.option(
    "--run",
    "runs",
    multiple=True,
    metavar="RUN",
    help="Only this run; may be repeated.  [default: all that are yours]",
)
@click.option("--datastore", "--datastore-root", metavar="DIR", help="Where results are kept.")
@click.option("--json", "as_json", is_flag=True, help="For a program: a line of JSON a row.")
@click.option("--csv", "as_csv", is_flag=True, help="For a program: CSV, with a line of names.")
def sql(
    query: str, flow: str, runs: tuple[str, ...], datastore: str | None, as_json: bool, as_csv: bool
) -> None:
    """Answer a QUERY in SQL, by DuckDB (pip install 'daskflow[sql]').

    Each step of the flow is a table with a row a task, as Step.to_pandas() has it: "select run, avg(score) from fit group by
    run". A table that tasks of the step set is one too: "from fit.features", with run, task and index in front. Only what
    the query names is read.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude one another.")
    from daskflow.client.sql import query as answer_of
    from daskflow.client.unions import free_name

    answer = answer_of(query, flow, runs, settings.datastore_root(settings.load(), option=datastore))
    if as_json:
        taken: set[str] = set()
        names = [free_name(name, taken) for name in answer.columns]
        for row in answer.rows:
            click.echo(json.dumps(dict(zip(names, map(_for_json, row), strict=True))))
    elif as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([answer.columns, *answer.rows])
    elif sys.stdout.isatty():
        _table(answer)
    else:
        _plain(answer)


def _for_json(value: Any) -> Any:
    """What JSON has, as it is; not a number is nothing; of everything else the text."""
    if isinstance(value, dict):
        return {str(key): _for_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return list(map(_for_json, value))
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _table(answer: Answer) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for name in answer.columns:
        table.add_column(Text(name))
    for row in answer.rows:
        table.add_row(*(Text(_text(value)) for value in row))
    Console().print(table)


def _plain(answer: Answer) -> None:
    lines = [answer.columns, *([_text(value) for value in row] for row in answer.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
