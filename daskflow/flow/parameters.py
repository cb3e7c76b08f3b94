"""Parameters: the values a run is given from outside, declared as attributes of the flow's class."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, Self, overload

from daskflow.errors import ParameterError, ParameterFieldFailed, ParameterFieldTypeMismatch
from daskflow.flow.parameter_types import PARSERS, TYPE_NAMES, JSONType, JSONTypeClass, fits, parse_value

__all__ = [
    "RESERVED_NAMES",
    "JSONType",
    "JSONTypeClass",
    "Parameter",
    "ParameterContext",
    "constants_of",
    "parameters_of",
    "parse_value",
]

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RESERVED_NAMES = frozenset(
    {
        "chunk",
        "cluster",
        "cluster_option",
        "cluster_options",
        "decospecs",
        "grace",
        "help",
        "id",
        "isolate",
        "max_log_size",
        "max_num_splits",
        "max_workers",
        "namespace",
        "new_code",
        "no_dashboard",
        "obj",
        "origin_run_id",
        "package_suffixes",
        "params",
        "requirements",
        "run_id",
        "run_id_file",
        "runner_attribute_file",
        "step_to_rerun",
        "tag",
        "tags",
        "task_id",
        "user_namespace",
        "with",
    }
)
"""Names that ``run`` and the commands like it use, as :attr:`Parameter.key` spells them.

