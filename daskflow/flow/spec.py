"""What the user writes: a class of steps."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self

from daskflow.errors import BadStepDecoratorException, MergeArtifactsException
from daskflow.flow import transition, uncaught
from daskflow.flow.flow_decorator import check_duplicates
from daskflow.flow.parameters import constants_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from daskflow.flow.graph import Graph, Node


class TaskView(Protocol):
    """What a flow object in a task sees of its task; the task layer implements it."""

    step: str

    def artifact(self, name: str) -> Any:
        """The value of an inherited artifact; ``KeyError`` if there is none of that name."""
        ...

    def missing(self, name: str) -> str:
        """Why there is no artifact of that name, for the ``AttributeError``."""
        ...

    def forget(self, name: str, *, unless: object = None) -> bool:
        """Let go of what was loaded under that name, unless it is ``unless``; whether there is such an artifact."""
        ...

    def foreach_stack(self) -> list[tuple[int, int, Any]]:
        """Index, number of items and item of each foreach around the task, outermost first."""
        ...

    def merge(self, flow: FlowSpec, inputs: Any, exclude: list[str], include: list[str]) -> None:
        """Take over the artifacts on which the inputs agree."""
        ...


class FlowSpec:
    """Base of every flow.

    Methods marked with :func:`step` are steps; each but the last ends with a call of :meth:`next`. What a step sets
    on ``self`` is an artifact. ``MyFlow()`` at the end of the file runs the command line;
    ``MyFlow(use_cli=False)`` gives an object whose steps can be looked at.
    """

    __daskflow_flow__ = True
    __slots__ = ("__daskflow_next__", "__daskflow_task__", "__dict__", "__weakref__")

    __daskflow_task__: TaskView | None
    __daskflow_next__: transition.Request | None

    def __init_subclass__(cls, **options: Any) -> None:
        """Two bases may not bring one flow decorator each, if it can be there only once."""
        super().__init_subclass__(**options)
        check_duplicates(cls)

    def __new__(cls, *_arguments: Any, **_options: Any) -> Self:
        """Not left to ``__init__``: a subclass may set attributes before it calls that."""
        flow = super().__new__(cls)
        _bind(flow, None)
        return flow

    def __init__(self, use_cli: bool = True) -> None:
        if use_cli:
            on_instance(type(self))

    @property
    def name(self) -> str:
        """The flow's name: that of its class."""
        return type(self).__name__

    @property
    def _graph(self) -> Graph:
        return _graph_of(type(self))

    def __iter__(self) -> Iterator[Node]:
        return iter(self._graph)

    @property
    def index(self) -> int | None:
        """The index of this task's item in the innermost foreach; None outside."""
        stack = self.foreach_stack()
        return stack[-1][0] if stack else None

    @property
    def input(self) -> Any:
        """The task's item of the innermost foreach; None outside."""
        stack = self.foreach_stack()
        return stack[-1][2] if stack else None

    def foreach_stack(self) -> list[tuple[int, int, Any]]:
        """``(index, number of items, item)`` for each foreach around this task, outermost first."""
        task = self.__daskflow_task__
        return [] if task is None else task.foreach_stack()

    def merge_artifacts(self, inputs: Any, exclude: Iterable[str] = (), include: Iterable[str] = ()) -> None:
        """In a join: take over every artifact on which the inputs agree and that is not set yet.

        Parameters
        ----------
        inputs
            The join's ``inputs``.
        exclude
            Names to leave out.
        include
            The only names to take over; not together with ``exclude``.

        Raises
        ------
        UnhandledInMergeArtifactsException
            if inputs disagree on an artifact that the step has not set; nothing is taken over then.
        MissingInMergeArtifactsException
            if no input has an artifact of ``include``.
        MergeArtifactsException
            outside a join, or with both ``exclude`` and ``include``.
        """
        task = self.__daskflow_task__
        if task is None:
            raise MergeArtifactsException("merge_artifacts is for joins, while a task runs.")
        task.merge(self, inputs, list(exclude), list(include))

    def next(self, *targets: Any, **options: Any) -> None:
        """Say what follows this step; the last statement of every step but the end.

        ``self.next(self.a)`` goes on with one step, ``self.next(self.a, self.b)`` with several at once,
        ``self.next(self.a, foreach="items")`` with one task for each item of ``self.items``,
        ``self.next({"x": self.a, "y": self.b}, condition="which")`` with the one that ``self.which`` names.

        Raises :class:`InvalidNextException` if it can't be followed, or was called before.
        """
        line = transition.calling_line()
        task = self.__daskflow_task__
        if task is None:
            raise transition.invalid_next("self.next is only there while a task runs.", line)
        if self.__daskflow_next__ is not None:
            raise transition.called_twice(task.step, line)
        kind = type(self)
        request = transition.parse_next(
            task.step,
            targets,
            options,
            line,
            lambda name: getattr(getattr(kind, name, None), "is_step", False),
        )
        object.__setattr__(self, "__daskflow_next__", request)

    def _artifact(self, name: str) -> Any:
        """The value of a parameter, as the run recorded it."""
        if self.__daskflow_task__ is None:
            raise AttributeError(
                f"Parameter '{name}' has a value only while a task runs.", name=name, obj=self
            )
        try:
            return self.__daskflow_task__.artifact(name)
        except KeyError:
            raise AttributeError(
                f"Parameter '{name}' is not among those that the run started with.", name=name, obj=self
            ) from None

    def __getattr__(self, name: str) -> Any:
        # Only called for what is neither on the object nor on the class: an artifact that was not loaded yet.
        if any(
            name in vars(cls) for cls in type(self).__mro__
        ):  # or for a property that raised: once more, so that its own error is seen
            return object.__getattribute__(self, name)
        task = None if name.startswith("__") else self.__daskflow_task__
        if task is None:
            raise AttributeError(
                f"Flow '{type(self).__name__}' has no attribute '{name}'.", name=name, obj=self
            )
        try:
            value = task.artifact(name)
        except KeyError:
            raise AttributeError(task.missing(name), name=name, obj=self) from None
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        self._check_modifiable(name)
        object.__setattr__(self, name, value)
        if self.__daskflow_task__ is not None:
            self.__daskflow_task__.forget(name, unless=value)  # an old frame need not stay in memory

    def __delattr__(self, name: str) -> None:
        """Drop what this task has under that name; an artifact that it inherits is there again, as it was."""
        self._check_modifiable(name)
        inherited = self.__daskflow_task__ is not None and self.__daskflow_task__.forget(name)
        if not inherited or name in self.__dict__ or hasattr(type(self), name):
            object.__delattr__(self, name)

    def _check_modifiable(self, name: str) -> None:
        if name in _constants(type(self)):  # type: ignore[arg-type] # classes are hashable, mypy takes FlowSpec's own
            raise AttributeError(
                f"Flow level attributes and Parameters are not modifiable: '{name}' is a class attribute."
            )

    def __reduce_ex__(self, _protocol: Any) -> NoReturn:
        raise TypeError("Flows can't be serialized. Maybe you tried to assign *self* or one of the *inputs*")

    def __repr__(self) -> str:
        return f"<flow {type(self).__name__}>"


