"""What a running step asks to follow it: the checks of ``self.next``, and their outcome as plain values."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daskflow.errors import InvalidNextException
from daskflow.flow.node import check_keywords, check_targets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal

    from daskflow.flow.node import Label, NextKind, Node

    Kind = NextKind | Literal["end"]


@dataclass(frozen=True)
class Transition:
    """What follows a finished task.

    Attributes
    ----------
    kind
        "linear", "split", "foreach", "switch" or "end".
    targets
        The steps that follow; for a switch the one that was chosen, for the end none.
    foreach, condition
        The attribute whose items become tasks, and the attribute that decided.
    """

    kind: Kind
    targets: tuple[str, ...] = ()
    foreach: str | None = None
    condition: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as the task's record has them."""
        return {
            "kind": self.kind,
            "targets": list(self.targets),
            "foreach": self.foreach,
            "condition": self.condition,
        }


END = Transition("end")
"""What follows the terminal step."""


def of_node(node: Node) -> Transition:
    """What follows a step by its source alone. It must not be a foreach or a switch: these decide when they run."""
    if node.type == "end":
        return END
    return Transition("split" if node.type == "split" else "linear", node.targets)


@dataclass(frozen=True)
class Request:
    """A valid call of ``self.next``. A switch is still undecided: it has all its ``cases`` and their ``targets``."""

    step: str
    kind: NextKind
    targets: tuple[str, ...]
    line: int
    foreach: str | None = None
    condition: str | None = None
    cases: dict[Label, str] = field(default_factory=dict)

    @property
    def variable(self) -> str | None:
        """The attribute of the flow that has to be looked up to follow it, if any."""
        return self.foreach or self.condition

    def transition(self) -> Transition:
        """What follows, if the request is no switch (see :func:`choose`)."""
        return Transition(self.kind, self.targets, self.foreach)


def parse_next(
    step: str,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    line: int,
    is_step: Callable[[str], bool],
) -> Request:
    """Check a call of ``self.next(*args, **kwargs)``.

    Parameters
    ----------
    step, line
        Where the call is.
    args
        Bound methods of the flow, or one dict of cases to them.
    kwargs
        ``foreach`` or ``condition``.
    is_step
        Whether the flow has a step of that name.

    Raises :class:`InvalidNextException` if the call can't be followed.
    """
    try:
        return _request(step, args, kwargs, line, is_step)
    except ValueError as error:
        raise invalid_next(f"Step '{step}' has an invalid self.next(): {error}.", line) from None


def choose(request: Request, value: object) -> Transition:
    """What follows a switch whose condition variable has this ``value``.

    The case is looked up as in a dict: ``True`` and ``1`` are one case, ``"1"`` is another.
    Raises :class:`RuntimeError` if no case has the value; this is a failure of the step, which may be retried.
    """
    try:
        target = request.cases.get(value)  # type: ignore[call-overload]  # any value may be asked for
    except TypeError:  # a list, say, has no hash, so it is no case either
        target = None
    if target is None:
        cases = ", ".join(map(repr, request.cases))
        raise RuntimeError(
            f"Switch condition variable '{request.condition}' of step '{request.step}' is {_shown(value)} "
            f"({type(value).__name__}), which is none of its cases: {cases}."
        )
    return Transition("switch", (target,), condition=request.condition)


def check_static(node: Node, request: Request) -> None:
    """Check that a step asks for what its source says.

    Raises :class:`InvalidNextException` if kind, targets, foreach, condition or cases differ.
    """
    kind = "linear" if node.type == "join" else node.type
    written = (kind, node.targets, node.foreach, node.condition, dict(node.cases))
    asked = (request.kind, request.targets, request.foreach, request.condition, request.cases)
    if written == asked:
        return
    expected = (
        "to be the last"
        if kind == "end"
        else f"to transition to {_described(node.targets, node, dict(node.cases))}"
    )
    raise invalid_next(
        f"Based on static analysis of the code, step {node.name} was expected {expected}, but it went on to "
        f"{_described(request.targets, request, request.cases)}. Call self.next once, as the last statement of "
        "the step, and nowhere else.",
        request.line,
        node.source_file or None,
    )


def missing(node: Node) -> InvalidNextException:
    """The error for a step that ended without ``self.next``."""
    return invalid_next(
        f"Step '{node.name}' ended without calling self.next(): it returned, or called sys.exit(), before line "
        f"{node.next_line}, where its self.next() is. Every way through the step has to get there.",
        node.next_line,
        node.source_file or None,
    )


