"""``dump``: the artifacts of tasks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from daskflow.cli.pathspecs import tasks_at

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
    default=1000,
    show_default=True,
    help="Bytes of a value to show.",
)
@click.option("--include", metavar="NAME,NAME", help="Only these.")
@click.option("--load", is_flag=True, help="Also load pickles, which runs the code they name.")
@click.option("--file", "path", metavar="FILE", help="Pickle {pathspec: {name: value}} there, of any size.")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def dump(  # noqa: PLR0913,PLR0917 - one argument an option, passed by click by name
    invocation: Invocation,
    pathspec: str,
    private: bool,
    max_value_size: int,
    include: str | None,
    load: bool,
    path: str | None,
    as_json: bool,
) -> None:
    """Show the artifacts of a task, or of all tasks of a step or run."""
    wanted = set(include.split(",")) if include else None
    chosen = {
        task: [artifact for artifact in _artifacts(task, private) if wanted is None or artifact.id in wanted]
        for task in tasks_at(invocation, pathspec)
    }
    if path is not None:
        _write(path, chosen)
        return
    shown = {
        _short(task): {a.id: _described(a, max_value_size, load) for a in artifacts}
        for task, artifacts in chosen.items()
    }
    if as_json:
        click.echo(json.dumps(shown, indent=2, default=str))
        return
    for name, values in shown.items():
        click.echo(f"Dumping output of {name}")
        for artifact, facts in values.items():
            click.echo(f"{artifact} [size: {facts['size']} type: {facts['type']}] = {facts['value']}")


def _short(task: Task) -> str:
    return "/".join(task.path_components[1:])


def _artifacts(task: Task, private: bool) -> list[DataArtifact]:
    return [task[name] for name in sorted(task._refs) if private or not name.startswith("_")]


def _described(artifact: DataArtifact, limit: int, load: bool) -> dict[str, Any]:
    return {"size": artifact.size, "type": artifact.type, "value": _value(artifact, limit, load)}


def _value(artifact: DataArtifact, limit: int, load: bool) -> str:
    if artifact.encoding == "pickle" and not load:
        return "< a pickle: --load shows it >"
    if artifact.size > limit and artifact.encoding != "parquet":
        return TOO_LARGE
    if artifact.encoding == "parquet":
        return _table(artifact, limit)
    text = repr(artifact.data)
    return text if len(text) <= max(limit, 4 * artifact.size) else TOO_LARGE


def _table(artifact: DataArtifact, limit: int) -> str:
    if artifact.size > 1000 * limit:
        return f"{TOO_LARGE} {artifact.path}"
    return f"{artifact.path}\n{artifact.data}"


def _write(path: str, chosen: dict[Task, list[DataArtifact]]) -> None:
    import cloudpickle

    values = {_short(task): {a.id: a.data for a in artifacts} for task, artifacts in chosen.items()}
    try:
        with open(path, "wb") as file:
            cloudpickle.dump(values, file)
    except OSError as error:
        raise click.FileError(path, error.strerror) from error
    click.echo(f"Artifacts written to {path}", err=True)
