"""`python -m benchmarks [NAME ...]`: run benchmarks and print what they found beside what they must reach."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import (
    balance,
    chain,
    client,
    commands,
    ec2,
    foreach,
    frame,
    hello,
    imports,
    isolated,
    looking,
    million,
    nested,
    package,
    peers,
    remote,
    s3,
    scheduler,
    watched,
    wide,
)
from benchmarks.harness import Bench, RunFailed
from benchmarks.sides import daskflow, metaflow
from benchmarks.table import Line, as_json, show

if TYPE_CHECKING:
    from collections.abc import Callable

BENCHMARKS: dict[str, Callable[[Bench], list[Line]]] = {
    "imports": imports.measure,
    "commands": commands.measure,
    "hello": hello.measure,
    "chain": chain.measure,
    "frame": frame.measure,
    "foreach": foreach.measure,
    "wide": wide.measure,
    "million": million.measure,
    "nested": nested.measure,
    "isolated": isolated.measure,
    "looking": looking.measure,
    "balance": balance.measure,
    "client": client.measure,
    "scheduler": scheduler.measure,
    "watched": watched.measure,
    "remote": remote.measure,
    "ec2": ec2.measure,
    "package": package.measure,
    "s3": s3.measure,
    "peers": peers.measure,
}
BESIDE_METAFLOW = {"imports", "commands", "hello", "chain", "frame", "foreach", "s3"}


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure daskflow and its peers by turns. Each peer gets a virtual environment on first use.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)} (all)")
    parser.add_argument("-n", "--runs", type=int, help="how often to run each side")
    parser.add_argument("--short", action="store_true", help="tiny sizes, once: only shows that they work")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--only", choices=("daskflow", "metaflow"), help="measure one side alone")
    parser.add_argument("--peer-python", type=Path, metavar="FILE", help="an interpreter that has Metaflow")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if chosen.runs is not None and chosen.runs < 1:
        parser.error(f"--runs must be at least 1, not {chosen.runs}")
    return chosen


def main() -> None:
    """Run the chosen benchmarks, one after the other."""
    chosen = options()
    names = chosen.names or list(BENCHMARKS)
    ours = None if chosen.only == "metaflow" else daskflow()
    wanted = chosen.only != "daskflow" and not BESIDE_METAFLOW.isdisjoint(names)
    peer = metaflow(chosen.peer_python) if wanted else None
    bench = Bench(ours, peer, chosen.runs, chosen.short, others=chosen.only is None)
    lines = []
    for name in names:
        print(f"{name} ...", file=sys.stderr)
        try:
            lines += BENCHMARKS[name](bench)
        except RunFailed as error:
            sys.exit(f"benchmark {name}: {error}")
    if chosen.json:
        sides = [side for side in (bench.ours, bench.peer) if side is not None]
        print(as_json(lines, {side.name: side.versions() for side in sides}))
    else:
        show(lines)


if __name__ == "__main__":
    main()
