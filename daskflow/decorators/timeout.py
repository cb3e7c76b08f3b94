"""``@timeout``: a limit on how long a step may take."""

from __future__ import annotations

import signal
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from daskflow.errors import TimeoutException
from daskflow.flow.decorator import StepDecorator, number_of

if TYPE_CHECKING:
    from daskflow.flow.decorator import Attempt
    from daskflow.flow.graph import Graph
    from daskflow.flow.node import Node
    from daskflow.flow.policy import Policy
    from daskflow.flow.spec import FlowSpec


class timeout(StepDecorator):
    """End a step that takes longer than this, counted anew for each attempt.

    First :class:`TimeoutException` is raised in the step. If the step goes on all the same (it catches everything, or
    is inside a library that never returns), its process and all that it started are killed five seconds later.

    Parameters
    ----------
    seconds, minutes, hours
        They are added up.
    """

    name = "timeout"
    defaults = {"seconds": 0, "minutes": 0, "hours": 0}
    when_debugging = False

    @property
    def _seconds(self) -> float:
        options = self.options
        return float(options["seconds"] + 60 * options["minutes"] + 3600 * options["hours"])

    def step_init(self, graph: Graph, node: Node) -> None:
        """Check the options."""
        for option in self.defaults:
            number_of(self, node, option)
        if self._seconds <= 0:
            raise self.refuse(node, "allows no time: give seconds, minutes or hours")

    def step_policy(self, policy: Policy) -> Policy:
        """The worker has to see to it too."""
        return replace(policy, timeout=self._seconds)

    def task_pre_step(self, flow: FlowSpec, attempt: Attempt) -> None:
        """Set the clock."""
        if attempt.fallback:
            return

        def ring(_signal: int, _frame: Any) -> NoReturn:
            allowed = timedelta(seconds=self._seconds)
            raise TimeoutException(f"Step '{attempt.step}' took longer than its timeout of {allowed}.")

        self._before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def task_post_step(self, flow: FlowSpec, attempt: Attempt) -> None:
        """Stop it."""
        self._stop()

    def task_exception(self, error: BaseException, flow: FlowSpec, attempt: Attempt) -> bool:
        """Stop it."""
        self._stop()
        return False

    def _stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        before = self.__dict__.pop("_before", None)
        if before is not None:
            signal.signal(signal.SIGALRM, before)
