"""The fork server: a process that has loaded the flow and makes one child for each task.

It starts no thread and runs no step. Where the loaded flow can't be forked (it started threads, an OpenMP pool, CUDA)
it replaces itself by a bare server whose children load the flow afresh: the same protocol, the same care for what a
task leaves behind, only slower.

Control socket (``SOCK_SEQPACKET``), worker to zygote: first the boot message (JSON), then for each task one byte with
four descriptors: connection, stdout, stderr, status. Zygote to worker: one JSON message once it is ready.
Connection: spec down, outcome up. Status socket, worker to zygote: a byte, or its end, kills the task; zygote to
worker: how the task's process ended (JSON).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from daskflow.task import hazards, wire
from daskflow.task.processes import children_of, command_line, descendants_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daskflow.flow.spec import FlowSpec
    from daskflow.task.code import Code

SELF_EXIT_SECONDS = 0.2
"""How long helpers that end by themselves (multiprocessing's trackers) may take to do so."""
TERM_SECONDS = 2.0
"""Between SIGTERM and SIGKILL for what a step left running."""
_TICK_SECONDS = 0.005


def command(entry: str, *arguments: str) -> list[str]:
    """The command line of an interpreter like this one that calls a function of this module."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined] # what multiprocessing uses too
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    program = (
        f"import sys; sys.path[:] = [p for p in sys.path if p]; sys.path.append({here!r}); "
        f"from daskflow.task import zygote; zygote.{entry}(*sys.argv[1:])"
    )
    return [sys.executable, *flags, "-c", program, *arguments]


def main(control_fd: str, known_boot: str | None = None) -> NoReturn:
    """Load the flow and serve until the worker closes the control socket."""
    _silence(1, 2)  # what the flow's file prints when it is loaded was printed by the driver already
    wire.die_with_parent(signal.SIGKILL)  # while the flow loads nobody listens to the socket
    wire.adopt_orphans()
    control = socket.socket(fileno=int(control_fd))
    boot = json.loads(known_boot or control.recv(1 << 20))
    flow_class: type[FlowSpec] | None = None
    why = boot["why"] or ("it was asked for" if boot["launcher"] == "fresh" else None)
    if not why:
        try:
            flow_class = load_flow(boot)
        except BaseException as error:  # noqa: BLE001 - whatever the user's module raises is reported, never swallowed
            _send_ready(control, error="".join(traceback.format_exception(error)))
            os._exit(1)
        why = hazards.why_not_fork()
        if why and boot["launcher"] != "fork":  # start again, without what was loaded
            os.set_inheritable(control.fileno(), True)
            bare = command("main", control_fd, json.dumps(boot | {"why": why}))
            os.execv(bare[0], bare)
    wire.die_with_parent(0)
    gc.collect()
    gc.freeze()  # a full collection in a child would else touch, and so copy, every page
    _send_ready(control, mode="fork" if flow_class else "fresh", why=why, rss=_resident_bytes())
    Server(control, flow_class).serve()


def serve_in_fork(
    control: socket.socket, flow_class: type[FlowSpec], code: Code, environment: Mapping[str, str]
) -> NoReturn:
    """In a fork of the driver, which has loaded the flow already: become its fork server."""
    os.setsid()  # Ctrl-C is the driver's to handle
    from daskflow.task import attempt, child  # noqa: F401 - loaded here once, not in every child
    from daskflow.task.code import use_snapshot

    wire.adopt_orphans()
    _silence(0, 1)
    os.environ.clear()
    os.environ.update(environment)
    use_snapshot(code)
    gc.collect()
    gc.freeze()
    _send_ready(control, mode="fork", why=None, rss=_resident_bytes())
    Server(control, flow_class).serve()


def fresh(connection_fd: str) -> NoReturn:
    """One task in an interpreter of its own: load the flow, then as a fork would."""
    from daskflow.task import child

    connection = socket.socket(fileno=int(connection_fd))
    boot = json.loads(wire.receive(connection))
    child.prepare_streams()
    try:
        flow_class = load_flow(boot)
    except BaseException:  # noqa: BLE001 - the task's log is where it belongs
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    child.run(connection, flow_class)


def load_flow(boot: dict[str, Any]) -> type[FlowSpec]:
    """Run the flow's file as ``__main__`` from the run's snapshot."""
    from daskflow.store.runs import RunStore
    from daskflow.store.storage import storage_at
    from daskflow.task import (
        attempt,  # noqa: F401 - loaded here once, not in every child
        code,
    )

    if os.path.isdir(boot["cwd"]):
        os.chdir(boot["cwd"])
    return code.execute_as_main(code.load(RunStore(storage_at(boot["store"]), boot["flow"], boot["run"])))


def _silence(*descriptors: int) -> None:
    """Send what is written there nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _send_ready(control: socket.socket, **facts: Any) -> None:
    with contextlib.suppress(OSError):  # the worker has gone: nobody to tell
        control.send(json.dumps({"pid": os.getpid()} | facts).encode()[-100_000:])


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass
class _Task:
    """A task's process, from fork until its end is reported."""

    pid: int
    pidfd: int
    status: socket.socket
    ended: dict[str, Any] | None = None
    left: dict[int, str] = field(default_factory=dict)


@dataclass
class _Orphan:
    """A process that a task left running."""

    owner: _Task
    what: str
    seen: float
    termed: float | None = None
    killed: bool = False


class Server:
    """The loop: new tasks, ends of tasks, orders to kill, and the end of what tasks left behind."""

    def __init__(self, control: socket.socket, flow_class: type[FlowSpec] | None) -> None:
        self._control = control
        self._flow_class = flow_class
        self._poll = select.epoll()
        self._poll.register(control.fileno(), select.EPOLLIN)
        self._by_pidfd: dict[int, _Task] = {}
        self._by_status: dict[int, _Task] = {}
        self._orphans: dict[int, _Orphan] = {}

    def serve(self) -> NoReturn:
        """Until the control socket ends; then end everything and this process."""
        while True:
            for descriptor, _ in self._poll.poll(_TICK_SECONDS if self._orphans else None):
                if descriptor == self._control.fileno():
                    self._new_task()
                elif descriptor in self._by_pidfd:
                    self._process_ended(self._by_pidfd[descriptor])
                elif descriptor in self._by_status:
                    self._kill(self._by_status[descriptor])
            if self._orphans:
                self._end_orphans()

    def _new_task(self) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, 64, 4)
        except ConnectionResetError:  # the worker has gone before it read that we are ready
            self._leave()
        if not message:
            self._leave()
        connection, out, err, status = descriptors
        pid = os.fork()
        if pid == 0:
            self._become_task(connection, out, err, status)
        for descriptor in (connection, out, err):
            os.close(descriptor)
        task = _Task(pid, os.pidfd_open(pid), socket.socket(fileno=status))
        with contextlib.suppress(OSError):  # the worker may have stopped caring
            wire.send(task.status, json.dumps({"started": pid}).encode())
        self._by_pidfd[task.pidfd] = task
        self._by_status[status] = task
        self._poll.register(task.pidfd, select.EPOLLIN)
        self._poll.register(status, select.EPOLLIN)

    def _become_task(self, connection: int, out: int, err: int, status: int) -> NoReturn:
        """In the child: keep what is the task's, then run it, in this process or in a fresh interpreter."""
        try:
            wire.die_with_parent(signal.SIGKILL)
            wire.adopt_orphans()
            os.dup2(out, 1)
            os.dup2(err, 2)
            others = [self._control.fileno(), self._poll.fileno(), *self._by_pidfd, *self._by_status]
            for descriptor in (out, err, status, *others):
                os.close(descriptor)
            if self._flow_class is None:
                os.set_inheritable(connection, True)
                arguments = command("fresh", str(connection))
                os.execv(arguments[0], arguments)
            from daskflow.task import child

            child.prepare_streams()
            child.freshen_randomness()
            wire.receive(channel := socket.socket(fileno=connection))  # the boot message, known already
            child.run(channel, self._flow_class)
        except BaseException:  # noqa: BLE001 - a defect of ours: it belongs in the task's log, not in the server's loop
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(120)

    def _process_ended(self, task: _Task) -> None:
        _, status, usage = os.wait4(task.pid, 0)
        self._poll.unregister(task.pidfd)
        del self._by_pidfd[task.pidfd]
        os.close(task.pidfd)
        task.ended = {
            "status": status,
            "max_rss": usage.ru_maxrss * 1024,
            "cpu_user": usage.ru_utime,
            "cpu_system": usage.ru_stime,
        }
        self._adopt(task)
        self._report_if_alone(task)

    def _adopt(self, owner: _Task) -> None:
        """Whatever is our child now and no task's process was left by the task that just ended."""
        tasks = {task.pid for task in self._by_pidfd.values()}
        for pid in children_of(os.getpid()):
            if pid not in tasks and pid not in self._orphans:
                self._orphans[pid] = _Orphan(owner, command_line(pid), time.monotonic())

    def _end_orphans(self) -> None:
        now = time.monotonic()
        for pid, orphan in list(self._orphans.items()):
            if os.waitpid(pid, os.WNOHANG)[0]:
                del self._orphans[pid]
                self._adopt(orphan.owner)  # its children are ours now
                self._report_if_alone(orphan.owner)
            elif orphan.termed is None and now - orphan.seen > SELF_EXIT_SECONDS:
                orphan.termed = now
                orphan.owner.left[pid] = orphan.what
                _signal_tree(pid, signal.SIGTERM)
            elif orphan.termed is not None and not orphan.killed and now - orphan.termed > TERM_SECONDS:
                orphan.killed = True
                _signal_tree(pid, signal.SIGKILL)

    def _report_if_alone(self, task: _Task) -> None:
        if any(orphan.owner is task for orphan in self._orphans.values()):
            return
        assert task.ended is not None
        descriptor = task.status.fileno()
        with contextlib.suppress(OSError):  # the worker may have stopped caring
            wire.send(task.status, json.dumps(task.ended | {"left": task.left}).encode())
        self._poll.unregister(descriptor)
        del self._by_status[descriptor]
        task.status.close()

    def _kill(self, task: _Task) -> None:
        """The worker asks for the task's end, or has stopped caring for it."""
        descriptor = task.status.fileno()
        with contextlib.suppress(OSError):
            task.status.recv(64)
        self._poll.modify(descriptor, 0)  # asked once is enough; its end of file would wake us for ever
        if task.ended is None:
            _signal_tree(task.pid, signal.SIGKILL)

    def _leave(self) -> NoReturn:
        """The worker is gone: end every descendant, then this process."""
        deadline = time.monotonic() + TERM_SECONDS
        for pid in descendants_of(os.getpid()):
            _signal(pid, signal.SIGTERM)
        while (left := descendants_of(os.getpid())) and time.monotonic() < deadline:
            _reap()
            time.sleep(_TICK_SECONDS)
        while left:
            for pid in left:
                _signal(pid, signal.SIGKILL)
            _reap()
            time.sleep(_TICK_SECONDS)
            left = descendants_of(os.getpid())
        os._exit(0)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):  # none left
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _signal_tree(pid: int, number: int) -> None:
    for one in [*descendants_of(pid), pid]:
        _signal(one, number)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has just ended, or is not ours to end
        os.kill(pid, number)
