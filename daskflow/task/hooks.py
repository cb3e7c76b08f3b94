"""The decorators of a step, called around it in its task's process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskflow.flow.decorator import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.flow.decorator import StepDecorator
    from daskflow.flow.spec import FlowSpec
    from daskflow.task.spec import TaskSpec


class Hooks:
    """The hooks around one attempt."""

    def __init__(self, spec: TaskSpec, flow_class: type[FlowSpec], debugging: bool = False) -> None:
        function = getattr(flow_class, spec.name.step)
        self._inside_out: list[StepDecorator] = [
            each for each in function.decorators if each.when_debugging or not debugging
        ]
        policy = spec.node.policy
        self.attempt = Attempt(
            spec.name.step,
            spec.attempt,
            last=spec.attempt - spec.first >= policy.retries,
            fallback=spec.fallback,
            cause=spec.cause,
        )

    def before(self, flow: FlowSpec, function: Callable[..., Any]) -> Callable[..., Any]:
        """Call what comes before the step; what is to be called in its place."""
        for decorator in reversed(self._inside_out):
            decorator.task_pre_step(flow, self.attempt)
        for decorator in self._inside_out:
            function = decorator.task_decorate(function, flow, self.attempt)
        return function

    def after(self, flow: FlowSpec) -> None:
        """Call what comes after a step that raised nothing."""
        for decorator in self._inside_out:
            decorator.task_post_step(flow, self.attempt)

    def handled(self, error: BaseException, flow: FlowSpec) -> bool:
        """Tell every decorator of the error; whether one of them has dealt with it."""
        return any([decorator.task_exception(error, flow, self.attempt) for decorator in self._inside_out])

    def finished(self, flow: FlowSpec, ok: bool) -> None:
        """The attempt is over."""
        for decorator in self._inside_out:
            decorator.task_finished(flow, self.attempt, ok)
