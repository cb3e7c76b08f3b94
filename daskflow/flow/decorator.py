"""Hooks around a step, and the check of where and how decorators are written."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

from daskflow.errors import (
    BadStepDecoratorException,
    DuplicateStepDecoratorException,
    InvalidDecoratorAttribute,
    UnknownStepDecoratorException,
)
from daskflow.flow.decoration import Decorator
from daskflow.flow.node import step_functions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from daskflow.flow.graph import Graph
    from daskflow.flow.node import Node
    from daskflow.flow.policy import Policy
    from daskflow.flow.spec import FlowSpec

NAMES = {
    "retry": "daskflow.decorators.retry:retry",
    "catch": "daskflow.decorators.catch:catch",
    "timeout": "daskflow.decorators.timeout:timeout",
    "environment": "daskflow.decorators.environment:environment",
    "resources": "daskflow.decorators.resources:resources",
    "secrets": "daskflow.decorators.secrets:secrets",
    "isolated": "daskflow.decorators.isolated:isolated",
}
"""The decorators that ``--with`` knows by a short name, and where they are."""


@dataclass(frozen=True)
class Attempt:
    """The attempt of a task that a hook is called for; what else there is to know is in ``current``.

    Attributes
    ----------
    step
        The step's name.
    number
        0 for the first attempt.
    last
        Whether no further attempt runs the step if this one fails.
    fallback
        Whether all attempts have failed, and this one is there to deal with it: it does not run the step.
    cause
        Why the last of them failed, for a fallback.
    """

    step: str
    number: int = 0
    last: bool = True
    fallback: bool = False
    cause: str = ""


class StepDecorator(Decorator):
    """Base of everything that can be written above ``@step``.

    A subclass names itself and its options and overrides the hooks it needs; each does nothing by default.
    Before a step the hooks of the outermost decorator are called first, after it those of the innermost.

    Raises
    ------
    InvalidDecoratorAttribute
        if an option is not one of ``defaults``; the message lists them.
    BadStepDecoratorException
        if it is not above ``@step``.
    DuplicateStepDecoratorException
        if it is there twice and ``allow_multiple`` is False.
    """

    given: str = ""
    """Where it was given, if not in the flow's file; begins a message."""
    when_debugging: ClassVar[bool] = True
    """Whether its hooks are called when a person runs the task again in a debugger."""

    def __call__(self, target: Any) -> Any:
        """Attach to a step."""
        if not getattr(target, "is_step", False):
            what = getattr(target, "__name__", repr(target))
            raise BadStepDecoratorException(
                f"@{self.name} on '{what}' must stand above @step, on a step of a flow: @step is the innermost decorator."
            )
        if not self.allow_multiple and any(d.name == self.name for d in target.decorators):
            raise DuplicateStepDecoratorException(f"Step '{target.__name__}' has @{self.name} twice.")
        target.decorators.append(self)
        return target

    def step_init(self, graph: Graph, node: Node) -> None:
        """Before a run, in the driver: check whether this decorator, with these options, is possible on this step.

        Raises :class:`BadStepDecoratorException` if not; :meth:`refuse` makes one.
        """

    def step_policy(self, policy: Policy) -> Policy:
        """How tasks of the step are to be run, given what the decorators before this one asked for."""
        return policy

    def task_pre_step(self, flow: FlowSpec, attempt: Attempt) -> None:
        """In the task's process, before the step. What it raises is a failure of the attempt."""

    def task_decorate(
        self, function: Callable[..., Any], flow: FlowSpec, attempt: Attempt
    ) -> Callable[..., Any]:
        """The function that is called in place of the step, with ``inputs`` if the step is a join."""
        return function

    def task_post_step(self, flow: FlowSpec, attempt: Attempt) -> None:
        """After the step, if it raised nothing."""

    def task_exception(self, error: BaseException, flow: FlowSpec, attempt: Attempt) -> bool:
        """After the step raised ``error``: whether the task counts as successful all the same."""
        return False

    def task_finished(self, flow: FlowSpec, attempt: Attempt, ok: bool) -> None:
        """At the end of the attempt, when its artifacts are stored."""

    def refuse(self, node: Node, why: str) -> BadStepDecoratorException:
        """The error for a decorator that can't be on this step; ``why`` ends a sentence."""
        if self.given:
            return BadStepDecoratorException(f"{self.given}@{self.name} on step '{node.name}' {why}.")
        return BadStepDecoratorException(
            f"@{self.name} on step '{node.name}' {why}.", node.line, node.source_file or None
        )


