"""The command ``daskflow``, for what belongs to no one flow."""

from __future__ import annotations

import importlib
import sys

import click

from daskflow import __version__
from daskflow.cli.entry import tell
from daskflow.errors import DaskflowException

COMMANDS = {"chaos": "daskflow.cli.chaos:chaos"}
"""Name of each command and where it is."""


class _Commands(click.Group):
    """Loads a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.command(cls=_Commands)
@click.version_option(__version__)
def daskflow() -> None:
    """What belongs to no one flow; a flow's own commands are those of its file."""


def main() -> None:
    """Carry out the command line of this process."""
    try:
        status = daskflow.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except DaskflowException as error:
        tell(error)
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)
