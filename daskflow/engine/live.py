"""A run on a terminal: one live line a step, and what the steps print above."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.console import Console as RichConsole
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from daskflow.engine.console import StepState

_STYLES = {"stderr": "yellow", "notice": "magenta"}


class Live:
    """Lines scroll, the steps' states stay below them until they are final."""

    def __init__(self, out: TextIO) -> None:
        self._console = RichConsole(file=out, highlight=False, soft_wrap=True)
        self._live = RichLive(
            console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._over = False
        self._lines: list[Text] = []

    def line(self, label: str, stream: str, text: str) -> None:
        """Print one line: above the live ones, or below the last of them."""
        if stream == "system" and not self._over:  # the live lines say it
            return
        shown = Text()
        shown.append(f"[{label}] " if label else "", style="cyan")
        shown.append(text, style=_STYLES.get(stream, "default"))
        self._lines.append(shown)

    def refresh(self, steps: dict[str, StepState]) -> None:
        """Print what has come, all at once, and redraw the live lines."""
        if self._lines:
            self._console.print(Text("\n").join(self._lines))
            self._lines.clear()
        if steps and not self._over:
            self._live.start()
            self._live.update(_table(steps), refresh=True)

    def close(self, steps: dict[str, StepState]) -> None:
        """Leave the last state standing."""
        self.refresh(steps)
        self._live.stop()
        self._over = True


def _table(steps: dict[str, StepState]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, state in list(steps.items()):
        counts = Text()
        for label, number, style in (
            ("done", state.done, "green"),
            ("running", state.running, "bold blue"),
            ("waiting", state.waiting, "dim"),
            ("failed", state.failed, "bold red"),
            ("stopped", state.stopped, "yellow"),
            ("not run", state.not_run, "dim"),
        ):
            if number:
                counts.append(f"{number} {label}  ", style=style)
        table.add_row(
            _mark(state), Text(name, style="bold"), counts, Text(f"{state.elapsed:.1f} s", style="dim")
        )
    return table


def _mark(state: StepState) -> Text:
    if state.failed:
        return Text("✗", style="bold red")
    if state.running:
        return Text("▶", style="bold blue")
    if state.waiting:
        return Text("·", style="dim")
    if state.stopped:
        return Text("■", style="yellow")
    if state.not_run:
        return Text("-", style="dim")
    return Text("✓", style="green")
