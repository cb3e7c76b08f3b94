"""The lines of the result: a figure of both sides, and what it must reach."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Limit:
    """What a figure must reach: at most so much, or at most so many times the peer's."""

    at_most: float
    of_peer: bool


def ratio(at_most: float) -> Limit:
    """At most so many times what the peer takes."""
    return Limit(at_most, of_peer=True)


def absolute(at_most: float) -> Limit:
    """At most so much, in the unit of the line."""
    return Limit(at_most, of_peer=False)


@dataclass(frozen=True)
class Line:
    """One figure. A side that was not measured, or for which it has no meaning, is None; so is a limit that it lacks."""

    work: str
    unit: str
    ours: float | None
    peer: float | None = None
    limit: Limit | None = None
    beside: str = "Metaflow"  # who the peer is

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's; None if either is missing."""
        return self.ours / self.peer if self.ours is not None and self.peer else None

    @property
    def reached(self) -> bool | None:
        """Whether the limit is kept; None if a figure is missing."""
        if self.limit is None:
            return None
        figure = self.ratio if self.limit.of_peer else self.ours
        return None if figure is None else figure <= self.limit.at_most


def scaled(figure: float | None, unit: float) -> float | None:
    """A figure in another unit; None stays None."""
    return None if figure is None else figure / unit


def show(lines: list[Line]) -> None:
    """Print the lines as a table."""
    table = Table(title="medians, both sides by turns")
    for heading in ("work", "", "daskflow", "peer", "", "ratio", "must reach", "reached"):
        table.add_column(heading, justify="right" if heading in {"daskflow", "peer", "ratio"} else "left")
    for line in lines:
        reached = {None: "-", True: "yes", False: "NO"}[line.reached]
        peer = "" if line.peer is None else line.beside
        figures = (_number(line.ours), _number(line.peer), peer, _number(line.ratio))
        table.add_row(line.work, line.unit, *figures, _limit(line), reached)
    # On a pipe rich would fold the table to 80 columns and cut words.
    console = Console()
    Console(width=max(console.width, 150) if not console.is_terminal else None).print(table)


def as_json(lines: list[Line], versions: dict[str, dict[str, str]]) -> str:
    """The lines with the machine and the versions, for programs."""
    found = [{**asdict(line), "ratio": line.ratio, "reached": line.reached} for line in lines]
    return json.dumps({"machine": machine(), "versions": versions, "lines": found}, indent=2)


def machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def _processor() -> str:
    with open("/proc/cpuinfo") as lines:
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(names, platform.machine())


def _limit(line: Line) -> str:
    if line.limit is None:
        return ""
    return f"at most {line.limit.at_most:g} {'x' if line.limit.of_peer else line.unit}"


def _number(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:,.3f}" if abs(figure) < 10 else f"{figure:,.1f}"
