"""``daskflow code``: the sources that a run was made with."""

from __future__ import annotations

import difflib
import json
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daskflow import settings
from daskflow.errors import CommandException

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from daskflow.store.packages import Package

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
    help="Write the files there: a folder that is empty, or not there yet.",
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
    package = _package_of(run, store)
    files = package.files
    if as_json:
        click.echo(json.dumps({path: _text(content) for path, content in files.items()}))
    elif folder is not None:
        _save(package, folder)
    elif other is not None:
        before = _files_in(Path(other), files) if Path(other).is_dir() else _package_of(other, store).files
        for line in _changes(before, files, other, run):
            click.secho(line, fg=_COLOURS.get(line[:1]))
    else:
        for path, content in files.items():
            click.secho(f"# {path}", bold=True)
            click.echo(f"({len(content):,} bytes that are no text)" if b"\0" in content else _text(content))


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _package_of(run: str, store: str) -> Package:
    from daskflow.client import Run
    from daskflow.client.namespaces import namespace
    from daskflow.store.runs import RunStore
    from daskflow.store.sessions import last_session, snapshot_of
    from daskflow.store.storage import storage_at

    namespace(None)  # who names a run may read it
    found = RunStore(storage_at(store), *Run(run, store=store).pathspec.split("/"))
    return found.package(snapshot_of(found, last_session(found)))


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


def _save(package: Package, folder: Path) -> None:
    """Write the files into a folder that is empty or not there yet: all of them or, after an error, none."""
    place = folder.resolve()
    new = place.with_name(f"{place.name}.{secrets.token_hex(4)}")
    try:
        if place.exists() and (place == Path.cwd() or any(place.iterdir())):
            raise CommandException(
                f"{folder} is not empty, or is the folder you are in. Choose one that is empty, or not there yet."
            )
        try:
            for path, content in package.files.items():
                (new / path).parent.mkdir(parents=True, exist_ok=True)
                (new / path).touch(0o777 if path in package.programs else 0o666)
                (new / path).write_bytes(content)
            new.rename(place)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    except OSError as error:
        raise CommandException(f"The files can't be written to {folder}: {error.strerror}.") from error
    click.echo(f"{len(package.files)} files are in {folder}.", err=True)
