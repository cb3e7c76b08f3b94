"""The fork server's loop: new tasks, ends of tasks, orders to kill, and the end of what tasks left running."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from daskflow.task import child, wire
from daskflow.task.guard import TERM_SECONDS
from daskflow.task.processes import (
    children_of,
    command_line,
    end_descendants,
    send_tree,
    session_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from daskflow.flow.spec import FlowSpec

SELF_EXIT_SECONDS = 0.2
"""How long processes that a step left may take to end by themselves, as multiprocessing's helpers do."""
HELPER_SECONDS = 1.0
"""How much longer multiprocessing's helpers may take than all others: they clean up after those."""
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "loky.backend.resource_tracker")
SPARE_SECONDS = 1.0
"""How long a process that waits for a task may take to say that it has it."""
_TICK_SECONDS = 0.005


@dataclass(eq=False)
class Task:
    """A task's process, until its end is reported.

    Attributes
    ----------
    status
        Where its end is reported, and the order to kill it comes from.
    ended
        How its process ended, None while it runs.
    ended_at
        When, on the monotonic clock.
    killed
        It was to be ended at once; what it left gets no time either.
    orphans
        What it left running, by pid: its command.
    left
        The ones that did not end by themselves.
    """

    pid: int
    pidfd: int
    status: socket.socket
    ended: dict[str, Any] | None = None
    ended_at: float = 0.0
    killed: bool = False
    orphans: dict[int, str] = field(default_factory=dict)
    left: dict[int, str] = field(default_factory=dict)

    def tell(self, **news: Any) -> None:
        """Send news to the worker."""
        with contextlib.suppress(OSError):  # it may have stopped caring
            wire.send(self.status, json.dumps(news).encode())


@dataclass(frozen=True)
class _Spare:
    """A process that was forked while nobody waited, so that the next task finds one that is ready.

    It takes the task's descriptors from its channel.
    """

    pid: int
    pidfd: int
    channel: socket.socket

    def takes(self, descriptors: Sequence[int]) -> bool:
        """Hand over a task; False if it does not take it, as one that has just been ended."""
        self.channel.settimeout(SPARE_SECONDS)
        with self.channel, contextlib.suppress(OSError):
            socket.send_fds(self.channel, [b"T"], descriptors)
            return bool(self.channel.recv(1))
        return False