def in_task(flow_class: type[FlowSpec], task: TaskView) -> FlowSpec:
    """A flow object as a task sees it. The class's own ``__init__`` is not run: a step starts from its artifacts."""
    flow = flow_class.__new__(flow_class)
    _bind(flow, task)
    return flow


def requested(flow: FlowSpec) -> transition.Request | None:
    """What ``self.next`` was called with, None if it was not."""
    return flow.__daskflow_next__


def _bind(flow: FlowSpec, task: TaskView | None) -> None:
    object.__setattr__(flow, "__daskflow_task__", task)
    object.__setattr__(flow, "__daskflow_next__", None)


@lru_cache(maxsize=64)
def _constants(flow_class: type) -> frozenset[str]:
    return frozenset(constants_of(flow_class))


def _graph_of(flow_class: type) -> Graph:
    from daskflow.flow.graph import Graph

    return Graph.of(flow_class)


def _run_command_line(flow_class: type[FlowSpec]) -> None:
    # The one call upwards: a flow file is its own program. By name, since this package stands below the CLI.
    importlib.import_module("daskflow.cli").main(flow_class)


on_instance: Callable[[type[FlowSpec]], None] = _run_command_line
"""What ``MyFlow()`` does. A process that loads a flow file to run its tasks puts something else here."""


def step(
    function: Callable[..., Any] | None = None,
    *,
    start: bool = False,
    end: bool = False,
    node_info: dict[str, Any] | None = None,
) -> Any:
    """Mark a method as a step; the innermost decorator.

    Parameters
    ----------
    function
        The method, when written without parentheses.
    start, end
        This step is where the flow begins or ends, whatever its name.
    node_info
        Anything; kept in the flow's graph.

    Raises :class:`BadStepDecoratorException` if it is not on a plain function.
    """

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(function) or not hasattr(function, "__code__"):
            raise BadStepDecoratorException(
                f"@step must be on a method, not on {function!r}: it is the innermost decorator."
            )
        function.is_step = True  # type: ignore[attr-defined] # functions take attributes
        function.step_options = {"start": start, "end": end, "node_info": node_info or {}}  # type: ignore[attr-defined]
        function.decorators = []  # type: ignore[attr-defined]
        return function

    return mark if function is None else mark(function)


uncaught.install()
