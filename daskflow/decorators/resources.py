"""``@resources``: what a task needs while it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from daskflow.flow.decorator import StepDecorator, number_of

if TYPE_CHECKING:
    from daskflow.flow.graph import Graph
    from daskflow.flow.node import Node
    from daskflow.flow.policy import Policy


class resources(StepDecorator):
    """What each task of the step needs; tasks wait until a worker has it to spare.

    It limits how many tasks run at once, not what a task takes. The threads of BLAS and OpenMP in a task follow
    ``cpu``; with ``gpu`` a task sees devices of its own in ``CUDA_VISIBLE_DEVICES``.

    Parameters
    ----------
    cpu
        Cores.
    memory
        Megabytes; not counted unless it is given.
    gpu
        Devices.
    """

    name = "resources"
    defaults = {"cpu": 1, "memory": None, "gpu": None}

    def step_init(self, graph: Graph, node: Node) -> None:
        """Check the options."""
        number_of(self, node, "cpu")
        for option, whole in (("memory", False), ("gpu", True)):
            if self.options[option] is not None:
                number_of(self, node, option, whole=whole)

    def step_policy(self, policy: Policy) -> Policy:
        """Ask for them."""
        memory, gpu = self.options["memory"], self.options["gpu"]
        return replace(
            policy,
            cpu=float(self.options["cpu"]),
            memory=None if memory is None else float(memory),
            gpu=None if gpu is None else int(gpu),
        )
