"""Run commands by turns, and measure each: wall time, peak memory, bytes stored.

This process must stay small. A child starts as a copy of it, and the kernel counts that copy's peak as the
child's, so nothing here may import pandas or any other large library.
"""

from __future__ import annotations

import os
import select
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.sides import Side

FLOWS = Path(__file__).parent / "flows"
SCRIPTS = Path(__file__).parent / "scripts"
TIME_LIMIT = 1800  # seconds for one run: a run that hangs must not hang the benchmark
LAST_LINES = 30
LOOK_MILLISECONDS = 50


class RunFailed(Exception):
    """A measured command ended with an error, so its figures mean nothing."""


@dataclass(frozen=True)
class Measurement:
    """What one run of a command took."""

    wall: float  # seconds
    peak: int  # bytes: the largest single process among the command's and those it waited for
    stored: int  # bytes that the run left in its store
    output: str  # what it printed
    own_peak: int = 0  # bytes: the command's own process alone, which for a run is the driver
    found: dict[str, float] = field(default_factory=dict)  # what was read from its store or its output


@dataclass(frozen=True)
class Bench:
    """Who is measured, and how thoroughly."""

    ours: Side | None
    peer: Side | None
    runs: int | None = None  # None: what each benchmark thinks is enough
    short: bool = False  # tiny sizes, once: shows that the benchmark works
    others: bool = True  # whether peers that need an environment of their own are run, Metaflow aside

    def alternate(self, measure: Callable[[Side], Measurement], runs: int) -> tuple[Sample, Sample]:
        """Measure both sides by turns, A B A B, so that a busy minute of the machine hits both.

        Args:
            measure: runs one side once.
            runs: how often each side is measured, unless the user asked for another number.
        """
        ours, peer = self._by_turns([(self.ours, measure), (self.peer, measure)], runs)
        return ours, peer

    def in_turn(self, runs: int, *measures: Callable[[Side], Measurement]) -> list[Sample]:
        """Measure several things that this project's interpreter can run, by turns, A B A B.

        Args:
            runs: how often each is measured, unless the user asked for another number.
            measures: each runs one of them once.
        """
        return self._by_turns([(self.ours, measure) for measure in measures], runs)

    def _by_turns(self, work: Sequence[Work], runs: int) -> list[Sample]:
        found: list[list[Measurement]] = [[] for _ in work]
        for _ in range(1 if self.short else self.runs or runs):
            for (side, measure), measurements in zip(work, found, strict=True):
                if side is not None:
                    measurements.append(measure(side))
        return [Sample(tuple(measurements)) for measurements in found]


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
    def own_peak(self) -> float | None:
        """Median of the peak memory of the command's own process in bytes."""
        return self.median(lambda measurement: measurement.own_peak)

    @property
    def stored(self) -> float | None:
        """Median of the bytes stored."""
        return self.median(lambda measurement: measurement.stored)

    def found(self, name: str) -> float | None:
        """Median of a figure that was read from the store or the output."""
        return self.median(lambda measurement: measurement.found[name])


def flow(name: str) -> str:
    """The source of one of the flows in `flows/`."""
    return (FLOWS / f"{name}.py").read_text()


def script(name: str) -> str:
    """The source of one of the programs in `scripts/`."""
    return (SCRIPTS / f"{name}.py").read_text()


def each(whole: float | None, start_up: float | None, count: int, unit: float = 1) -> float | None:
    """What one of `count` adds beyond start-up, times `unit`; None if a figure is missing."""
    return None if whole is None or start_up is None else unit * (whole - start_up) / count


def run_flow(
    side: Side,
    source: str,
    *options: str,
    command: str = "run",
    helpers: Iterable[str] = (),
    inspect: Inspection | None = None,
) -> Measurement:
    """Run a flow once, in a fresh folder with an empty store.

    Args:
        side: whose framework runs it.
        source: the flow, written for daskflow.
        options: what follows the command on the command line.
        command: what the flow is told to do.
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
        words = side.command(file, store, (command, *options))
        measurement = run_command(words, folder, side.environment(folder, store))
        measurement = replace(measurement, stored=bytes_under(store))
        return inspect(store, measurement) if inspect else measurement


Inspection = Callable[[Path, Measurement], Measurement]
Work = tuple["Side | None", Callable[["Side"], Measurement]]


def run_script(side: Side, source: str, *words: str, beside: Mapping[str, str] | None = None) -> Measurement:
    """Run a program once with a side's interpreter, in a fresh folder.

    Args:
        side: whose interpreter and variables it gets.
        source: the program.
        words: its arguments.
        beside: further files of its folder, by name.

    Raises:
        RunFailed: if it ends with an error or takes longer than `TIME_LIMIT`.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        for file, text in {"program.py": source, **(beside or {})}.items():
            (folder / file).write_text(text)
        words = (str(side.python), str(folder / "program.py"), *words)
        return run_command(list(words), folder, side.environment(folder, folder))


def printed(measurement: Measurement) -> Measurement:
    """Take the figures that a program printed, one a line as `name=number`."""
    pairs = (line.split("=") for line in measurement.output.splitlines() if line.count("=") == 1)
    return replace(measurement, found={name: float(number) for name, number in pairs})


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
        own_peak = _peak_until_end(process.pid)
        # Unlike Popen.wait this also gives the resources of the process and of those it waited for.
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        alarm.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    text = output.read_text(errors="replace")
    if process.returncode:
        last = "\n".join(text.splitlines()[-LAST_LINES:])
        raise RunFailed(f"{' '.join(command)} ended with {process.returncode} after {wall:.1f} s:\n{last}")
    return Measurement(wall, usage.ru_maxrss * 1024, 0, text, own_peak)


def _peak_until_end(pid: int) -> int:
    """Wait for a process's end, which is not reaped; the most memory it was seen to have had, in bytes."""
    peak = 0
    ended = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        while not poll.poll(LOOK_MILLISECONDS):
            status = Path(f"/proc/{pid}/status").read_text()
            kilobytes = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
            peak = max(peak, 1024 * int(next(kilobytes, 0)))
    finally:
        os.close(ended)
    return peak


def bytes_under(folder: Path) -> int:
    """The bytes of all files under a folder; a file with several names counts once."""
    files = (path.lstat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in files}.values())
