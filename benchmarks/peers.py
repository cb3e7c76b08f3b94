"""The same thousand trivial items in other orchestrators, each of which keeps every result on the disk.

Each has a virtual environment of its own, made on first use. One that does not start here is named as such.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Bench, Measurement, RunFailed, flow, run_command, run_flow, script
from benchmarks.sides import Side, environment_with
from benchmarks.table import Line, ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

ITEMS = 1000
SHORT_ITEMS = 5
TRIAL_ITEMS = 2
RUNS = 1  # they take minutes
REDUN_SETTINGS = """\
[backend]
db_uri = sqlite:///redun.db

[executors.default]
type = local

[executors.process]
type = local
mode = process
max_workers = 2
"""


@dataclass(frozen=True, eq=False)
class Peer:
    """Another orchestrator: how it is installed, told to run its program, and set up to stay on this machine.

    In its texts `{items}` is the number of items, `{bin}` the folder of programs of its virtual environment, `{here}`
    the folder of its run.
    """

    name: str
    requirement: str
    command: str
    at_most: float  # how many times its time ours may take
    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)  # beside its program, by name

    def run(self, python: Path, items: int) -> Measurement:
        """Run its program once over so many items, in a fresh folder.

        Raises:
            RunFailed: if it ends with an error or takes too long.
        """
        with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
            here = Path(name)
            for file, text in {"program.py": script(f"peer_{self.name}"), **self.files}.items():
                (here / file).parent.mkdir(exist_ok=True)
                (here / file).write_text(text)
            words = [word.format(bin=python.parent, items=items) for word in self.command.split()]
            variables = {key: text.format(here=here, items=items) for key, text in self.variables.items()}
            return run_command(words, here, Side(self.name, python).environment(here, here) | variables)


PEERS = (
    Peer(
        "redun",
        "redun==0.44.1",
        "{bin}/redun run program.py main --items {items}",
        0.5,
        files={".redun/redun.ini": REDUN_SETTINGS},
    ),
    Peer(
        "dagster",
        "dagster==1.13.29",
        "{bin}/dagster job execute -f program.py -j wide",
        0.05,
        variables={"DAGSTER_HOME": "{here}/home", "ITEMS": "{items}"},
        files={"home/dagster.yaml": "telemetry:\n  enabled: false\n"},
    ),
    Peer(
        "prefect",
        "prefect==3.9.1",
        "{bin}/python program.py {items}",
        0.05,
        variables={
            "PREFECT_HOME": "{here}/home",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        },
    ),
)


def measure(bench: Bench) -> list[Line]:
    """Wall time of the whole run, beside each of those that start."""
    items = SHORT_ITEMS if bench.short else ITEMS
    starting = {peer: python for peer in PEERS if bench.others and (python := interpreter(peer))}
    ours, *theirs = bench.in_turn(
        RUNS,
        lambda side: run_flow(side, flow("foreach"), "--items", str(items)),
        *(partial(run_peer, peer, python, items) for peer, python in starting.items()),
    )
    walls = {peer: sample.wall for peer, sample in zip(starting, theirs, strict=True)}
    lines = []
    for peer in PEERS:
        work = f"foreach of {items} items, both durable"
        if bench.others and peer not in starting:
            work += f" ({peer.name} does not start here)"
        lines.append(Line(work, "s", ours.wall, walls.get(peer), ratio(peer.at_most), peer.name))
    return lines


def run_peer(peer: Peer, python: Path, items: int, _: Side) -> Measurement:
    """Run a peer once; our own side has no part in it."""
    return peer.run(python, items)


def interpreter(peer: Peer) -> Path | None:
    """The interpreter that has a peer; None if it can't be installed or does not start, which is told on stderr."""
    try:
        python = environment_with(peer.name, (peer.requirement,))
        peer.run(python, TRIAL_ITEMS)
    except (RunFailed, subprocess.CalledProcessError) as error:
        print(f"{peer.requirement} does not start here: {error}", file=sys.stderr)
        return None
    return python
