"""``daskflow code``: the sources that a run was made with."""

from __future__ import annotations

import difflib
import json
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daskflow import settings
from daskflow.errors import CommandException, InvalidPathspec, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
    told, package = _kept(run, store)
    files = package.files
    if as_json:
        click.echo(json.dumps({path: _text(content) for path, content in files.items()}))
    elif folder is not None:
        _save(package, folder)
    elif other is not None:
        before = (
            _files_in(Path(other), told, files, store) if Path(other).is_dir() else _files_of(other, store)
        )
        for line in _changes(before, files, other, run):
            click.secho(line, fg=_COLOURS.get(line[:1]))
    else:
        for path, content in files.items():
            click.secho(f"# {path}", bold=True)
            click.echo(f"({len(content):,} bytes that are no text)" if b"\0" in content else _text(content))


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _kept(run: str, store: str) -> tuple[dict[str, Any], Package]:
    """What a run's record tells of its code, and the files. Raises :class:`NotFound` or :class:`InvalidPathspec`."""
    from daskflow.client import Run
    from daskflow.client.namespaces import namespace
    from daskflow.store.runs import RunStore
    from daskflow.store.sessions import last_session, snapshot_of
    from daskflow.store.storage import storage_at

    namespace(None)  # who names a run may read it
    found = RunStore(storage_at(store), *Run(run, store=store).pathspec.split("/"))
    snapshot = snapshot_of(found, last_session(found))
    told = found.code(snapshot)
    return told, found.package(snapshot, told)


def _files_of(other: str, store: str) -> Mapping[str, bytes]:
    try:
        return _kept(other, store)[1].files
    except (NotFound, InvalidPathspec) as error:
        raise CommandException(
            f"--diff takes a folder or a run. There is no folder {other}; and as a run: {error.message}"
        ) from error


def _files_in(
    folder: Path, told: Mapping[str, Any], files: Mapping[str, bytes], store: str
) -> dict[str, bytes]:
    """What of a folder is in a run's files, or would be if the run started there."""
    root = folder.resolve()
    paths = {
        *files,
        *(_that_travel(root, told, files, store) if "package" in told else _imported(root, told)),
    }
    return {path: (root / path).read_bytes() for path in paths if (root / path).is_file()}


def _that_travel(
    root: Path, told: Mapping[str, Any], files: Mapping[str, bytes], store: str
) -> Iterable[str]:
    """Those of the kinds that travelled with the run."""
    from daskflow.task.package import ANY, Selection, choose

    found = settings.load()
    kinds = {Path(path).suffix or ANY for path in files if path not in told["files"]}
    return choose(str(root), Selection(tuple(kinds), found.max_package_size * 1_000_000, store))


def _imported(root: Path, told: Mapping[str, Any]) -> Iterable[str]:
    from daskflow.task.code import sources

    main = root / told["main"]
    return [path for path, _ in sources(str(root), str(main), told["module"])] if main.is_file() else []


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
