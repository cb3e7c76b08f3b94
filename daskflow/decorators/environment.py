"""``@environment``: variables of a step's process."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from daskflow.flow.decorator import StepDecorator

if TYPE_CHECKING:
    from daskflow.flow.graph import Graph
    from daskflow.flow.node import Node
    from daskflow.flow.policy import Policy
LONGEST = 120_000
"""Bytes of a variable's value."""


class environment(StepDecorator):
    """Environment variables that are there before the interpreter of the step's tasks starts.

    So those work too that a library reads when it is loaded, such as ``OMP_NUM_THREADS``. Other steps don't see them.

    Parameters
    ----------
    vars
        Name and value of each. A value must be a text, a number or a boolean.
    """

    name = "environment"
    defaults = {"vars": {}}

    def step_init(self, graph: Graph, node: Node) -> None:
        """Check names and values."""
        given = self.options["vars"]
        if not isinstance(given, dict):
            raise self.refuse(node, f"has vars={given!r}, which is not a dict of names and values")
        for name, value in given.items():
            if not isinstance(name, str) or not name or "=" in name or "\0" in name:
                raise self.refuse(node, f"sets {name!r}, which can't be the name of an environment variable")
            if not isinstance(value, str | int | float | bool) or not _can_be_passed(str(value)):
                raise self.refuse(
                    node, f"sets {name} to {value!r} ({type(value).__name__}), which is not a text: use str()"
                )

    def step_policy(self, policy: Policy) -> Policy:
        """Start the step's processes with them."""
        given = dict(policy.environment) | {name: str(value) for name, value in self.options["vars"].items()}
        return replace(policy, environment=tuple(sorted(given.items())))


def _can_be_passed(text: str) -> bool:
    """Whether the system takes it: no zero byte, encodable, and short enough (Linux, MAX_ARG_STRLEN)."""
    try:
        return "\0" not in text and len(os.fsencode(text)) < LONGEST
    except UnicodeEncodeError:
        return False
