"""``dump``: the artifacts of tasks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from daskflow.cli.pathspecs import tasks_at
from daskflow.errors import DataException, DataMissing

if TYPE_CHECKING:
    from daskflow.cli.entry import Invocation
    from daskflow.client import DataArtifact, Task

TOO_LARGE = "< artifact too large >"


@click.command()
@click.argument("pathspec", metavar="RUN[/STEP[/TASK]]")
@click.option("--private", is_flag=True, help="Also what starts with an underscore.")
@click.option(
    "--max-value-size",
    type=click.IntRange(min=0),
    help="Bytes of a value to show, 1000 unless given.",
)
@click.option("--include", metavar="NAME,NAME", help="Only these.")
@click.option("--load", is_flag=True, help="Also load pickles, which runs the code they name.")
@click.option("--file", "path", metavar="FILE", help="Pickle {pathspec: {name: value}} there, of any size.")
@click.option(
    "--json", "as_json", is_flag=True, help="For a program: a line of JSON an artifact, nothing shortened."
)
@click.pass_obj
def dump(  # noqa: PLR0913,PLR0917 - one argument an option, passed by click by name
    invocation: Invocation,
    pathspec: str,
    private: bool,
    max_value_size: int | None,
    include: str | None,
    load: bool,
    path: str | None,
    as_json: bool,
) -> None:
    """Show the artifacts of a task, or of all tasks of a step or run."""
    if as_json and max_value_size is not None:
        raise click.UsageError("--json shows whole values. Leave --max-value-size out.")
    wanted = set(include.split(",")) if include else None
    chosen = {
        task: [artifact for artifact in _artifacts(task, private) if wanted is None or artifact.id in wanted]
        for task in tasks_at(invocation, pathspec)
    }
    if path is not None:
        _write(path, chosen)
        return
    limit = 1000 if max_value_size is None else max_value_size
    unreadable = False
    for task, artifacts in chosen.items():
        if not as_json:
            click.echo(f"Dumping output of {_short(task)}")
        for artifact in artifacts:
            if as_json:
                click.echo(json.dumps(_facts(task, artifact, load)))
            else:
                try:
                    value = _value(artifact, limit, load)
                except (DataException, DataMissing) as error:  # the others can be shown all the same
                    value, unreadable = f"< {error.message} >", True
                click.echo(f"{artifact.id} [size: {artifact.size} type: {artifact.type}] = {value}")
    if unreadable:
        raise click.exceptions.Exit(1)


def _short(task: Task) -> str:
    return "/".join(task.path_components[1:])


def _artifacts(task: Task, private: bool) -> list[DataArtifact]:
    return [task._child(name) for name in sorted(task._refs) if private or not name.startswith("_")]


def _facts(task: Task, artifact: DataArtifact, load: bool) -> dict[str, Any]:
    """All that is known of an artifact, and its value if the record holds one that is JSON."""
    found: dict[str, Any] = {
        "task": task.pathspec,
        "name": artifact.id,
        "type": artifact.type,
        "size": artifact.size,
        "encoding": artifact.encoding,
    }
    if artifact.path is not None:
        found["path"] = artifact.path
        if artifact.row_group is not None:
            found["row_group"] = artifact.row_group
    elif artifact.encoding != "pickle":
        found["value"] = artifact._ref.inline
    if artifact.rows is not None:
        found |= {"rows": artifact.rows, "columns": len(artifact.schema), "schema": artifact.schema}
    if artifact.encoding == "pickle":
        found |= {"why": artifact.why} | ({"repr": repr(artifact.data)} if load else {})
    return found


def _value(artifact: DataArtifact, limit: int, load: bool) -> str:
    if artifact.encoding == "pickle" and not load:
        return "< a pickle: --load shows it >"
    if artifact.size > limit and artifact.encoding not in ("parquet", "dask"):
        return TOO_LARGE
    if artifact.encoding == "parquet":
        return _table(artifact, limit)
    if artifact.encoding == "dask":
        return f"{artifact.path}, {artifact.rows} rows in {artifact._ref.info['npartitions']} partitions"
    text = repr(artifact.data)
    return text if len(text) <= max(limit, 4 * artifact.size) else TOO_LARGE


def _table(artifact: DataArtifact, limit: int) -> str:
    if artifact.size > 1000 * limit:
        return f"{TOO_LARGE} {artifact.path}"
    part = "" if artifact.row_group is None else f", row group {artifact.row_group}"
    return f"{artifact.path}{part}\n{artifact.data}"


def _write(path: str, chosen: dict[Task, list[DataArtifact]]) -> None:
    import cloudpickle

    values = {_short(task): {a.id: a.data for a in artifacts} for task, artifacts in chosen.items()}
    try:
        with open(path, "wb") as file:
            cloudpickle.dump(values, file)
    except OSError as error:
        raise click.FileError(path, error.strerror) from error
    click.echo(f"Artifacts written to {path}", err=True)
