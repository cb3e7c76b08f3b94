"""``@catch``: go on although a task has failed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from daskflow.errors import ExceptionWrapper, FailureHandledByCatch
from daskflow.flow.decorator import StepDecorator, truth_of
from daskflow.task.attempt import report, vars_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.flow.decorator import Attempt
    from daskflow.flow.graph import Graph
    from daskflow.flow.node import Node
    from daskflow.flow.policy import Policy
    from daskflow.flow.spec import FlowSpec

FALLBACKS = 3
"""Attempts that only record that the step's own attempts failed."""


class catch(StepDecorator):
    """Let the flow go on when the last attempt of a task has failed.

    What the step had set until then is kept. If its process died, or what it set can't be stored, one more attempt does
    not run the step and only records the failure.

    Parameters
    ----------
    var
        The artifact that holds the failure (``.exception``, ``.type``, ``.stacktrace``), None if the step succeeds.
    print_exception
        Whether the traceback goes to the task's log.
    """

    name = "catch"
    defaults = {"var": None, "print_exception": True}
    when_debugging = False

    def step_init(self, graph: Graph, node: Node) -> None:
        """Only where the next step does not depend on what the step did."""
        if node.type in ("foreach", "switch"):
            what = "its items are" if node.type == "foreach" else "its choice is"
            raise self.refuse(
                node,
                f"is not possible: if the step fails there is nothing to go on with, {what} not known",
            )
        truth_of(self, node, "print_exception")
        var = self.options["var"]
        if var is not None and not (isinstance(var, str) and var.isidentifier() and not var.startswith("__")):
            raise self.refuse(node, f"has var={var!r}, which can't be the name of an artifact")
        if var in graph.taken:
            raise self.refuse(node, f"has var='{var}', which the flow's class has: no step can set it")

    def step_policy(self, policy: Policy) -> Policy:
        """Attempts for when the step's process died."""
        return replace(policy, fallbacks=FALLBACKS)

    def task_decorate(
        self, function: Callable[..., Any], flow: FlowSpec, attempt: Attempt
    ) -> Callable[..., Any]:
        """In a fallback attempt: fail in place of the step."""
        if not attempt.fallback:
            return function

        def failed(*_inputs: Any) -> None:
            raise FailureHandledByCatch(f"Step '{attempt.step}' failed: {attempt.cause}")

        return failed

    def task_post_step(self, flow: FlowSpec, attempt: Attempt) -> None:
        """Nothing was caught."""
        if self.options["var"]:
            setattr(flow, self.options["var"], None)

    def task_exception(self, error: BaseException, flow: FlowSpec, attempt: Attempt) -> bool:
        """Keep the error, if no other attempt comes."""
        if not attempt.last:
            return False
        if self.options["print_exception"]:
            report(error)
        if self.options["var"]:
            setattr(flow, self.options["var"], ExceptionWrapper(**vars_of(error)))
        return True
