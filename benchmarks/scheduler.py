"""Many slots on several workers, whose items sleep: how much of the slots' time the scheduling loses."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import times
from benchmarks.harness import SCRIPTS, Bench, Measurement, RunFailed, flow, run_flow
from benchmarks.table import Line, absolute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.sides import Side

WORKERS, SLOTS, ITEMS, SECONDS = 8, 8, 64_000, 0.1
SHORT_WORKERS, SHORT_SLOTS, SHORT_ITEMS = 2, 2, 16
RUNS = 1
PATIENCE = 30  # seconds in which a cluster that is told to end has ended


def measure(bench: Bench) -> list[Line]:
    """The share of the slots' time in which no item ran, from the end of the split to the end of the last item."""
    workers, slots, items = (
        (SHORT_WORKERS, SHORT_SLOTS, SHORT_ITEMS) if bench.short else (WORKERS, SLOTS, ITEMS)
    )
    [sample] = bench.in_turn(RUNS, lambda side: run_on_cluster(side, workers, slots, items))
    work = f"{items:,} items of {1000 * SECONDS:.0f} ms on {workers} x {slots} slots"
    return [
        Line(f"{work}: slots idle", "%", sample.found("idle"), None, absolute(10)),
        Line("its foreach", "s", sample.found("wall"), items * SECONDS / (workers * slots), beside="ideal"),
    ]


def run_on_cluster(side: Side, workers: int, slots: int, items: int) -> Measurement:
    """Start a cluster, run the flow on it, end it."""
    options = ("--items", str(items), "--shortest", str(SECONDS), "--longest", str(SECONDS))
    with cluster(side, workers, slots) as there:
        inspect = partial(looked_at, side, workers * slots)
        return run_flow(side, flow("sleep"), *options, "--cluster", there.address, inspect=inspect)


@dataclass(frozen=True)
class Cluster:
    """A scheduler in a process of its own, by its address."""

    address: str
    process: subprocess.Popen[str]

    def longest_pause(self) -> float:
        """For how many seconds at a time the scheduler's loop has stood still, at most, since this was asked last."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


@contextmanager
def cluster(side: Side, workers: int, slots: int, hidden: Path | None = None) -> Iterator[Cluster]:
    """A scheduler and worker processes on this machine.

    Args:
        side: whose interpreter they get.
        workers: how many.
        slots: of each.
        hidden: a folder in which they see the stores alone, and no flow (by `unshare`).

    Raises:
        RunFailed: if it does not start; carries what it wrote.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name, (Path(name) / "log.txt").open("w+") as log:
        command = [str(side.python), str(SCRIPTS / "cluster.py"), str(workers), str(slots)]
        process = subprocess.Popen(
            command if hidden is None else hiding(hidden, command),
            cwd=name,
            env=side.environment(Path(name), Path(name)) | {"TMPDIR": name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            if not address:
                log.seek(0)
                raise RunFailed(f"the cluster did not start:\n{log.read()[-2000:]}")
            yield Cluster(address, process)
        finally:
            process.stdin.close()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()  # its workers end with it
                process.wait()
            process.stdout.close()


def can_hide() -> bool:
    """Whether the system lets folders be hidden from a process."""
    return subprocess.run(["unshare", "-Urm", "true"], check=False, capture_output=True).returncode == 0


def hiding(folder: Path, command: list[str]) -> list[str]:
    """A command that sees empty folders in the place of those that hold a flow."""
    flows = [shlex.quote(str(flow.parent)) for flow in folder.glob("*/flow.py")]
    mounts = "".join(f"mount -t tmpfs none {flow} && " for flow in flows)
    return ["unshare", "-Urm", "sh", "-c", f'{mounts} exec "$@"', "sh", *command]


def looked_at(side: Side, slots: int, store: Path, measurement: Measurement) -> Measurement:
    """See how much of the slots' time was used."""
    split, items = (times.read(side, store, f"Sleep/1/{step}") for step in ("start", "work"))
    wall = items.last_end - split.last_end
    idle = 100 * (1 - items.total / (slots * wall))
    return replace(measurement, found={"wall": wall, "idle": idle})
