"""Hooks around a step, and the check of where and how decorators are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from daskflow.errors import (
    BadStepDecoratorException,
    DuplicateStepDecoratorException,
    InvalidDecoratorAttribute,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class StepDecorator:
    """Base of everything that can be written above ``@step``.

    A subclass names itself and its options and overrides the hooks it needs; each does nothing by default.
    ``@retry``, ``@retry()`` and ``@retry(times=2)`` are the same kind of thing.

    Raises
    ------
    InvalidDecoratorAttribute
        if an option is not one of ``defaults``; the message lists them.
    BadStepDecoratorException
        if it is not above ``@step``.
    DuplicateStepDecoratorException
        if it is there twice and ``allow_multiple`` is False.
    """

    name: ClassVar[str] = "?"
    defaults: ClassVar[dict[str, Any]] = {}
    allow_multiple: ClassVar[bool] = False

    def __init__(self, function: Callable[..., Any] | None = None, **options: Any) -> None:
        unknown = sorted(set(options) - set(self.defaults))
        if unknown:
            has = ", ".join(sorted(self.defaults)) or "none"
            raise InvalidDecoratorAttribute(
                f"@{self.name} has no option {', '.join(unknown)}; its options are: {has}."
            )
        self.options: dict[str, Any] = {**self.defaults, **options}
        self._function = function

    def __new__(cls, function: Callable[..., Any] | None = None, **options: Any) -> Self:
        """A bare ``@name`` is called with the function at once and must give the function back."""
        made = super().__new__(cls)
        if function is None:
            return made
        if not callable(function):
            raise InvalidDecoratorAttribute(f"@{cls.name} takes its options by name, not {function!r}.")
        made.__init__(**options)  # type: ignore[misc] # the same class, written without parentheses
        return made(function)  # type: ignore[no-any-return] # the function stands in for the decorator

    def __call__(self, function: Any) -> Any:
        """Attach to a step."""
        if not getattr(function, "is_step", False):
            what = getattr(function, "__name__", repr(function))
            raise BadStepDecoratorException(
                f"@{self.name} on '{what}' must stand above @step, on a step of a flow: @step is the innermost decorator."
            )
        if not self.allow_multiple and any(d.name == self.name for d in function.decorators):
            raise DuplicateStepDecoratorException(f"Step '{function.__name__}' has @{self.name} twice.")
        function.decorators.append(self)
        return function