class Server:
    """Serves one worker.

    Parameters
    ----------
    control
        Where tasks come from.
    flow_class
        The flow that was loaded; None if each task has to load it in an interpreter of its own.
    guard
        The parent of this process, see :mod:`daskflow.task.guard`.
    fresh
        The command that runs a task in a fresh interpreter, without its last argument: the connection.
    """

    def __init__(
        self, control: socket.socket, flow_class: type[FlowSpec] | None, guard: int, fresh: Sequence[str]
    ) -> None:
        self._pid = os.getpid()
        self._own_command = command_line(self._pid)
        self._control = control
        self._flow_class = flow_class
        self._fresh = fresh
        self._others = frozenset(children_of(self._pid))  # started when the flow was loaded: no task's
        self._guard = _pidfd_of_parent(guard)
        self._poll = select.epoll()
        self._poll.register(self._guard, select.EPOLLIN)
        self._poll.register(control.fileno(), select.EPOLLIN)
        self._by_pidfd: dict[int, Task] = {}
        self._by_status: dict[int, Task] = {}
        self._keeps_spare = flow_class is not None
        self._spare: _Spare | None = None

    def serve(self) -> NoReturn:
        """Until the guard ends this process, or has itself been killed."""
        orphans = False
        while True:
            needs_spare = self._keeps_spare and self._spare is None
            news = self._poll.poll(_TICK_SECONDS if orphans or needs_spare else None)
            if needs_spare and not news:
                self._fork_spare()
            for descriptor, _ in news:
                if descriptor == self._guard:
                    end_descendants(TERM_SECONDS)
                    os._exit(0)
                elif descriptor == self._control.fileno():
                    self._new_task()
                elif descriptor in self._by_pidfd:
                    self._process_ended(self._by_pidfd[descriptor])
                elif self._spare is not None and descriptor == self._spare.pidfd:
                    self._lose(self._take_spare())
                elif descriptor in self._by_status:
                    self._kill(self._by_status[descriptor])
            for task in list(self._by_status.values()):
                if task.ended is not None:
                    self._end_orphans(task)
            orphans = any(task.orphans for task in self._by_status.values())

    def _new_task(self) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, 64, 4)
        except ConnectionResetError:  # the worker has gone before it read that we are ready
            message, descriptors = b"", []
        if not message:  # the worker has gone; the guard has noticed too and ends what runs, then us
            self._poll.unregister(self._control.fileno())
            return
        connection, out, err, status = descriptors
        task = Task(0, -1, socket.socket(fileno=status))
        try:
            task.pid, task.pidfd = self._process_for(connection, out, err, status)
        except OSError as error:  # too many processes, or no memory: the others go on
            task.tell(refused=error.strerror)
            task.status.close()
        else:
            self._watch(task)
        for descriptor in (connection, out, err):
            os.close(descriptor)

    def _process_for(self, connection: int, out: int, err: int, status: int) -> tuple[int, int]:
        """A task's process and its pidfd; raises ``OSError`` if there can be no more."""
        if self._spare is not None:
            spare = self._take_spare()
            if spare.takes([connection, out, err]):
                return spare.pid, spare.pidfd
            self._lose(spare)
        return self._fork(lambda: (connection, out, err), status)

    def _fork(self, descriptors: Callable[[], Sequence[int]], *others: int) -> tuple[int, int]:
        """A process that becomes a task's (:meth:`_become_task`), and its pidfd; raises ``OSError``, and there is none."""
        pid = os.fork()
        if pid == 0:
            self._become_task(descriptors, *others)
        try:
            return pid, os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise

    def _fork_spare(self) -> None:
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                pid, pidfd = self._fork(lambda: _descriptors_from(theirs), ours.fileno())
        except OSError:  # the next task will be told
            self._keeps_spare = False
            return
        self._spare = _Spare(pid, pidfd, ours)
        self._poll.register(pidfd, select.EPOLLIN)

    def _take_spare(self) -> _Spare:
        spare, self._spare = self._spare, None
        assert spare is not None
        self._poll.unregister(spare.pidfd)
        return spare

    def _lose(self, spare: _Spare) -> None:
        """It was ended, as when memory ran out, or stands still: from now on there is no other one."""
        self._keeps_spare = False
        os.kill(spare.pid, signal.SIGKILL)
        os.waitpid(spare.pid, 0)
        os.close(spare.pidfd)
        spare.channel.close()

    def _watch(self, task: Task) -> None:
        task.tell(started=task.pid)
        self._by_pidfd[task.pidfd] = self._by_status[task.status.fileno()] = task
        self._poll.register(task.pidfd, select.EPOLLIN)
        self._poll.register(task.status.fileno(), select.EPOLLIN)

    def _become_task(self, descriptors: Callable[[], Sequence[int]], *others: int) -> NoReturn:
        """In the child: keep what is the task's, then run it, in this process or in a fresh interpreter.

        Its descriptors are the connection and those for the two outputs; ``others`` are not its own.
        """
        try:
            os.setsid()  # a step that signals its own process group reaches no other task
            _be_taken_first()
            wire.die_with_parent(signal.SIGKILL)
            if os.getppid() != self._pid:  # it died before we asked
                os._exit(1)
            wire.adopt_orphans()
            ours = (self._control.fileno(), self._poll.fileno(), self._guard)
            for descriptor in (*others, *ours, *self._by_pidfd, *self._by_status):
                os.close(descriptor)
            connection, *outputs = descriptors()
            for number, descriptor in enumerate(outputs, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            if self._flow_class is None:
                os.set_inheritable(connection, True)
                os.execv(self._fresh[0], [*self._fresh, str(connection)])
            child.prepare_streams()
            child.settle_after_fork()
            wire.receive(channel := socket.socket(fileno=connection))  # the boot message, known already
            child.run(channel, self._flow_class)
        except BaseException:  # noqa: BLE001 - a defect of ours: it belongs in the task's log, not in the server's loop
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(120)

    def _process_ended(self, task: Task) -> None:
        pid, status, usage = os.wait4(task.pid, os.WNOHANG)
        if not pid:  # the news was of another, whose descriptor this one got meanwhile
            return
        self._poll.unregister(task.pidfd)
        del self._by_pidfd[task.pidfd]
        os.close(task.pidfd)
        task.ended_at = time.monotonic()
        task.ended = {
            "status": status,
            "max_rss": usage.ru_maxrss * 1024,
            "cpu_user": usage.ru_utime,
            "cpu_system": usage.ru_stime,
        }
        self._adopt(task)

    def _adopt(self, ended: Task) -> None:
        """Whatever is our child now and no task's process was left by a task that has ended.

        By which one its session tells, unless it left that; then it is taken for the one that ended just now.
        """
        tasks = {task.pid: task for task in self._by_status.values()}
        known = self._others.union(*(task.orphans for task in tasks.values()))
        if self._spare is not None:
            known |= {self._spare.pid}
        for pid in children_of(self._pid):
            if pid in known or (pid in tasks and tasks[pid].ended is None):
                continue
            owner = tasks.get(session_of(pid) or 0, ended)
            owner.orphans[pid] = ""

    def _end_orphans(self, task: Task) -> None:
        """Bring what a task left to its end, and report once nothing is left."""
        for pid in [pid for pid in task.orphans if os.waitpid(pid, os.WNOHANG)[0]]:
            del task.orphans[pid]
            self._adopt(task)  # its children are ours now
        if not task.orphans:
            self._report(task)
            return
        for pid, what in task.orphans.items():
            task.orphans[pid] = what or self._describe(pid)
        age = time.monotonic() - task.ended_at
        if task.killed or age > SELF_EXIT_SECONDS + TERM_SECONDS:
            late = task.killed or age > SELF_EXIT_SECONDS + TERM_SECONDS + HELPER_SECONDS
            _end(task, task.orphans if late else _no_helpers(task), signal.SIGKILL)
        elif age > SELF_EXIT_SECONDS:
            _end(task, [pid for pid in _no_helpers(task) if pid not in task.left], signal.SIGTERM)

    def _describe(self, pid: int) -> str:
        """The command of a process; a fork of a step has the one of the fork server, which would tell nobody anything."""
        what = command_line(pid)
        return "a fork of it" if what == self._own_command else what

    def _report(self, task: Task) -> None:
        assert task.ended is not None
        task.tell(**task.ended, left=task.left)
        descriptor = task.status.fileno()
        self._poll.unregister(descriptor)
        del self._by_status[descriptor]
        task.status.close()

    def _kill(self, task: Task) -> None:
        """The worker asks for the task's end or has stopped caring for it; or wants it to stand still for a while."""
        descriptor = task.status.fileno()
        word = b""
        with contextlib.suppress(OSError):
            word = task.status.recv(64)
        if word and wire.KILL not in word:
            if task.ended is None:
                send_tree(task.pid, signal.SIGSTOP if word.endswith(wire.STAND_STILL) else signal.SIGCONT)
            return
        self._poll.modify(descriptor, 0)  # asked once is enough; its end of file would wake us for ever
        task.killed = True
        if task.ended is None:
            send_tree(task.pid, signal.SIGKILL)


def _descriptors_from(channel: socket.socket) -> Sequence[int]:
    """In a spare process: those of the task, once there is one; without, it ends.

    To settle takes longest the first time, since the pages that Python writes to are copied then; it is done for the task
    again, and what goes wrong there is told in its log.
    """
    with contextlib.suppress(Exception):
        child.settle_after_fork()
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the flow's own is for its steps
    with channel:
        message, descriptors, _, _ = socket.recv_fds(channel, 64, 3)
        if not message:
            os._exit(0)
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)
        channel.send(message)
    return descriptors


def _be_taken_first() -> None:
    """When memory runs out the kernel shall take a task, never the driver or the worker."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _end(task: Task, pids: Iterable[int], number: int) -> None:
    for pid in pids:
        if not _is_helper(task.orphans[pid]):
            task.left[pid] = task.orphans[pid]
        send_tree(pid, number)


def _no_helpers(task: Task) -> list[int]:
    return [pid for pid, what in task.orphans.items() if not _is_helper(what)]


def _is_helper(what: str) -> bool:
    """Whether it is one of the processes by which multiprocessing cleans up, and which end by themselves."""
    return any(name in what for name in _HELPERS)


def _pidfd_of_parent(parent: int) -> int:
    """A descriptor that is readable once the parent has ended."""
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        os._exit(1)
    if os.getppid() != parent:  # it died, and its number may be another's by now
        os._exit(1)
    return descriptor
