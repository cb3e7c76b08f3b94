"""A flow's folder of many files, on workers that don't see it: what it costs to lay it out there, and what once it is there."""

from __future__ import annotations

import itertools
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import SCRIPTS, Bench, Measurement, flow, printed, run_command
from benchmarks.scheduler import can_hide, cluster
from benchmarks.table import Line, absolute

if TYPE_CHECKING:
    from benchmarks.sides import Side

WORKERS, SLOTS, ITEMS = 4, 1, 4
FILES, SHORT_FILES, FOLDERS, LINES = 500, 20, 10, 50
RUNS = 7
_contents = itertools.count()


def measure(bench: Bench) -> list[Line]:
    """What the package's way takes, by itself; and how long runs take with many new, many unchanged and no files beside the flow."""
    if bench.ours is None:
        return []
    files = SHORT_FILES if bench.short else FILES
    [by_itself] = bench.in_turn(RUNS, partial(way, files))
    new, same = (
        sum(by_itself.found(f"{when}_{what}") or 0 for what in ("packed", "laid_out"))
        for when in ("new", "same")
    )
    lines = [
        Line(f"{files} files packed, stored and laid out by {WORKERS} workers", "s", new, None, absolute(1)),
        Line("the same, unchanged", "s", same, None, absolute(0.1)),
    ]
    return [*lines, *runs(bench, bench.ours, files)] if can_hide() else lines


def runs(bench: Bench, side: Side, files: int) -> list[Line]:
    """How long whole runs take on workers that don't see the flow's folder."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        none, new, same = folders = [Path(name) / which for which in ("none", "new", "same")]
        for folder in folders:
            folder.mkdir()
            (folder / "flow.py").write_text(flow("wide"))
        lay_out(same, files)
        with cluster(side, WORKERS, SLOTS, hidden=Path(name)) as there:
            run(there.address, same, side)
            with_none, with_new, with_same = bench.in_turn(
                RUNS,
                partial(run, there.address, none),
                partial(run_with_new_files, there.address, new, files),
                partial(run, there.address, same),
            )
    beside = "no files beside the flow"
    return [
        Line(f"a run there, the {files} files new", "s", with_new.wall, with_none.wall, beside=beside),
        Line("a run there, the files unchanged", "s", with_same.wall, with_none.wall, beside=beside),
    ]


def lay_out(folder: Path, files: int) -> None:
    """Write modules that were never there before."""
    content = next(_contents)
    for number in range(files):
        part = folder / f"part{number % FOLDERS}"
        part.mkdir(exist_ok=True)
        lines = (f"def function_{line}(x):\n    return x + {content} + {number}\n" for line in range(LINES))
        (part / f"module_{number}.py").write_text("\n".join(lines))


def way(files: int, side: Side) -> Measurement:
    """Measure the package's way in one process and those that it forks, without a run."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        flow_folder, store = Path(name) / "flow", Path(name) / "store"
        flow_folder.mkdir()
        lay_out(flow_folder, files)
        words = [str(side.python), str(SCRIPTS / "package.py"), str(flow_folder), str(WORKERS), str(store)]
        return printed(run_command(words, Path(name), side.environment(Path(name), store) | {"TMPDIR": name}))


def run(address: str, folder: Path, side: Side) -> Measurement:
    """Run the flow in a folder; all runs of it share a store."""
    store = folder.parent / f"store-{folder.name}"
    words = side.command(folder / "flow.py", store, ("run", "--items", str(ITEMS), "--cluster", address))
    return run_command(words, folder.parent, side.environment(folder, store))


def run_with_new_files(address: str, folder: Path, files: int, side: Side) -> Measurement:
    """The same, after all files beside the flow got another content."""
    lay_out(folder, files)
    return run(address, folder, side)
