"""What decorators of steps and of flows have in common: a name, options, and how they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from daskflow.errors import InvalidDecoratorAttribute

if TYPE_CHECKING:
    from collections.abc import Callable


class Decorator:
    """Base of all decorators. ``@name``, ``@name()`` and ``@name(option=value)`` are the same kind of thing.

    Attributes
    ----------
    name, defaults
        What it is called, and its options.
    allow_multiple
        Whether there may be several on one step or flow.
    options
        The options as they were given, on top of ``defaults``.

    Raises :class:`InvalidDecoratorAttribute` if an option is not one of ``defaults``; the message lists them.
    """

    name: ClassVar[str] = "?"
    defaults: ClassVar[dict[str, Any]] = {}
    allow_multiple: ClassVar[bool] = False

    def __init__(self, target: Callable[..., Any] | None = None, **options: Any) -> None:
        unknown = sorted(set(options) - set(self.defaults))
        if unknown:
            has = ", ".join(sorted(self.defaults)) or "none"
            raise InvalidDecoratorAttribute(
                f"@{self.name} has no option {', '.join(unknown)}; its options are: {has}."
            )
        self.options: dict[str, Any] = {**self.defaults, **options}

    def __new__(cls, target: Callable[..., Any] | None = None, **options: Any) -> Self:
        """A bare ``@name`` is called with the step or flow at once and must give it back."""
        made = super().__new__(cls)
        if target is None:
            return made
        if not callable(target):
            raise InvalidDecoratorAttribute(f"@{cls.name} takes its options by name, not {target!r}.")
        made.__init__(**options)  # type: ignore[misc] # the same class, written without parentheses
        return made(target)  # type: ignore[no-any-return] # the target stands in for the decorator

    def __call__(self, target: Any) -> Any:
        """Attach to a step or a flow, and give it back."""
        raise NotImplementedError

    def described(self) -> dict[str, Any]:
        """The options as ``_graph_info`` keeps them, for everybody to read: to be overridden if some are secret.

        It is called before the options are checked, and must not raise.
        """
        return dict(self.options)