def called_twice(step: str, line: int) -> InvalidNextException:
    """The error for a second ``self.next``, on ``line``, in one execution of a step."""
    return invalid_next(
        f"Multiple self.next() calls in step '{step}'. Call it once, as the last statement of the step.", line
    )


def missing_variable(request: Request) -> InvalidNextException:
    """The error for a foreach or condition variable that the flow does not have."""
    keyword = "foreach" if request.foreach else "condition"
    return invalid_next(
        f"Step '{request.step}' has {keyword}='{request.variable}', but self.{request.variable} does not exist. "
        f"Set it before self.next().",
        request.line,
    )


def not_iterable(request: Request, value: object) -> InvalidNextException:
    """The error for a foreach over something that has no items."""
    return invalid_next(
        f"Foreach over self.{request.foreach} in step '{request.step}' is not possible: it is {_shown(value)} "
        f"({type(value).__name__}), which can't be iterated. Make it a list.",
        request.line,
    )


def zero_splits(request: Request, value: object) -> InvalidNextException:
    """The error for a foreach over nothing."""
    return invalid_next(
        f"Foreach over self.{request.foreach} in step '{request.step}' produced zero splits: "
        f"the {type(value).__name__} is empty. It needs at least one item.",
        request.line,
    )


def too_many_splits(request: Request, most: int) -> InvalidNextException:
    """The error for a foreach over a generator that gives more than is allowed; it is not asked for all of it."""
    return invalid_next(
        f"Foreach over self.{request.foreach} in step '{request.step}' has more items than the current maximum of {most}. "
        "Raise it with --max-num-splits.",
        request.line,
    )


def calling_line() -> int:
    """The line from which the function that asks for it was called: ``self.next`` asks where the step called it."""
    return sys._getframe(2).f_lineno


def invalid_next(message: str, line: int, source_file: str | None = None) -> InvalidNextException:
    """An :class:`InvalidNextException` whose headline names the line."""
    error = InvalidNextException(message, line, source_file)
    error.headline = f"{InvalidNextException.headline} on line {line}"
    return error


def _request(
    step: str, args: Sequence[object], kwargs: Mapping[str, object], line: int, is_step: Callable[[str], bool]
) -> Request:
    """The request; raises ``ValueError`` with what is wrong."""
    check_keywords(kwargs)
    if "condition" in kwargs or any(isinstance(arg, dict) for arg in args):
        condition, cases = _switch(args, kwargs, is_step)
        targets = tuple(dict.fromkeys(cases.values()))
        return Request(step, "switch", targets, line, condition=condition, cases=cases)
    targets = tuple(
        _target(arg, f"the {place}. argument", is_step) for place, arg in enumerate(args, start=1)
    )
    check_targets(targets, next(iter(kwargs), None))
    if kwargs:
        return Request(step, "foreach", targets, line, foreach=_attribute("foreach", kwargs["foreach"]))
    return Request(step, "linear" if len(targets) == 1 else "split", targets, line)


def _switch(
    args: Sequence[object], kwargs: Mapping[str, object], is_step: Callable[[str], bool]
) -> tuple[str, dict[Label, str]]:
    cases = args[0] if args else None
    if len(args) > 1:
        raise ValueError("a switch takes one dict of cases and no other step")
    if not isinstance(cases, dict):
        raise ValueError("with a condition it takes a dict of cases, such as {'x': self.a, 'y': self.b}")
    if "condition" not in kwargs:
        raise ValueError("a dict of cases needs condition='name of the attribute that decides'")
    condition = _attribute("condition", kwargs["condition"])
    if not cases:
        raise ValueError("its dict of cases is empty")
    return condition, {label: _target(arg, f"the case {label!r}", is_step) for label, arg in cases.items()}


def _target(arg: object, place: str, is_step: Callable[[str], bool]) -> str:
    name = getattr(getattr(arg, "__func__", None), "__name__", None)
    if not isinstance(name, str):
        raise ValueError(f"{place} is {_shown(arg)}, not a function of the flow such as self.train")
    if not is_step(name):
        raise ValueError(f"{place} is self.{name}, an unknown step: it has no @step")
    return name


def _attribute(keyword: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{keyword} has to be the name of an attribute, as a string, not {_shown(value)}")
    return value


def _described(targets: tuple[str, ...], call: Node | Request, cases: dict[Label, str]) -> str:
    """The call in words, such as "a, b" or "train (foreach 'items')"."""
    if call.foreach:
        return f"{', '.join(targets)} (foreach '{call.foreach}')"
    if cases:
        return f"{', '.join(f'{label!r}: {target}' for label, target in cases.items())} (condition '{call.condition}')"
    return ", ".join(targets)


def _shown(value: object) -> str:
    """The value in at most about 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
