"""An error of ours that ends the loading of a flow file: told as the command line tells errors, without a traceback."""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import TYPE_CHECKING

from daskflow.errors import DaskflowException, is_ours

if TYPE_CHECKING:
    from types import TracebackType


def install() -> None:
    """Tell uncaught errors of ours in this process; all others are left to whoever tells them now."""
    before = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, DaskflowException):
            before(kind, error, trace)
            return
        if error.line_no is None:
            _locate(error, trace)
        # By name, as FlowSpec() does: this package stands below the command line.
        importlib.import_module("daskflow.cli.entry").tell(error)

    sys.excepthook = tell


def _locate(error: DaskflowException, trace: TracebackType | None) -> None:
    """Note the user's line that led to the error."""
    frames = [frame for frame in traceback.extract_tb(trace) if not is_ours(frame.filename)]
    if frames:
        error.line_no, error.source_file = frames[-1].lineno, frames[-1].filename
