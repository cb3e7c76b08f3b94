"""What comes from one task's process while it runs: output, messages and its end; the worker's side."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daskflow.errors import DaskflowException
from daskflow.task import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daskflow.task.spec import TaskSpec

TICK_SECONDS = 0.5
SHORTEST_PAUSE, LONGEST_PAUSE, ENOUGH_BYTES = 0.001, 0.1, 4096
"""Seconds that what tiny tasks tell may wait to be read, twice as long each time until so much comes at once: to wake us
costs them as much as many a line, and us too. No longer: what is full of unread bytes stops them."""
TIMEOUT_GRACE_SECONDS = 5.0
"""How long a step may go on after its timeout was raised in it."""


class LauncherDied(DaskflowException):
    """The fork server ended while a task ran; nothing is known of the task."""

    headline = "The task's parent process died"


class TaskNotStarted(DaskflowException):
    """The system refused to make a process."""

    headline = "The task's process can't be started"


@dataclass(frozen=True)
class Ended:
    """How a task's process ended.

    Attributes
    ----------
    exit_code, signal
        One of them is set.
    max_rss
        Peak resident memory in bytes.
    cpu_user, cpu_system
        Seconds.
    left
        Command lines, by pid, of what it left running and what was ended with it.
    killed
        It was ended on the driver's order.
    overdue
        It was ended because its step went on after its timeout.
    """

    pid: int
    exit_code: int | None
    signal: int | None
    max_rss: int
    cpu_user: float
    cpu_system: float
    left: Mapping[str, str] = field(default_factory=dict)
    killed: bool = False
    overdue: bool = False


class Channels:
    """The descriptors of one task."""

    def __init__(self) -> None:
        self.connection, self._their_connection = socket.socketpair()
        self.status, self._their_status = socket.socketpair()
        self.out, self._their_out = os.pipe()
        self.err, self._their_err = os.pipe()

    def __enter__(self) -> Channels:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_theirs()
        self.connection.close()
        self.status.close()
        for descriptor in (self.out, self.err):
            os.close(descriptor)

    def _close_theirs(self) -> None:
        self._their_connection.close()
        self._their_status.close()
        for descriptor in (self._their_out, self._their_err):
            if descriptor >= 0:
                os.close(descriptor)
        self._their_out = self._their_err = -1

    def hand_over(self, control: socket.socket) -> None:
        """Give the task's ends to the fork server."""
        descriptors = [
            self._their_connection.fileno(),
            self._their_out,
            self._their_err,
            self._their_status.fileno(),
        ]
        socket.send_fds(control, [b"T"], descriptors)
        self._close_theirs()

    def follow(
        self,
        spec: TaskSpec,
        started: Callable[[int], None],
        output: Callable[[int, bytes], object],
        message: Callable[[bytes], None],
        killed: Callable[[], bool],
        shared: bool,
    ) -> Ended:
        """Read everything until the fork server reports the process's end.

        What a process tells that several tasks share is read in pauses, as long as ``output`` says that none has written.
        """
        told, news, pid = wire.Inbox(), wire.Inbox(), 0
        clock = _Clock(spec.node.policy.timeout)
        poll = select.poll()
        streams = {self.out: 1, self.err: 2}
        poll.register(self.status.fileno(), select.POLLIN)  # the rest once it is known whose output it is
        pauses = _Pauses(self.status, shared)
        while True:
            ready = poll.poll(TICK_SECONDS * 1000)
            if not ready:
                output(0, b"")
            size, wrote = 0, False
            for descriptor, _ in ready:
                data = _read(descriptor)
                size += len(data)
                if not data:
                    poll.unregister(descriptor)
                if descriptor in streams:
                    wrote |= bool(output(streams[descriptor], data))
                elif descriptor == self.connection.fileno():
                    clock.hear(told.feed(data), message)
                elif not data:
                    raise LauncherDied(
                        f"The process that started {spec.pathspec} died; nothing is known of the task."
                    )
                for fact in news.feed(data) if descriptor == self.status.fileno() else ():
                    facts = json.loads(fact)
                    if "refused" in facts:
                        raise TaskNotStarted(
                            f"{spec.pathspec}: {facts['refused']}. Run fewer tasks at once (--max-workers)."
                        )
                    if "started" in facts:
                        pid = facts["started"]
                        started(pid)
                        for number in (self.connection.fileno(), *streams):
                            poll.register(number, select.POLLIN)
                        continue
                    self._drain(streams, output)
                    clock.hear(told.feed(_rest(self.connection.fileno())), message)
                    return _ended(pid, facts, killed(), clock.rang)
            if clock.overdue():
                self.status.send(wire.KILL)
            pauses.take(size, wrote)

    def _drain(self, streams: Mapping[int, int], output: Callable[[int, bytes], object]) -> None:
        """What is still in the pipes; nobody is left that could write more."""
        for descriptor, stream in streams.items():
            if rest := _rest(descriptor):
                output(stream, rest)


class _Pauses:
    """Pauses in reading what a process tells that several tasks share; its end ends each of them."""

    def __init__(self, status: socket.socket, shared: bool) -> None:
        self._shared = shared
        self._seconds = SHORTEST_PAUSE
        self._status = select.poll()
        self._status.register(status.fileno(), select.POLLIN)

    def take(self, size: int, wrote: bool) -> None:
        """Wait as fits how many bytes came, and whether any were a task's output: the order of its streams shall be seen."""
        if not self._shared:
            return
        if wrote:
            self._seconds = SHORTEST_PAUSE
        elif size > ENOUGH_BYTES:
            self._seconds = max(self._seconds / 4, SHORTEST_PAUSE)
        else:
            self._seconds = min(2 * self._seconds, LONGEST_PAUSE)
        self._status.poll(self._seconds * 1000)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except ConnectionResetError:  # the other side died with bytes of ours unread
        return b""


def _rest(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    data = b""
    with contextlib.suppress(BlockingIOError, ConnectionResetError):
        while part := os.read(descriptor, 1 << 20):
            data += part
    return data


class _Clock:
    """The time of a step with a timeout, as the task's process tells when it begins and ends."""

    def __init__(self, seconds: float | None) -> None:
        self._allowed = None if seconds is None else seconds + TIMEOUT_GRACE_SECONDS
        self._end: float | None = None
        self.rang = False

    def hear(self, messages: list[bytes], others: Callable[[bytes], None]) -> None:
        """Take what is said to the clock; the other messages go on to ``others``."""
        for message in messages:
            if message == wire.BEGINS and self._allowed is not None:
                self._end = time.monotonic() + self._allowed
            elif message == wire.ENDS:
                self._end = None
            elif message != wire.BEGINS:
                others(message)

    def overdue(self) -> bool:
        """Whether the time is up; once."""
        if self._end is None or time.monotonic() < self._end:
            return False
        self._end, self.rang = None, True
        return True


def _ended(pid: int, facts: dict[str, Any], killed: bool, overdue: bool) -> Ended:
    status = facts["status"]
    signalled = os.WIFSIGNALED(status)
    by_kill = signalled and os.WTERMSIG(status) == signal.SIGKILL
    by_us = by_kill or (signalled and os.WTERMSIG(status) == signal.SIGTERM)  # the guard asks before it kills
    return Ended(
        pid=pid,
        exit_code=None if signalled else os.WEXITSTATUS(status),
        signal=os.WTERMSIG(status) if signalled else None,
        max_rss=facts["max_rss"],
        cpu_user=facts["cpu_user"],
        cpu_system=facts["cpu_system"],
        left=facts["left"],
        killed=killed and by_us,
        overdue=overdue and by_kill,
    )
