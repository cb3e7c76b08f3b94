"""The worker's side of a task's process: start it, hand it its work, end it if told to."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Protocol

from daskflow.errors import DaskflowException
from daskflow.task import wire, zygote
from daskflow.task.channels import Channels, LauncherDied
from daskflow.task.guard import SIGNALLED
from daskflow.task.spec import Together

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daskflow.flow.spec import FlowSpec
    from daskflow.task.channels import Ended
    from daskflow.task.code import Code
    from daskflow.task.spec import RunContext, TaskSpec


class FlowNotLoadable(DaskflowException):
    """The flow's file can't be loaded where its tasks should run."""

    headline = "The flow can't be loaded"


class Launcher:
    """Starts the processes of one run's tasks on this machine, through a fork server of its own.

    Parameters
    ----------
    run
        Whose code to load, from which store.
    environment
        Variables of the tasks; the worker's own if None.
    why_not_fork
        Why the flow, once loaded, can't be forked, if that is known already.
    python
        The interpreter that loads the flow: this one, or that of an environment.
    """

    def __init__(
        self,
        run: RunContext,
        environment: Mapping[str, str] | None = None,
        why_not_fork: str | None = None,
        python: str = sys.executable,
    ) -> None:
        self.run_context = run
        self._boot = json.dumps(
            {
                "flow": run.flow,
                "run": run.run,
                "store": run.store,
                "snapshot": run.snapshot,
                "decorators": run.decorators,
                "cwd": run.cwd,
                "folder": run.folder,
                "launcher": run.launcher,
                "why": why_not_fork,
            }
        ).encode()
        variables = dict(os.environ if environment is None else environment)
        self._environment = variables | {
            "PYTHONUNBUFFERED": "x",
            "DASKFLOW_RUN_ID": run.run,
            "DASKFLOW_RUNTIME_NAME": "dask",
        }
        self._python = python
        if python != sys.executable:
            self._environment |= _activated(python, variables)
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._ready: dict[str, Any] | None = None
        self._control: socket.socket | None = None
        self._process: _Process | None = None
        self._running: dict[int, socket.socket] = {}
        self._idle_since = time.monotonic()
        self._stopping = False

    def start(self) -> None:
        """Start the fork server without waiting for it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            zygote.command("main", str(theirs.fileno()), str(os.getpid()), python=self._python),
            pass_fds=[theirs.fileno()],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the driver's to handle
        )
        theirs.close()
        ours.send(self._boot)
        self._control = ours

    def start_by_fork(self, flow_class: type[FlowSpec], code: Code) -> None:
        """Start the fork server as a fork of this process, which has loaded the flow and runs no thread."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        sys.stderr.flush()
        driver = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                zygote.serve_in_fork(
                    theirs, driver, flow_class, code, self._environment, self.run_context.store
                )
            except BaseException:  # noqa: BLE001 - must not go on as a second driver
                traceback.print_exc()
            finally:
                os._exit(1)
        theirs.close()
        self._process = _Forked(pid)
        self._control = ours

    def ready(self) -> dict[str, Any]:
        """Wait until the flow is loaded: ``mode`` (``fork`` or ``fresh``), ``why`` (if fresh), ``rss``, ``pid``.

        Raises :class:`FlowNotLoadable` with the traceback of the flow's file if it can't be loaded, and
        :class:`LauncherDied` if a signal ended the process that loads it, or the run was stopped meanwhile.
        """
        with self._loading:
            if self._ready is None:
                self._ready = self._hear_that_it_is_ready()
                self._idle_since = time.monotonic()
            if "error" in self._ready:
                raise FlowNotLoadable(self._ready["error"])
            return self._ready

    def _hear_that_it_is_ready(self) -> dict[str, Any]:
        assert self._control is not None
        assert self._process is not None
        try:
            data = self._control.recv(1 << 20)
        except OSError:  # closed by us
            data = b""
        if data:
            found: dict[str, Any] = json.loads(data)
            return found
        status = self._process.wait()
        what = f"The process that loads {self.run_context.flow}"
        if self._stopping:
            raise LauncherDied(f"{what} was ended: the run was stopped.")
        if status > SIGNALLED:
            raise LauncherDied(f"{what} was ended by {signal_name(status - SIGNALLED)}.")
        return {"error": f"{what} ended with exit status {status} before the flow was loaded."}

    def run(
        self,
        work: TaskSpec | Together,
        started: Callable[[int], None],
        output: Callable[[int, bytes], object],
        message: Callable[[bytes], None],
    ) -> Ended:
        """Run one attempt, or several, in a process of its own and wait for its end.

        Parameters
        ----------
        work
            What to run.
        started
            Called with the pid.
        output
            Called with 1 or 2 and the bytes the process wrote, and with 0 and nothing from time to time. Returns, of
            several, whether that was more than the marks between them.
        message
            Called with what it tells: of one attempt a ``TaskRecord`` as JSON, of several see
            :func:`daskflow.task.together.run`.

        Raises :class:`FlowNotLoadable`, :class:`LauncherDied` or :class:`TaskNotStarted`.
        """
        self.ready()
        assert self._control is not None
        spec = work.specs[0] if isinstance(work, Together) else work
        with Channels() as channels:
            with self._lock:
                try:
                    channels.hand_over(self._control)
                except OSError as error:
                    raise LauncherDied(
                        f"The process that starts the tasks of {spec.pathspec} has died: {error}."
                    ) from error
                key = id(channels)
                self._running[key] = channels.status
                if self._stopping:
                    channels.status.send(wire.KILL)
            try:
                with contextlib.suppress(
                    BrokenPipeError, ConnectionResetError
                ):  # it died: its status will say how
                    wire.send(channels.connection, self._boot)
                    wire.send(channels.connection, pickle.dumps(work))
                shared = isinstance(work, Together)
                return channels.follow(spec, started, output, message, lambda: self._stopping, shared)
            finally:
                with self._lock:
                    self._running.pop(key, None)
                    self._idle_since = time.monotonic()

    def idle_seconds(self) -> float:
        """For how long it has had no task; 0 while it has one, or one waits until the flow is loaded."""
        with self._lock:
            in_use = self._running or self._loading.locked()
            return 0.0 if in_use else time.monotonic() - self._idle_since

    def end_tasks(self) -> None:
        """Kill every task that runs, and every one that starts from now on."""
        with self._lock:
            self._stopping = True
            for status in self._running.values():
                with contextlib.suppress(OSError):  # it has just ended
                    status.send(wire.KILL)
        if self._ready is None:
            self._hang_up()  # nothing runs yet, and loading the flow may take long

    def pause(self, still: bool) -> None:
        """Let every task that runs stand still, or go on."""
        with self._lock:
            for status in self._running.values():
                with contextlib.suppress(OSError):  # it has just ended
                    status.send(wire.STAND_STILL if still else wire.GO_ON)

    def close(self) -> None:
        """End the fork server and everything below it."""
        self._stopping = True
        self._hang_up()
        if self._process is not None:
            self._process.wait()
        if self._control is not None:
            self._control.close()

    def _hang_up(self) -> None:
        """The guard ends everything then, and a thread that waits for the fork server waits no longer."""
        if self._control is not None:
            with contextlib.suppress(OSError):  # the other side has gone already
                self._control.shutdown(socket.SHUT_RDWR)


def _activated(python: str, variables: Mapping[str, str]) -> dict[str, str]:
    """What makes programs of a virtual environment be found, as its ``activate`` does."""
    folder = os.path.dirname(python)
    path = variables.get("PATH", os.defpath)
    return {"PATH": f"{folder}{os.pathsep}{path}", "VIRTUAL_ENV": os.path.dirname(folder)}


def signal_name(number: int) -> str:
    """A signal's name and what it means, for a message."""
    try:
        name = signal.Signals(number).name
    except ValueError:  # one of the real-time signals
        return f"signal {number}"
    return f"{name} ({signal.strsignal(number)})"


class _Process(Protocol):
    def wait(self) -> int: ...


class _Forked:
    """A child of this process that was forked, seen as ``subprocess`` shows one."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._status: int | None = None
        self._lock = threading.Lock()

    def wait(self) -> int:
        """Wait for its end; its exit status."""
        with self._lock:
            if self._status is None:
                self._status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            return self._status
