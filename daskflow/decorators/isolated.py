"""``@isolated``: no item of a foreach shares a process with another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from daskflow.flow.decorator import StepDecorator

if TYPE_CHECKING:
    from daskflow.flow.policy import Policy


class isolated(StepDecorator):
    """Give each item of a foreach a process of its own, however small it is.

    Without it items that take milliseconds run one after the other in one process: what a module, a class or a library
    keeps from one item is there for the next.
    """

    name = "isolated"

    def step_policy(self, policy: Policy) -> Policy:
        """Say so to the driver."""
        return replace(policy, isolated=True)
