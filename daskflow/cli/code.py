"""``daskflow code``: the sources that a run was made with."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daskflow import settings
from daskflow.errors import CommandException

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command()
@click.argument("run", metavar="FLOW/RUN")
@click.option(
    "--diff", "other", metavar="FLOW/RUN|DIR", help="What changed from there: another run, or a folder."
)
@click.option(
    "--save",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the files there; what is there stays as it is.",
)
@click.option("--datastore", "--datastore-root", metavar="DIR", help="Where results are kept.")
@click.option("--json", "as_json", is_flag=True, help="For a program: {path: source}.")
def code(run: str, other: str | None, folder: Path | None, datastore: str | None, as_json: bool) -> None:
    """Show the sources of a run: of the flow's file and of the modules beside it that it imports.

    Of a run for workers elsewhere it is all that travelled to them of the flow's folder. A run executes what they were when it started, or when `continue --new-code` took them anew.
    """
    if sum([other is not None, folder is not None, as_json]) > 1:
        raise click.UsageError("--diff, --save and --json exclude one another.")
    store = settings.datastore_root(settings.load(), option=datastore)
    files = _files_of(run, store)
    if as_json:
        click.echo(json.dumps({path: _text(content) for path, content in files.items()}))
    elif folder is not None:
        _save(files, folder)
    elif other is not None:
        before = _files_in(Path(other), files) if Path(other).is_dir() else _files_of(other, store)
        for line in _changes(before, files, other, run):
            click.secho(line, fg=_COLOURS.get(line[:1]))
    else:
        for path, content in files.items():
            click.secho(f"# {path}", bold=True)
            click.echo(f"({len(content):,} bytes that are no text)" if b"\0" in content else _text(content))


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _files_of(run: str, store: str) -> dict[str, bytes]:
    from daskflow.client import Run
    from daskflow.client.namespaces import namespace

    namespace(None)  # who names a run may read it
    return Run(run, store=store).code_files


def _files_in(folder: Path, wanted: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of these names that a folder has."""
    return {path: (folder / path).read_bytes() for path in wanted if (folder / path).is_file()}


def _changes(before: Mapping[str, bytes], after: Mapping[str, bytes], old: str, new: str) -> Iterator[str]:
    for path in sorted({*before, *after}):
        if before.get(path) != after.get(path) and b"\0" in before.get(path, b"") + after.get(path, b""):
            yield f"{path}, which is no text, differs"
            continue
        was, now = (_text(files.get(path, b"")).splitlines() for files in (before, after))
        names = [
            f"{place}/{path}" if path in files else "/dev/null"
            for place, files in ((old, before), (new, after))
        ]
        yield from difflib.unified_diff(was, now, names[0], names[1], lineterm="")


def _save(files: Mapping[str, bytes], folder: Path) -> None:
    there = [path for path in files if (folder / path).exists()]
    if there:
        raise CommandException(f"{folder / there[0]} is there already. Choose another folder.")
    for path, content in files.items():
        place = folder / path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        except OSError as error:
            raise click.FileError(str(place), error.strerror) from error
    click.echo(f"{len(files)} files are in {folder}.", err=True)
