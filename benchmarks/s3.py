"""A store on an S3 server of this machine: tables beside bare pandas, tiny tasks by their requests, frames beside Metaflow."""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.chain import chain
from benchmarks.harness import Bench, Measurement, flow, printed, run_flow, run_script, script
from benchmarks.sides import COMPARED, METAFLOW, Daskflow, Metaflow, Side, environment_with
from benchmarks.table import Line, absolute, ratio

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "flows"
ROWS, SHORT_ROWS = 1_750_000, 1_000  # 140 MB
STEPS, SHORT_STEPS = 100, 4
ITEMS, SHORT_ITEMS = 1_000, 20
ALONE, SHORT_ALONE = 10_000, 10
FRAME_ROWS, SHORT_FRAME_ROWS = 5_000_000, 1_000
RUNS = 3
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_prefixes = itertools.count()
_used: list[int] = []


@dataclass(frozen=True)
class Server:
    """An S3 server and the file in which it notes each request."""

    address: str
    log: Path

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return ACCOUNT | {"AWS_ENDPOINT_URL": self.address}

    def requests(self) -> dict[str, int]:
        """How many there were, by method."""
        found: dict[str, int] = {}
        for method in re.findall(r"([A-Z]+) /\S* HTTP/1", self.log.read_text()):
            found[method] = found.get(method, 0) + 1
        return found


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A server with an empty bucket."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
            try:
                while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
                    if process.poll() is not None:
                        raise OSError(f"The S3 server did not start: {log.read_text()}")
                started = Server(found.group(), log)
                make = "import sys, boto3; boto3.client('s3').create_bucket(Bucket=sys.argv[1])"
                subprocess.run([sys.executable, "-c", make, BUCKET], check=True, env=started.variables)
                yield started
            finally:
                process.terminate()


@dataclass(frozen=True)
class OnS3(Daskflow):
    """This project with its store on a server."""

    server: Server | None = None

    def command(self, flow: Path, store: Path, words: tuple[str, ...]) -> list[str]:
        _used.append(next(_prefixes))
        return [str(self.python), str(flow), "--datastore", f"s3://{BUCKET}/{self.last}", *words]

    @property
    def last(self) -> int:
        """The prefix of the store that was made last."""
        return _used[-1]

    def environment(self, home: Path, store: Path) -> dict[str, str]:
        assert self.server is not None
        return {**super().environment(home, store), **self.server.variables}


@dataclass(frozen=True)
class MetaflowOnS3(Metaflow):
    """The peer with its data on the same server; what it knows of runs stays in a folder."""

    server: Server | None = None

    def environment(self, home: Path, store: Path) -> dict[str, str]:
        assert self.server is not None
        extra = {
            "METAFLOW_DEFAULT_DATASTORE": "s3",
            "METAFLOW_DATASTORE_SYSROOT_S3": f"s3://{BUCKET}/{next(_prefixes)}",
            "METAFLOW_S3_ENDPOINT_URL": self.server.address,
        }
        return {**super().environment(home, store), **self.server.variables, **extra}


def measure(bench: Bench) -> list[Line]:
    """All of it, on one server."""
    with server() as there:
        ours = None if bench.ours is None else OnS3(bench.ours.name, bench.ours.python, there)
        here = replace(bench, ours=ours, peer=_peer(there) if bench.peer is not None else None)
        return [*tables(here), *tiny_tasks(here, bench.ours), *wide(here), *read(here), *frames(here)]


def _peer(there: Server) -> Side:
    wanted = (METAFLOW, "boto3", *(f"{name}=={version(name)}" for name in COMPARED))
    return MetaflowOnS3("metaflow", environment_with("metaflow-s3", wanted), there)


def tables(bench: Bench) -> list[Line]:
    """A table of 140 MB, and a column of it."""
    rows, times = (SHORT_ROWS, 1) if bench.short else (ROWS, bench.runs or 2 * RUNS - 1)
    words = (f"s3://{BUCKET}", str(rows), str(times))
    [sample] = bench.in_turn(1, lambda side: printed(run_script(side, script("s3_table"), *words)))
    size = f"table of {(sample.found('bytes') or 0) / 1e6:,.0f} MB"
    return [
        Line(f"{size}: {work}", "s", sample.found(name), sample.found(f"bare_{name}"), limit, "pandas")
        for work, name, limit in (
            ("write", "write", ratio(1.4)),
            ("read", "read", ratio(1.15)),
            ("read one column", "column", ratio(1.2)),
        )
    ]


