"""The command line of a flow file: ``python flow.py COMMAND``. The composition root: it alone puts the parts together."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskflow.flow.spec import FlowSpec


def main(flow_class: type[FlowSpec], arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command that the command line names, and end the process with its exit status.

    0 is success, 1 a failed run or an error of the user's (one line on stderr), 2 a command line that is wrong.
    """
    _open_standard_streams()
    from daskflow.cli.entry import carry_out, commands_of, program

    given = sys.argv[1:] if arguments is None else arguments
    status = carry_out(lambda: commands_of(flow_class), program(), given)
    # All that has to be kept is stored and closed; taking the interpreter apart would cost another 0.15 s.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # its reader has gone
            continue
    os._exit(status)


def _open_standard_streams() -> None:
    """Give closed standard streams a place to go, before a socket gets their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w"))  # noqa: SIM115 - as long as the process
