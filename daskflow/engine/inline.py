"""Tasks one after the other in this very process: no cluster, no fork. For debugging."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

from daskflow.engine.executor import Ran
from daskflow.task.execute import execute_here
from daskflow.task.spec import TaskResult, Together

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from daskflow.engine.console import Console
    from daskflow.engine.frontier import Planned
    from daskflow.flow.spec import FlowSpec
    from daskflow.pathspec import TaskName
    from daskflow.task.spec import TaskSpec


class InlineExecutor:
    """Runs a task whenever results are asked for. See :class:`daskflow.engine.executor.Executor`.

    Steps keep the terminal, so ``breakpoint()`` works. A step that ends its process ends the run.
    """

    def __init__(self, flow_class: type[FlowSpec], console: Console) -> None:
        self._flow_class = flow_class
        self._console = console
        self._waiting: deque[Planned | Together] = deque()
        self._committed: set[TaskName] = set()
        self._stopped = False
        self._woken = threading.Event()
        console.lines_only()  # a debugger's prompt must stand where it is
        console.settle()

    def hearing(self) -> AbstractContextManager[None]:
        """Steps write to the terminal themselves."""
        return contextlib.nullcontext()

    def submit(self, region: Sequence[Planned]) -> None:
        """Put it behind what waits already."""
        self._waiting.extend(region)

    def submit_together(self, work: Together) -> None:
        """Put them behind what waits already; here all tasks share the process."""
        self._waiting.append(work)

    @property
    def slots(self) -> int:
        """One after the other."""
        return 1

    def results(self, seconds: float) -> list[Ran]:
        """Run the next task, or sleep until the next one is due."""
        if not self._waiting:
            self._woken.wait(seconds)
            return []
        work = self._waiting.popleft()
        specs = work.specs if isinstance(work, Together) else (work.spec,)
        ready = isinstance(work, Together) or self._committed.issuperset(work.upstream)
        return [Ran(specs[0].name, [self._run(spec, ready) for spec in specs])]

    def _run(self, spec: TaskSpec, ready: bool) -> TaskResult:
        if self._stopped or not ready:
            return TaskResult(spec.name, spec.attempt, "not_run")
        self._console.started(spec, os.getpid())
        self._console.settle()
        result = execute_here(spec, self._flow_class)
        sys.stdout.flush()
        if result.committed:
            self._committed.add(spec.name)
        return result

    def wake(self) -> None:
        """Sleep no longer."""
        self._woken.set()

    def stop(self, grace: float) -> None:
        """Run nothing more."""
        self._stopped = True

    def stopping(self, grace: float) -> str:
        """A step can't be ended without this process."""
        return "the step that runs in this process ends by itself. The third time ends both where they stand."

    def pause(self) -> None:
        """The terminal stops this process itself."""

    def go_on(self) -> None:
        """And lets it go on."""