``id`` is among them because ``DASKFLOW_RUN_ID``, where a parameter of that name would be looked up, is a task's run.
"""

_VALID_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class ParameterContext:
    """What a callable default is told: ``Parameter("out", default=lambda ctx: ctx.user_name)``.

    Attributes
    ----------
    flow_name, user_name
        The flow that is about to run, and who runs it.
    parameter_name
        The parameter whose default is asked for, as on the command line.
    logger
        Prints one line for the user.
    ds_type
        Kind of the store: ``local``, ``s3`` ...
    configs
        The flow's configurations by name.
    """

    flow_name: str
    user_name: str
    parameter_name: str
    logger: Callable[[str], None]
    ds_type: str
    configs: Mapping[str, Any] = field(default_factory=dict)


class HoldsArtifacts(Protocol):
    """The part of a flow object that a parameter needs."""

    def _artifact(self, name: str, /) -> Any:
        """The value of an artifact of the task that this flow object belongs to."""


class Parameter:
    """A value that a run is given: ``--name`` on the command line, the same in every task.

    In a step it is read under the name of the variable it was assigned to, which may differ from ``name``;
    it can't be assigned.

    Parameters
    ----------
    name
        The option on the command line, without dashes.
    default
        The value of a run that is given none. A callable is called with a :class:`ParameterContext`
        once, when a run starts that is given none.
    type
        ``str``, ``int``, ``float``, ``bool``, :data:`JSONType` or a click type. Without it, the type of the
        default counts (a dict or a list means JSON), and ``str`` if there is no default or a callable one.
    help
        The line in ``run --help``.
    required
        Refuse to run without a value.
    show_default
        Show the default in ``run --help``.
    separator
        Split the text at this string, so that the value is a list of strings.
    kwargs
        Passed on to ``click.Option``.
    """

    def __init__(  # noqa: PLR0913 - one keyword for each thing a user may say about a parameter
        self,
        name: str,
        default: Any = None,
        type: Any = None,  # noqa: A002 - the keyword of the public API
        help: str | None = None,  # noqa: A002 - the keyword of the public API
        required: bool = False,
        show_default: bool = True,
        *,
        separator: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.name = name
        self.default = default
        self.type = type
        self.help = help
        self.required = required
        self.show_default = show_default
        self.separator = separator
        self.kwargs = kwargs
        self.variable = ""

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.name!r}, default={self.default!r})"

    def __set_name__(self, owner: type[Any], variable: str) -> None:
        self.variable = variable

    @overload
    def __get__(self, flow: None, owner: Any = None) -> Self: ...
    @overload
    def __get__(self, flow: HoldsArtifacts, owner: Any = None) -> Any: ...
    def __get__(self, flow: HoldsArtifacts | None, owner: Any = None) -> Any:
        return self if flow is None else flow._artifact(self.variable)

    def __set__(self, flow: object, value: object) -> None:
        raise self._not_modifiable()

    def __delete__(self, flow: object) -> None:
        raise self._not_modifiable()

    def _not_modifiable(self) -> AttributeError:
        return AttributeError(
            f"Flow level attributes and Parameters are not modifiable: self.{self.variable} is the "
            f"parameter '{self.name}', the same in all tasks of a run. Use another name for a new value."
        )

    @property
    def key(self) -> str:
        """The name as names are compared: lower case, ``_`` for ``-``. The CLI knows the value by it."""
        return self.name.replace("-", "_").lower()

    @property
    def has_deploy_time_default(self) -> bool:
        """Whether the default is computed when a run starts."""
        return callable(self.default)

    @property
    def takes_many(self) -> bool:
        """Whether click collects several values into a tuple, as ``multiple`` and ``nargs`` tell it to."""
        return bool(self.kwargs.get("multiple")) or self.kwargs.get("nargs", 1) != 1

    @property
    def has_foreign_type(self) -> bool:
        """Whether the type is click's business: a click type, or any other callable."""
        return self.resolve_type() not in PARSERS

    def resolve_type(self) -> Any:
        """The given type, or else the one of the default.

        Raises :class:`ParameterError` if neither says what it is.
        """
        if isinstance(self.type, JSONTypeClass) or self.type is JSONTypeClass:
            return JSONType
        if self.type in (dict, list):
            raise ParameterError(
                f"Parameter '{self.name}' has type {self.type.__name__}: use type=JSONType for it."
            )
        if self.type is not None:
            return self.type
        default = self.default
        if self.takes_many and default:
            default = next(iter(default))
        if self.separator is not None or default is None or callable(default):
            return str
        for kind in (bool, int, float, str):  # bool first: it is an int as well
            if isinstance(default, kind):
                return kind
        if isinstance(default, dict | list):
            return JSONType
        raise ParameterError(
            f"Parameter '{self.name}' has a default of type {default.__class__.__name__}, {default!r}, "
            "which says nothing about how to read it from the command line: give type=..."
        )

    def convert(self, text: str) -> Any:
        """The value that ``text`` stands for. Raises ``ValueError`` if it stands for none."""
        if self.separator is not None:
            return text.split(self.separator) if text else []
        return parse_value(text, self.resolve_type())

    def resolve_default(self, context: ParameterContext) -> Any:
        """The value of a run that is given none.

        Raises
        ------
        ParameterFieldFailed
            If the default is a callable, and it raised.
        ParameterFieldTypeMismatch
            If the default, or what the callable returned, is not of the parameter's type.
        """
        if self.has_deploy_time_default:
            return self.checked(self._call_default(context))
        return self._static_default()

    def check(self) -> None:
        """Raise :class:`ParameterError` if this can't be a parameter, whatever the rest of the flow says."""
        if not isinstance(self.name, str) or not _VALID_NAME.fullmatch(self.name):
            raise ParameterError(
                f"Parameter name {self.name!r} is not valid: use letters, digits, '-' and '_', "
                "and begin with a letter."
            )
        if self.key in RESERVED_NAMES:
            raise ParameterError(
                f"Parameter name '{self.name}' is a reserved word: `run` has an option or a variable of that "
                "name. Choose a different name."
            )
        kind = self.resolve_type()
        if self.separator is not None and kind is not str:
            raise ParameterError(
                f"Parameter '{self.name}' has a separator, which is only for type str, not {self._type_name()}."
            )
        if self.separator == "":
            raise ParameterError(f"Parameter '{self.name}' has an empty separator.")
        if not self.has_deploy_time_default:
            self._static_default()

    def _type_name(self) -> str:
        kind = self.resolve_type()
        if self.separator is not None:
            return "str, or a list of str"
        return TYPE_NAMES.get(kind, getattr(kind, "__name__", repr(kind)))

    def _call_default(self, context: ParameterContext) -> Any:
        try:
            return self.default(context)
        except Exception as error:
            raise ParameterFieldFailed(
                f"The default of parameter '{self.name}' is computed by {self.default!r}, which raised "
                f"{error.__class__.__name__}: {error}. Mend it, or give the value: --{self.name} VALUE."
            ) from error

    def _static_default(self) -> Any:
        if self.default is None or self.takes_many or self.has_foreign_type:
            return self.default
        if not isinstance(self.default, str):
            return self.checked(self.default)
        try:
            return self.convert(self.default)
        except ValueError as error:
            raise self._mismatch(self.default) from error

    def checked(self, value: Any) -> Any:
        """``value``, a default, as the parameter's type has it. Raises ParameterFieldTypeMismatch if it does not fit."""
        kind = self.resolve_type()
        if self.takes_many or self.has_foreign_type:
            return value
        if self.separator is not None and _is_list_of_str(value):
            return value
        if isinstance(value, str) and kind in (str, JSONType):
            try:
                return self.convert(value)
            except ValueError as error:
                raise self._mismatch(value) from error
        if not fits(value, kind):
            raise self._mismatch(value)
        return float(value) if kind is float else value

    def _mismatch(self, value: object) -> ParameterFieldTypeMismatch:
        origin = f"computed by {self.default!r} " if self.has_deploy_time_default else ""
        return ParameterFieldTypeMismatch(
            f"The default of parameter '{self.name}' {origin}is {value!r}, of type {value.__class__.__name__}; "
            f"expected {self._type_name()}."
        )