MOST = 1e9
"""Larger than what any number in an option can be meant to be: seconds of 30 years, megabytes of a petabyte."""


def number_of(
    decorator: StepDecorator,
    node: Node,
    option: str,
    *,
    at_least: float = 0,
    at_most: float = MOST,
    whole: bool = False,
) -> float:
    """The value of an option that must be a number.

    Raises :class:`BadStepDecoratorException` if it is none, is out of these bounds, or is not ``whole``.
    """
    value = decorator.options[option]
    number = float("nan") if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    if not at_least <= number <= at_most or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        raise decorator.refuse(
            node, f"has {option}={value!r}, which must be {kind} from {at_least:g} to {at_most:,.0f}"
        )
    return number


def truth_of(decorator: StepDecorator, node: Node, option: str) -> bool:
    """The value of an option that must be True or False.

    Raises :class:`BadStepDecoratorException` if it is neither.
    """
    value = decorator.options[option]
    if not isinstance(value, bool):
        raise decorator.refuse(node, f"has {option}={value!r}, which must be True or False")
    return value


def initialized(graph: Graph, flow_class: type[FlowSpec]) -> Graph:
    """The graph with the policy that each step's decorators ask for.

    Raises :class:`BadStepDecoratorException` if one of them is not possible on its step.
    """
    nodes = {}
    for name, function in step_functions(flow_class).items():
        node = graph[name]
        policy = node.policy
        for decorator in function.decorators:
            decorator.step_init(graph, node)
            policy = decorator.step_policy(policy)
        nodes[name] = replace(node, policy=policy)
    return replace(graph, nodes={name: nodes[name] for name in graph.nodes})


def attach(flow_class: type[FlowSpec], given: Iterable[str]) -> None:
    """Put decorators on every step of a flow that lacks them, as ``--with`` says.

    Parameters
    ----------
    flow_class
        The flow.
    given
        Each ``name`` or ``name:option=value,option=value``, where a value is JSON or else a text, and ``name`` is one of
        :data:`NAMES` or the import path of a class, such as ``package.module.my_decorator``.

    Raises
    ------
    UnknownStepDecoratorException
        if there is no such decorator; the message lists those there are.
    InvalidDecoratorAttribute
        if an option is unknown or is no ``option=value``.
    """
    for text in given:
        name, _, rest = text.partition(":")
        kind, options = _named(name), _options(text, rest)
        for function in step_functions(flow_class).values():
            if not any(type(each) is kind for each in function.decorators):
                decorator = kind(**options)
                decorator.given = f"--with {text}: "
                decorator(function)


def _named(name: str) -> type[StepDecorator]:
    path = NAMES.get(name)
    module, _, attribute = path.partition(":") if path else name.rpartition(".")
    found = None
    if module:
        try:
            found = getattr(importlib.import_module(module), attribute, None)
        except Exception as error:  # a module of the user's may raise anything
            raise UnknownStepDecoratorException(f"'{name}' can't be imported: {error}.") from error
    if not (isinstance(found, type) and issubclass(found, StepDecorator)):
        raise UnknownStepDecoratorException(
            f"Unknown step decorator '{name}'. There are: {', '.join(sorted(NAMES))}; "
            "another one is named by its import path, package.module.name."
        )
    return found


def _options(text: str, rest: str) -> dict[str, Any]:
    """The options of ``name:option=value,...``; a comma inside brackets or quotes separates nothing."""
    options: dict[str, Any] = {}
    for part in _split(rest):
        name, equals, value = part.partition("=")
        if not equals or not name.strip().isidentifier():
            raise InvalidDecoratorAttribute(f"'{part}' in --with {text} is not 'option=value'.")
        try:
            options[name.strip()] = json.loads(value)
        except ValueError:
            options[name.strip()] = value
    return options


def _split(text: str) -> list[str]:
    parts, depth, quoted = [""], 0, False
    for character in text:
        quoted ^= character == '"'
        depth += 0 if quoted else (character in "[{") - (character in "]}")
        if character == "," and not quoted and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip()]
