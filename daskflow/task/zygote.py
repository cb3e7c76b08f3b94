"""The fork server: a process that has loaded the flow and makes one child for each task.

It starts no thread and runs no step; its loop is :class:`daskflow.task.server.Server`. Where the loaded flow can't be forked (it started threads, an OpenMP pool, CUDA)
it replaces itself by a bare server whose children load the flow afresh: the same protocol, the same care for what a
task leaves behind, only slower.

Control socket (``SOCK_SEQPACKET``), worker to zygote: first the boot message (JSON), then for each task one byte with
four descriptors: connection, stdout, stderr, status. Zygote to worker: one JSON message once it is ready.
Connection: spec down, outcome up. Status socket, worker to zygote: a byte, or its end, kills the task; zygote to
worker: how the task's process ended (JSON).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from daskflow.errors import DaskflowException
from daskflow.task import child, hazards, randomness, wire
from daskflow.task.guard import silence, split_off
from daskflow.task.server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daskflow.flow.spec import FlowSpec
    from daskflow.store.runs import RunStore
    from daskflow.task.code import Code
    from daskflow.task.unpacked import Place

_MOST_ERROR = 100_000
"""Characters of a traceback that a message can hold."""


def command(entry: str, *arguments: str, module: str = __name__, python: str = sys.executable) -> list[str]:
    """The command line of an interpreter like this one that calls a function of ``module``, by default this one."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined] # what multiprocessing uses too
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    program = (
        f"import sys; sys.path[:] = [p for p in sys.path if p]; {here!r} in sys.path or sys.path.append({here!r}); "
        f"from {module} import {entry}; {entry}(*sys.argv[1:])"
    )
    return [python, *flags, "-c", program, *arguments]


def main(control_fd: str, worker_or_guard: str, known_boot: str | None = None) -> NoReturn:
    """Load the flow and serve the worker.

    Called with the worker's pid; by a fork server that replaces itself with its guard's, and the boot message.
    """
    silence(1, 2)  # what the flow's file prints when it is loaded was printed by the driver already
    control = socket.socket(fileno=int(control_fd))
    guard = int(worker_or_guard) if known_boot else split_off(control.fileno(), int(worker_or_guard))
    wire.die_with_parent(signal.SIGKILL)  # while the flow loads nobody looks at the guard
    boot = json.loads(known_boot or control.recv(1 << 20))
    flow_class: type[FlowSpec] | None = None
    why = boot["why"] or ("it was asked for" if boot["launcher"] == "fresh" else None)
    if not why:
        try:
            flow_class = load_flow(boot)
        except BaseException as error:  # noqa: BLE001 - whatever the user's module raises is reported, never swallowed
            _send_ready(control, error=_told(error, boot)[-_MOST_ERROR:])
            os._exit(1)
        why = hazards.why_not_fork()
        if why and boot["launcher"] != "fork":  # start again, without what was loaded
            os.set_inheritable(control.fileno(), True)
            bare = command("main", control_fd, str(guard), json.dumps(boot | {"why": why}))
            os.execv(bare[0], bare)
    wire.die_with_parent(0)
    _serve(control, flow_class, guard, why, boot["store"])


def serve_in_fork(
    control: socket.socket,
    worker: int,
    flow_class: type[FlowSpec],
    code: Code,
    environment: Mapping[str, str],
    store: str,
) -> NoReturn:
    """In a fork of the driver, which has loaded the flow already: become its fork server."""
    os.setsid()  # Ctrl-C is the driver's to handle
    silence(0, 1)
    guard = split_off(control.fileno(), worker)
    from daskflow.task.code import use_snapshot

    os.environ.clear()
    os.environ.update(environment)
    use_snapshot(code)
    _serve(control, flow_class, guard, None, store)


def _serve(
    control: socket.socket, flow_class: type[FlowSpec] | None, guard: int, why: str | None, store: str
) -> NoReturn:
    from daskflow.store.storage import storage_at

    if flow_class is not None:
        storage_at(store).prepare_fork()
        child.prepare_fork()
    _send_ready(control, mode="fork" if flow_class else "fresh", why=why, rss=_resident_bytes())
    Server(control, flow_class, guard, command("fresh")).serve()


def fresh(connection_fd: str) -> NoReturn:
    """One task in an interpreter of its own: load the flow, then as a fork would."""
    connection = socket.socket(fileno=int(connection_fd))
    boot = json.loads(wire.receive(connection))
    try:
        with child.muted():
            flow_class = load_flow(boot)
    except BaseException as error:  # noqa: BLE001 - the task's log is where it belongs
        child.prepare_streams()
        sys.stderr.write(_told(error, boot))
        sys.stderr.flush()
        os._exit(1)
    child.prepare_streams()
    randomness.note_generators()
    randomness.freshen()
    child.run(connection, flow_class)


def load_flow(boot: dict[str, Any]) -> type[FlowSpec]:
    """Run the flow's file as ``__main__`` from the run's snapshot."""
    from daskflow.flow.decorator import attach
    from daskflow.store.runs import RunStore
    from daskflow.store.storage import storage_at
    from daskflow.task import code

    store = RunStore(storage_at(boot["store"]), boot["flow"], boot["run"])
    try:
        copy = _copy_of(store, boot)
        found = code.load(store, boot["snapshot"], None if copy is None else copy.root)
    except DaskflowException as error:
        raise _CodeNotThere(f"{error.headline}: {error.message}\n") from error
    if copy is not None:  # where the client would look for a store from here there is none
        os.environ.setdefault("DASKFLOW_DATASTORE", boot["store"])
    cwd = boot["cwd"] if copy is None else copy.cwd
    if os.path.isdir(cwd):
        os.chdir(cwd)
    flow_class = code.execute_as_main(found)
    attach(flow_class, boot["decorators"])
    return flow_class


class _CodeNotThere(Exception):
    """The run's code could not be had, which is no fault of the code."""


def _told(error: BaseException, boot: Mapping[str, Any]) -> str:
    """Why the flow was not loaded: the traceback of what the user's file raised, else a sentence."""
    from daskflow.task.attempt import not_here, without_ours

    if isinstance(error, _CodeNotThere):
        return str(error)
    return without_ours(error) + not_here(error, boot.get("folder") is not None)


def _copy_of(store: RunStore, boot: dict[str, Any]) -> Place | None:
    """Where the flow's folder was laid out anew, if the driver's is not to be seen from here."""
    if boot.get("folder") is None:
        return None
    from daskflow.task import unpacked

    return unpacked.place(store, boot["snapshot"], boot["folder"])


def _send_ready(control: socket.socket, **facts: Any) -> None:
    with contextlib.suppress(OSError):  # the worker has gone: nobody to tell
        control.send(json.dumps({"pid": os.getpid()} | facts).encode())


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