def tiny_tasks(bench: Bench, local: Side | None) -> list[Line]:
    """A chain of trivial steps on the server, beside the same in a folder and the requests that it takes."""
    if bench.ours is None or local is None:
        return []
    steps = SHORT_STEPS if bench.short else STEPS
    long, short = chain(steps), chain(2)
    on_s3, in_a_folder, few, trip = bench.in_turn(
        2 * RUNS - 1,
        lambda side: _counted(side, long),
        lambda _: run_flow(local, long),
        lambda side: _counted(side, short),
        lambda side: printed(run_script(side, script("round_trip"), BUCKET, "100")),
    )
    puts, gets, others = (on_s3.found(name) or 0 for name in ("PUT", "GET", "HEAD"))
    allowed = (in_a_folder.wall or 0) + 1.2 * (puts + gets + others) * (trip.found("seconds") or 0)
    work = f"chain of {steps} steps on S3"
    each = {
        name: ((on_s3.found(name) or 0) - (few.found(name) or 0)) / (steps - 2) for name in ("PUT", "GET")
    }
    beside = f"a folder's + 1.2 x {puts + gets + others:,.0f} round trips"
    return [
        Line(work, "s", on_s3.wall, allowed, ratio(1), beside),
        Line("a task of it: PUT", "", each["PUT"], None, absolute(1.05)),  # the driver's beats are in it
        Line("a task of it: GET", "", each["GET"], None, absolute(2)),
        Line("a round trip at the pace of tasks", "ms", 1000 * (trip.found("seconds") or 0)),
        Line("a round trip right after another", "ms", 1000 * (trip.found("hot") or 0)),
    ]


def wide(bench: Bench) -> list[Line]:
    """A foreach of trivial items."""
    items = SHORT_ITEMS if bench.short else ITEMS
    [sample] = bench.in_turn(RUNS, lambda side: _counted(side, flow("wide"), "--items", str(items)))
    work = f"foreach of {items:,} items on S3"
    return [Line(work, "s", sample.wall), Line(f"{work}: PUT", "", sample.found("PUT"), None, absolute(120))]


def read(bench: Bench) -> list[Line]:
    """A finished run of tasks that share no process, as a frame."""
    if bench.ours is None:
        return []
    assert isinstance(bench.ours, OnS3)
    assert bench.ours.server is not None
    tasks = SHORT_ALONE if bench.short else ALONE
    run_flow(bench.ours, flow("wide"), "--items", str(tasks), "--isolate")
    words = (f"s3://{BUCKET}/{bench.ours.last}", "Wide/1", str(tasks + 3))
    before = bench.ours.server.requests().get("GET", 0)
    [sample] = bench.in_turn(
        2 * RUNS - 1, lambda side: printed(run_script(side, script("to_pandas"), *words))
    )
    gets = (bench.ours.server.requests().get("GET", 0) - before) / len(sample.measurements)
    work = f"Run.to_pandas() of {tasks:,} tasks on S3"
    return [
        Line(work, "s", sample.found("seconds"), None, absolute(2)),
        Line(f"{work}: GET", "", gets, None, absolute(50)),
    ]


def frames(bench: Bench) -> list[Line]:
    """A frame that is set, changed and read, beside Metaflow."""
    rows = str(SHORT_FRAME_ROWS if bench.short else FRAME_ROWS)
    changed = flow("frame_changed")
    ours, peer = bench.alternate(
        lambda side: run_flow(side, changed, "--rows", rows, helpers=("eight_columns",)), RUNS
    )
    return [
        Line(f"frame of {int(rows):,} x 8 on S3, set, changed, read", "s", ours.wall, peer.wall, ratio(0.5))
    ]


def _counted(side: Side, source: str, *options: str) -> Measurement:
    assert isinstance(side, OnS3)
    assert side.server is not None
    before = side.server.requests()
    measurement = run_flow(side, source, *options)
    after = side.server.requests()
    found = {name: float(after.get(name, 0) - before.get(name, 0)) for name in ("PUT", "GET", "HEAD")}
    return replace(measurement, found=found)