def _is_list_of_str(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def parameters_of(flow_class: type) -> tuple[Parameter, ...]:
    """The parameters of a flow, those of its bases first, each class's in the order of its source.

    Raises :class:`ParameterError` if one is declared wrongly, hides an attribute of ``FlowSpec``, or has the
    name of another (case, ``-`` and ``_`` make no difference).
    """
    base = _flow_base(flow_class)
    variables: dict[str, str] = {}
    found = []
    for variable, value in _class_attributes(flow_class).items():
        if not isinstance(value, Parameter):
            continue
        value.check()
        if hasattr(base, variable):
            raise ParameterError(
                f"Parameter '{value.name}' is assigned to '{variable}', which is an attribute that every flow "
                "has. Assign it to another name."
            )
        if value.key in variables:
            raise ParameterError(
                f"Parameter '{value.name}' is specified twice: as '{variables[value.key]}' and as '{variable}'. "
                "Names are compared without regard to case, '-' and '_'."
            )
        variables[value.key] = variable
        found.append(value)
    return tuple(found)


def constants_of(flow_class: type) -> dict[str, Any]:
    """The public class attributes that are data; they are artifacts of every task, and read-only.

    Parameters, methods, properties and other descriptors, classes and modules are not data.
    """
    return {
        name: value
        for name, value in _class_attributes(flow_class).items()
        if not name.startswith("_")
        and not isinstance(value, type | ModuleType)
        and not hasattr(type(value), "__get__")  # functions, properties, parameters ...
    }


def _flow_base(flow_class: type) -> type:
    """The library's own base class of flows, or ``object`` for a class that has none."""
    return next((cls for cls in flow_class.__mro__ if "__daskflow_flow__" in vars(cls)), object)


def _class_attributes(flow_class: type) -> dict[str, Any]:
    """What users wrote into the flow's class, its bases and mixins; what overrides takes the place."""
    library = _flow_base(flow_class).__mro__
    attributes: dict[str, Any] = {}
    for cls in reversed(flow_class.__mro__):
        if cls not in library:
            attributes.update(vars(cls))
    return attributes
