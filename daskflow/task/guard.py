"""The guard: the parent of a fork server, there only to end everything when something has gone.

It is a bare loop in a process of its own, between the worker and the fork server, and the nearest living ancestor of
all that a run starts. When the worker ends, closes its socket or is killed, the guard ends every descendant, also those
of other sessions and while the flow still loads. When the fork server is killed, it ends what that leaves behind. If the
guard itself is killed, the fork server does the same (:class:`daskflow.task.server.Server`).
"""

from __future__ import annotations

import os
import select
import signal
from typing import NoReturn

from daskflow.task import wire
from daskflow.task.processes import end_descendants

TERM_SECONDS = 2.0
"""Between SIGTERM and SIGKILL for what is ended."""
SIGNALLED = 128
"""Added to a signal's number it makes the guard's exit status, if the fork server was ended by that signal."""


def split_off(control: int, worker: int) -> int:
    """Fork: the child goes on and gets the guard's pid; this process becomes the guard and does not return.

    Parameters
    ----------
    control
        The socket whose hang-up means that the worker needs no tasks any more.
    worker
        The pid of the process that started this one.
    """
    guard = os.getpid()
    child = os.fork()
    if child:
        try:
            _watch(control, worker, child)
        finally:
            os._exit(1)
    wire.adopt_orphans()
    return guard


def silence(*descriptors: int) -> None:
    """Send what is written there nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _watch(control: int, worker: int, server: int) -> NoReturn:
    wire.adopt_orphans()
    silence(0, 1, 2)
    try:
        alive = os.pidfd_open(worker)
        if os.getppid() == worker:  # the number may be another's by now
            poll = select.poll()
            for descriptor in (alive, os.pidfd_open(server)):
                poll.register(descriptor, select.POLLIN)
            poll.register(control, 0)  # its hang-up; what it says is the fork server's to read
            poll.poll()
    except ProcessLookupError:  # the worker has gone already
        pass
    ended, status = os.waitpid(server, os.WNOHANG)
    if not ended:
        end_descendants(TERM_SECONDS, keep=server)
        os.kill(server, signal.SIGKILL)
        _, status = os.waitpid(server, 0)
    end_descendants(0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else SIGNALLED - code)
