"""The command ``daskflow``, for what belongs to no one flow."""

from __future__ import annotations

import sys

import click

from daskflow import __version__
from daskflow.cli.entry import LazyCommands, carry_out

daskflow = LazyCommands(
    {
        "chaos": "daskflow.cli.chaos:chaos",
        "cluster": "daskflow.cli.cluster:cluster",
        "code": "daskflow.cli.code:code",
        "sql": "daskflow.cli.sql:sql",
        "ui": "daskflow.cli.ui:ui",
    },
    help="What belongs to no one flow; a flow's own commands are those of its file.",
)
click.version_option(__version__)(daskflow)


def main() -> None:
    """Carry out the command line of this process."""
    sys.exit(carry_out(lambda: daskflow, "daskflow", sys.argv[1:]))
