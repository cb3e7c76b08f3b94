"""Decorators of a whole flow: written above its class, inherited by what derives from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskflow.errors import BadFlowDecoratorException, DuplicateFlowDecoratorException
from daskflow.flow.decoration import Decorator

if TYPE_CHECKING:
    from daskflow.flow.spec import FlowSpec

_OWN = "__daskflow_decorators__"
"""The attribute of a class that holds the decorators written above it."""


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """A run that one driver has driven to an end.

    Attributes
    ----------
    flow, run, store
        The run, and the URL of its store.
    snapshot
        The driver session whose code it ran.
    successful
        Whether it succeeded; False if it failed or was interrupted.
    """

    flow: str
    run: str
    store: str
    snapshot: int
    successful: bool

    @property
    def pathspec(self) -> str:
        """``Flow/run``."""
        return f"{self.flow}/{self.run}"


class FlowDecorator(Decorator):
    """Base of everything that can be written above a flow.

    A subclass names itself and its options and overrides the hooks it needs; each does nothing by default.
    A class has the decorators of its bases too.

    Raises
    ------
    InvalidDecoratorAttribute
        if an option is not one of ``defaults``; the message lists them.
    BadFlowDecoratorException
        if it is not above a flow.
    DuplicateFlowDecoratorException
        if the flow has it twice, its bases included, and ``allow_multiple`` is False.
    """

    def __call__(self, target: Any) -> Any:
        """Attach to a flow."""
        if not (isinstance(target, type) and getattr(target, "__daskflow_flow__", False)):
            what = getattr(target, "__name__", repr(target))
            raise BadFlowDecoratorException(
                f"@{self.name} on '{what}' must stand above a flow, a class that derives from FlowSpec."
            )
        self.flow_init(target)
        setattr(target, _OWN, [self, *vars(target).get(_OWN, ())])
        check_duplicates(target)
        return target

    def flow_init(self, flow_class: type[FlowSpec]) -> None:
        """When it is written: check whether this decorator, with these options, is possible on this flow.

        Raises :class:`BadFlowDecoratorException` if not.
        """

    def run_finished(self, flow_class: type[FlowSpec], end: RunEnd) -> None:
        """In the driver, after a run of the flow has ended, well or not. What it raises is told and changes nothing."""


def decorators_of(flow_class: type[FlowSpec]) -> list[FlowDecorator]:
    """The decorators of a flow as they are written, from top to bottom; those of its bases come last."""
    return [decorator for cls in flow_class.__mro__ for decorator in vars(cls).get(_OWN, ())]


def check_duplicates(flow_class: type[FlowSpec]) -> None:
    """Raise :class:`DuplicateFlowDecoratorException` if a decorator is there twice that may be there only once."""
    seen: set[str] = set()
    for decorator in decorators_of(flow_class):
        if decorator.name in seen and not decorator.allow_multiple:
            raise DuplicateFlowDecoratorException(
                f"Flow '{flow_class.__name__}' has @{decorator.name} twice, itself or from the classes it derives from."
            )
        seen.add(decorator.name)
