"""Run commands by turns, and measure each: wall time, peak memory, bytes stored.

This process must stay small. A child starts as a copy of it, and the kernel counts that copy's peak as the
child's, so nothing here may import pandas or any other large library.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.sides import Side

FLOWS = Path(__file__).parent / "flows"
TIME_LIMIT = 1800  # seconds for one run: a run that hangs must not hang the benchmark
LAST_LINES = 30


class RunFailed(Exception):
    """A measured command ended with an error, so its figures mean nothing."""


@dataclass(frozen=True)
class Measurement:
    """What one run of a command took."""

    wall: float  # seconds
    peak: int  # bytes: the largest single process among the command's and those it waited for
    stored: int  # bytes that the run left in its store
    output: str  # what it printed


@dataclass(frozen=True)
class Bench:
    """Who is measured, and how thoroughly."""

    ours: Side | None
    peer: Side | None
    runs: int | None = None  # None: what each benchmark thinks is enough
    short: bool = False  # tiny sizes, once: shows that the benchmark works

    def alternate(self, measure: Callable[[Side], Measurement], runs: int) -> tuple[Sample, Sample]:
        """Measure both sides by turns, A B A B, so that a busy minute of the machine hits both.

        Args:
            measure: runs one side once.
            runs: how often each side is measured, unless the user asked for another number.
        """
        both = (self.ours, self.peer)
        found: tuple[list[Measurement], list[Measurement]] = ([], [])
        for _ in range(1 if self.short else self.runs or runs):
            for side, measurements in zip(both, found, strict=True):
                if side is not None:
                    measurements.append(measure(side))
        return Sample(tuple(found[0])), Sample(tuple(found[1]))


@dataclass(frozen=True)
class Sample:
    """Repeated measurements of one side; the medians are None for a side that was not run."""

    measurements: tuple[Measurement, ...]

    def median(self, figure: Callable[[Measurement], float]) -> float | None:
        """The median of a figure over the runs."""
        values = [figure(measurement) for measurement in self.measurements]
        return statistics.median(values) if values else None

    @property
    def wall(self) -> float | None:
        """Median wall time in seconds."""
        return self.median(lambda measurement: measurement.wall)

    @property
    def peak(self) -> float | None:
        """Median of the largest process's peak memory in bytes."""
        return self.median(lambda measurement: measurement.peak)

    @property
    def stored(self) -> float | None:
        """Median of the bytes stored."""
        return self.median(lambda measurement: measurement.stored)


def flow(name: str) -> str:
    """The source of one of the flows in `flows/`."""
    return (FLOWS / f"{name}.py").read_text()


def run_flow(
    side: Side, source: str, *options: str, helpers: Iterable[str] = (), inspect: Inspection | None = None
) -> Measurement:
    """Run a flow once, in a fresh folder with an empty store.

    Args:
        side: whose framework runs it.
        source: the flow, written for daskflow.
        options: what follows `run` on the command line.
        helpers: names of modules in `flows/` that the flow imports.
        inspect: called with the store and the measurement before the store is removed; returns the measurement.

    Raises:
        RunFailed: if the run ends with an error or takes longer than `TIME_LIMIT`.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        store = folder / "store"
        store.mkdir()
        file = folder / "flow.py"
        file.write_text(side.flow_source(source))
        for helper in helpers:
            (folder / f"{helper}.py").write_text(flow(helper))
        command = side.command(file, store, options)
        measurement = run_command(command, folder, side.environment(folder, store))
        measurement = Measurement(measurement.wall, measurement.peak, bytes_under(store), measurement.output)
        return inspect(store, measurement) if inspect else measurement


Inspection = Callable[[Path, Measurement], Measurement]


def run_command(command: list[str], folder: Path, environment: dict[str, str]) -> Measurement:
    """Run one command to its end and measure it.

    Raises:
        RunFailed: if it ends with an error or takes longer than `TIME_LIMIT`; carries its last lines.
    """
    output = folder / "output.txt"
    with output.open("wb") as stream:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        alarm = threading.Timer(TIME_LIMIT, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        # Unlike Popen.wait this also gives the resources of the process and of those it waited for.
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        alarm.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    text = output.read_text(errors="replace")
    if process.returncode:
        last = "\n".join(text.splitlines()[-LAST_LINES:])
        raise RunFailed(f"{' '.join(command)} ended with {process.returncode} after {wall:.1f} s:\n{last}")
    return Measurement(wall, usage.ru_maxrss * 1024, 0, text)


def bytes_under(folder: Path) -> int:
    """The bytes of all files under a folder; a file with several names counts once."""
    files = (path.lstat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in files}.values())
