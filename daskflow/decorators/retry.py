"""``@retry``: try a failed task again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from daskflow.errors import MAX_ATTEMPTS
from daskflow.flow.decorator import StepDecorator, number_of, truth_of

if TYPE_CHECKING:
    from daskflow.flow.graph import Graph
    from daskflow.flow.node import Node
    from daskflow.flow.policy import Policy


class retry(StepDecorator):
    """Try a failed task again, each time in a fresh process from the same inputs.

    Between attempts nothing waits but the driver: no slot of the cluster is held.

    Parameters
    ----------
    times
        How many more attempts, 0 to 4.
    minutes_between_retries
        Time before the first of them.
    backoff
        By how much that time grows with each further attempt; 1 keeps it.
    jitter
        Vary it by up to a quarter.
    """

    name = "retry"
    defaults = {"times": 3, "minutes_between_retries": 2, "backoff": 2.0, "jitter": True}

    def step_init(self, graph: Graph, node: Node) -> None:
        """Check the options."""
        number_of(self, node, "times", at_most=MAX_ATTEMPTS - 2, whole=True)
        number_of(self, node, "minutes_between_retries")
        number_of(self, node, "backoff", at_least=1)
        truth_of(self, node, "jitter")

    def step_policy(self, policy: Policy) -> Policy:
        """More attempts, and when."""
        return replace(
            policy,
            retries=int(self.options["times"]),
            retry_minutes=float(self.options["minutes_between_retries"]),
            backoff=float(self.options["backoff"]),
            jitter=self.options["jitter"],
        )
