"""A task's own process: from its first message to its exit."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import io
import json
import os
import pickle
import random
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from daskflow.task import wire

if TYPE_CHECKING:
    import socket

    from daskflow.flow.spec import FlowSpec
    from daskflow.task.spec import TaskSpec


_inherited: list[Any] = []


def prepare_streams() -> None:
    """New ``sys.stdout`` and ``sys.stderr`` on the task's pipes: UTF-8, and a line leaves as soon as it is complete.

    The objects of before stay in use where the flow's file kept them, as a logging handler does.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        if isinstance(before, io.TextIOWrapper):
            before.reconfigure(line_buffering=True)
            _inherited.append(before)
        stream = open(number, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def freshen_randomness() -> None:
    """Give every generator that was copied by the fork entropy of its own.

    Python's own ``random`` reseeds itself; NumPy's legacy generator and generators among the flow module's globals
    would draw the same numbers in every task.
    """
    if "numpy.random" in sys.modules:
        import numpy as np

        np.random.seed()
        legacy, modern = np.random.RandomState, np.random.Generator
    else:
        legacy = modern = ()  # type: ignore[assignment] # nothing is an instance of no class
    for value in list(vars(sys.modules["__main__"]).values()):
        if type(value) is random.Random or isinstance(value, legacy):
            value.seed()
        elif isinstance(value, modern):
            value.bit_generator.state = type(value.bit_generator)().state


def run(connection: socket.socket, flow_class: type[FlowSpec]) -> NoReturn:
    """Take the spec, run the attempt, send the outcome, and leave as an interpreter leaves."""
    from daskflow.task import attempt

    gc.enable()
    spec: TaskSpec = pickle.loads(wire.receive(connection))
    outcome, status = attempt.run(spec, flow_class)
    wire.send(connection, json.dumps(outcome).encode())
    connection.close()
    leave(status)


def leave(status: int) -> NoReturn:
    """End this process as an interpreter ends, without taking its modules apart.

    Joins threads that are no daemons, runs ``atexit`` and multiprocessing's finalizers, flushes the streams of Python
    and of C.
    """
    threading._shutdown()  # type: ignore[attr-defined] # what the interpreter calls, there is no public name
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr, *_inherited):
        with contextlib.suppress(OSError, ValueError):  # closed by the step, or nobody reads it any more
            stream.flush()
    ctypes.CDLL(None).fflush(None)
    os._exit(status)
