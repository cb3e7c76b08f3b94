"""The launchers of a worker: one for each run and environment, ended once they have nothing to do."""

from __future__ import annotations

import os
import sys
import threading
from collections import defaultdict
from typing import TYPE_CHECKING

from daskflow.errors import DaskflowException, RequirementsError
from daskflow.task import hazards
from daskflow.task.launcher import Launcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.flow.spec import FlowSpec
    from daskflow.task.code import Code
    from daskflow.task.output import Sink
    from daskflow.task.spec import RunContext

_Environment = tuple[tuple[str, str], ...]

LARGE_RESIDENT = 500 << 20
IDLE_SECONDS = 60.0
"""How long a launcher may have nothing to do; the next task gets a new one."""


def interpreter(run: RunContext, tell: Callable[[str], None] = lambda _: None) -> str:
    """What runs the tasks: this interpreter, or that of the environment of the run's requirements."""
    if not run.pins:
        return sys.executable
    from daskflow.task import environment

    return environment.interpreter(run, tell)


def _make_no_environment(run: RunContext) -> None:
    if run.pins:
        from daskflow.task import environment

        environment.stop(run)


class RunStopped(DaskflowException):
    """No task of the run is to start any more."""

    headline = "The run was stopped"


class Launchers:
    """The launchers of this process, one for each run and environment, and what was said about them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_run: defaultdict[str, dict[_Environment, Launcher]] = defaultdict(dict)
        self._stopped: set[str] = set()
        self._timers: dict[str, list[threading.Timer]] = {}
        self._described: set[int] = set()
        self._keeper: threading.Thread | None = None
        self._nothing_left = threading.Event()

    def start(
        self, run: RunContext, environment: _Environment = (), tell: Callable[[str], None] = lambda _: None
    ) -> Launcher:
        """The launcher of a run whose tasks have these variables too, started if it is not there.

        ``tell`` is told if that takes long: if the environment of the run's requirements has to be made.
        Raises :class:`RunStopped`, and :class:`RequirementsError` if that can't be made.
        """
        python = sys.executable
        if not self.stopped(run):
            try:
                python = interpreter(run, tell)  # may take minutes
            except RequirementsError:
                if not self.stopped(run):
                    raise
        with self._lock:
            if self.stopped(run):
                raise RunStopped(f"Run {run.flow}/{run.run} was stopped; none of its tasks starts any more.")
            launchers = self._by_run[run.token]
            if self._keeper is None:
                self._nothing_left.clear()
                self._keeper = threading.Thread(target=self._end_idle_ones, name="daskflow-idle", daemon=True)
                self._keeper.start()
            if environment not in launchers:
                launchers[environment] = Launcher(run, os.environ | dict(environment), python=python)
                launchers[environment].start()
            return launchers[environment]

    def _end_idle_ones(self) -> None:
        """A launcher that has had nothing to do for a while ends: its driver may have been killed, and tells nobody."""
        while not self._nothing_left.wait(IDLE_SECONDS / 4):
            with self._lock:
                ended = [
                    launchers.pop(environment)
                    for launchers in self._by_run.values()
                    for environment, launcher in list(launchers.items())
                    if launcher.idle_seconds() > IDLE_SECONDS
                ]
            for launcher in ended:
                launcher.close()

    def start_by_fork(self, run: RunContext, flow_class: type[FlowSpec], code: Code) -> None:
        """Let the run's tasks be forks of this process, if it can be forked; else start its launcher as ever.

        So it is started if the run has requirements: its tasks are another interpreter's.
        """
        why = None if run.launcher == "fork" or run.pins else hazards.why_not_fork()
        launcher = Launcher(run, why_not_fork=why, python=interpreter(run))
        if why or run.pins or run.launcher == "fresh":
            launcher.start()
        else:
            launcher.start_by_fork(flow_class, code)
        with self._lock:
            self._by_run[run.token][()] = launcher

    def stopped(self, run: RunContext) -> bool:
        """Whether no task of the run is to start any more: it was stopped, or is over."""
        return run.token in self._stopped

    def stop(self, run: RunContext, grace: float) -> None:
        """Start no more tasks of a run; end those that still run after ``grace`` seconds."""
        with self._lock:
            self._stopped.add(run.token)
            _make_no_environment(run)
            for launcher in self._by_run[run.token].values():
                timer = threading.Timer(grace, launcher.end_tasks)
                timer.daemon = True
                timer.start()
                self._timers.setdefault(run.token, []).append(timer)

    def pause(self, run: RunContext, still: bool) -> None:
        """Let the tasks of a run stand still, or go on."""
        with self._lock:
            launchers = list(self._by_run[run.token].values())
        for launcher in launchers:
            launcher.pause(still)

    def discard(self, run: RunContext, died: Launcher) -> None:
        """The next task gets a new launcher."""
        with self._lock:
            launchers = self._by_run[run.token]
            for environment in [key for key, launcher in launchers.items() if launcher is died]:
                del launchers[environment]
        died.close()

    def close(self, run: RunContext) -> None:
        """End the launchers of a run, for good: a task that comes late starts no other."""
        with self._lock:
            self._stopped.add(run.token)
            _make_no_environment(run)
            launchers = self._by_run.pop(run.token, {})
            timers = self._timers.pop(run.token, [])
            keeper = None
            if not any(self._by_run.values()):
                keeper, self._keeper = self._keeper, None
                self._nothing_left.set()
        for timer in timers:
            timer.cancel()
        for launcher in launchers.values():
            launcher.close()
        if keeper is not None:
            keeper.join()

    def describe(self, launcher: Launcher, sink: Sink) -> None:
        """Say once what a user should know about how tasks are started."""
        ready = launcher.ready()
        if ready["pid"] in self._described:
            return
        self._described.add(ready["pid"])
        if ready["mode"] == "fresh":
            sink.notice(
                f"Each task starts an interpreter of its own, which is slower than a fork: {ready['why']}."
            )
        elif ready["rss"] > LARGE_RESIDENT:
            sink.notice(
                f"Loading the flow's file takes {ready['rss'] >> 20} MB, which makes every task slower to start: "
                "load data in a step, not at the top of the file."
            )


LAUNCHERS = Launchers()
