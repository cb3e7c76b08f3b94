"""A flow's parameters as options of ``run``."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from daskflow.errors import ParameterError, ParameterFieldTypeMismatch
from daskflow.flow.include_file import IncludeFile
from daskflow.flow.parameters import JSONType, Parameter, parameters_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daskflow.flow.parameters import ParameterContext

ENVIRONMENT_PREFIX = "DASKFLOW_RUN_"
"""``DASKFLOW_RUN_ALPHA=0.1`` gives a value to the parameter ``alpha``."""

NOT_GIVEN = object()
"""What click yields for a parameter whose default is yet to be computed; ``None`` may be a given JSON null."""

_METAVARS = {str: "text", int: "integer", float: "float", bool: "boolean", JSONType: "json"}


class ParameterType(click.ParamType):  # type: ignore[type-arg] # not generic in the older clicks
    """The click type of a parameter that knows itself how to read a text."""

    def __init__(self, parameter: Parameter) -> None:
        is_file = isinstance(parameter, IncludeFile)
        self.name = "file" if is_file else _METAVARS[parameter.resolve_type()]
        self._parameter = parameter

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value of a text, or a usage error if it has none; also that of a default."""
        if value is NOT_GIVEN:
            return value
        if not isinstance(value, str):
            return self._parameter.checked(value)
        try:
            return self._parameter.convert(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def option_of(parameter: Parameter) -> click.Option:
    """The option that gives ``parameter`` its value; its destination is ``parameter.key``.

    A deploy-time default is not computed: :func:`collect` does that, if no value was given.

    Raises :class:`ParameterError` if the parameter's extra keywords are none of ``click.Option``.
    """
    keywords: dict[str, Any] = {
        "type": parameter.type if parameter.has_foreign_type else ParameterType(parameter),
        "help": parameter.help,
        "required": parameter.required and parameter.default is None,
        "show_default": parameter.show_default,
        "envvar": ENVIRONMENT_PREFIX + parameter.key.upper(),
    }
    if parameter.has_deploy_time_default:
        keywords["show_default"] = parameter.show_default and "computed when the run starts"
        if not _click_converts(parameter):
            keywords["default"] = NOT_GIVEN
    elif parameter.default is not None:
        keywords["default"] = _shown_default(parameter)
    try:
        return click.Option([parameter.key, f"--{parameter.name}"], **{**keywords, **parameter.kwargs})
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"Parameter '{parameter.name}' can't be an option of the command line with "
            f"{sorted(parameter.kwargs)}, which click.Option refused: {error}."
        ) from error


def parameter_options(flow_class: type) -> list[click.Option]:
    """The options of all parameters of a flow, in the order of :func:`parameters_of`.

    Raises :class:`ParameterError` if one is declared wrongly.
    """
    return [option_of(parameter) for parameter in parameters_of(flow_class)]


def collect(flow_class: type, given: Mapping[str, Any], context: ParameterContext) -> dict[str, Any]:
    """The final values of all parameters, by variable name.

    Parameters
    ----------
    flow_class
        The flow.
    given
        What click parsed, by destination. Keys that are no parameter's are ignored: they are options of the
        command itself.
    context
        For deploy-time defaults, which are computed here, only where no value was given.

    Raises
    ------
    ParameterFieldFailed, ParameterFieldTypeMismatch
        If a default can't be computed, or is of a wrong type.
    click.BadParameter
        If the file of a default path can't be read.
    """
    values = {}
    for parameter in parameters_of(flow_class):
        value = given.get(parameter.key, NOT_GIVEN)
        if not _is_given(parameter, value):
            value = _default_of(parameter, replace(context, parameter_name=parameter.name))
        values[parameter.variable] = value
    return values


def _click_converts(parameter: Parameter) -> bool:
    """Whether click itself would convert a default, and so choke on :data:`NOT_GIVEN`."""
    return parameter.takes_many or parameter.has_foreign_type


def _is_given(parameter: Parameter, value: Any) -> bool:
    if parameter.has_deploy_time_default and _click_converts(parameter):
        return value is not NOT_GIVEN and value is not None and value != ()
    return value is not NOT_GIVEN


def _default_of(parameter: Parameter, context: ParameterContext) -> Any:
    try:
        value = parameter.resolve_default(context)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=f"'--{parameter.name}'") from error
    if value is None or parameter.takes_many or not parameter.has_foreign_type:
        return value
    try:
        return click.types.convert_type(parameter.type)(value)
    except click.BadParameter as error:
        raise ParameterFieldTypeMismatch(
            f"The default of parameter '{parameter.name}' is {value!r}: {error.message}"
        ) from error


def _shown_default(parameter: Parameter) -> Any:
    """The default as click gets it: JSON as the text one would type, if that text means the same value."""
    default = parameter.default
    if parameter.takes_many or parameter.resolve_type() is not JSONType or isinstance(default, str):
        return default
    text = json.dumps(default)
    return text if json.loads(text) == default else default
