from __future__ import annotations

from datetime import datetime
from typing import Any

import click
import pytest
from click.testing import CliRunner

from daskflow.cli.options import collect, parameter_options
from daskflow.cli.run import run_command
from daskflow.errors import ParameterError, ParameterFieldFailed, ParameterFieldTypeMismatch
from daskflow.flow.include_file import IncludeFile
from daskflow.flow.parameters import RESERVED_NAMES, JSONType, Parameter, ParameterContext


class Flow:
    """Stands for FlowSpec."""

    __daskflow_flow__ = True

    def _artifact(self, name):
        raise AssertionError("options never look at artifacts")


class Outcome:
    """What a `run` with the flow's options gave: its exit code, output, and the values it would run with."""

    def __init__(self, flow_class, arguments, env):
        self.values: dict[str, Any] = {}

        @click.command(params=parameter_options(flow_class), context_settings={"max_content_width": 200})
        def run(**given):
            context = ParameterContext(flow_class.__name__, "ada", "", print, "local")
            self.values = collect(flow_class, given | {"an_option_of_run": 1}, context)

        result = CliRunner().invoke(run, arguments, env=env)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        self.exit_code = result.exit_code
        self.output = result.output


def run(parameter, *arguments, env=None):
    flow_class = type("F", (Flow,), {"p": parameter})
    return Outcome(flow_class, arguments, env)


# Values from the command line


@pytest.mark.parametrize(
    ("parameter", "text", "value"),
    [
        (Parameter("my-param"), "x", "x"),
        (Parameter("my-param", default=3), "-4", -4),
        (Parameter("my-param", default=0.5), "1", 1.0),
        (Parameter("my-param", default=False), "True", True),
        (Parameter("my-param", default=True), "False", False),
        (Parameter("my-param", type=JSONType), '{"a": [1]}', {"a": [1]}),
        (Parameter("my-param", default=[1]), "null", None),
        (Parameter("my-param", type=JSONType, default=lambda ctx: [1]), "null", None),
        (Parameter("my-param", separator=","), "a,b", ["a", "b"]),
        (Parameter("my-param", type=click.IntRange(1, 5)), "5", 5),
        (Parameter("my-param", type=complex), "1j", 1j),
    ],
)
def test_an_option_gives_the_variable_a_value_of_the_type(parameter, text, value):
    outcome = run(parameter, "--my-param", text)

    assert outcome.values == {"p": value}
    assert type(outcome.values["p"]) is type(value)


@pytest.mark.parametrize(
    ("parameter", "arguments", "message"),
    [
        (Parameter("p", default=1), ["--p", "x"], "Invalid value for '--p': 'x' is not a valid integer"),
        (Parameter("p", default=1.5), ["--p", "x"], "'x' is not a valid float"),
        (Parameter("flag", default=False), ["--flag"], "Option '--flag' requires an argument"),
        (Parameter("flag", default=False), ["--flag", "maybe"], "'maybe' is not a valid boolean"),
        (Parameter("p", type=JSONType), ["--p", "{bad"], "'{bad' is not a valid JSON object"),
        (Parameter("req", required=True), [], "Missing option '--req'"),
        (Parameter("p", type=click.IntRange(1, 5)), ["--p", "9"], "9 is not in the range"),
        (Parameter("p"), ["--q", "9"], "No such option"),
        (IncludeFile("file"), ["--file", "no.txt"], "'--file': Could not read file 'no.txt': No such file"),
        (IncludeFile("file"), ["--file", "s3://b/k"], "'s3://b/k' is a URL"),
        (IncludeFile("file", default="no.txt"), [], "'--file': Could not read file 'no.txt': No such file"),
        (IncludeFile("file", default=lambda ctx: "no.txt"), [], "'--file': Could not read file 'no.txt'"),
        (IncludeFile("file", required=True), [], "Missing option '--file'"),
    ],
)
def test_a_wrong_command_line_exits_with_2_and_says_why(tmp_path, monkeypatch, parameter, arguments, message):
    monkeypatch.chdir(tmp_path)

    outcome = run(parameter, *arguments)

    assert outcome.exit_code == 2
    assert message in outcome.output


def test_an_included_file_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("content")

    assert run(IncludeFile("file"), "--file", str(tmp_path / "a.txt")).values == {"p": "content"}


def test_keywords_that_are_not_ours_are_those_of_click():
    outcome = run(Parameter("p", type=int, multiple=True), "--p", "1", "--p", "2")

    assert outcome.values == {"p": (1, 2)}


def test_a_keyword_that_click_does_not_know_is_an_error():
    with pytest.raises(ParameterError, match=r"'p' can't be an option .*\['colour'\]"):
        run(Parameter("p", colour="red"))


# Values from the environment


@pytest.mark.parametrize(
    ("parameter", "text", "value"),
    [
        (Parameter("my-param", default=1), "5", 5),
        (Parameter("my-param", default=False), "True", True),
        (Parameter("my-param", type=JSONType), "[1]", [1]),
        (Parameter("My_Param", separator=" "), "a b", ["a", "b"]),
    ],
)
def test_the_environment_gives_a_value_that_the_command_line_does_not(parameter, text, value):
    env = {"DASKFLOW_RUN_MY_PARAM": text}

    assert run(parameter, env=env).values == {"p": value}


def test_the_command_line_comes_before_the_environment():
    assert run(Parameter("p", default=1), "--p", "2", env={"DASKFLOW_RUN_P": "3"}).values == {"p": 2}


def test_a_required_parameter_may_come_from_the_environment():
    assert run(Parameter("p", required=True), env={"DASKFLOW_RUN_P": "x"}).values == {"p": "x"}


def test_a_wrong_value_in_the_environment_exits_with_2():
    outcome = run(Parameter("p", default=1), env={"DASKFLOW_RUN_P": "x"})

    assert outcome.exit_code == 2
    assert "'x' is not a valid integer" in outcome.output


# Defaults


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (Parameter("p"), None),
        (Parameter("p", default=False), False),
        (Parameter("p", default=1, type=float), 1.0),
        (Parameter("p", default={"a": 1}), {"a": 1}),
        (Parameter("p", default={1: "a"}), {1: "a"}),
        (Parameter("p", default='{"a": 1}', type=JSONType), {"a": 1}),
        (Parameter("p", default="a,b", separator=","), ["a", "b"]),
        (Parameter("p", default=["a", "b"], separator=","), ["a", "b"]),
        (Parameter("p", default=1, required=True), 1),
        (Parameter("p", default=lambda ctx: 1, type=int, required=True), 1),
        (Parameter("p", default=lambda ctx: ctx.parameter_name), "p"),
        (Parameter("p", default=lambda ctx: (1, 2), type=int, multiple=True), (1, 2)),
        (Parameter("p", default=lambda ctx: "2024-05-06", type=click.DateTime()), datetime(2024, 5, 6)),
        (Parameter("p", default="2024-05-06", type=click.DateTime()), datetime(2024, 5, 6)),
        (IncludeFile("p"), None),
    ],
)
def test_without_a_value_the_default_counts(parameter, value):
    outcome = run(parameter)

    assert outcome.values == {"p": value}
    assert type(outcome.values["p"]) is type(value)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (Parameter("p", default="2", type=int), 2),
        (Parameter("p", default="2024-05-06", type=click.DateTime()), datetime(2024, 5, 6)),
        (Parameter("p"), None),
    ],
)
def test_collect_has_the_defaults_even_if_click_parsed_nothing(parameter, value):
    flow_class = type("F", (Flow,), {"p": parameter})

    assert collect(flow_class, {}, ParameterContext("F", "ada", "", print, "local")) == {"p": value}


@pytest.mark.parametrize("arguments", [["--p", "given"], ["--help"]])
def test_a_deploy_time_default_is_not_computed_when_it_is_not_needed(arguments):
    calls = []

    outcome = run(Parameter("p", default=calls.append), *arguments)

    assert outcome.exit_code == 0
    assert calls == []


def test_a_deploy_time_default_is_computed_once():
    calls = []

    def default(context):
        calls.append(context)
        return "computed"

    assert run(Parameter("p", default=default)).values == {"p": "computed"}
    assert [(call.flow_name, call.user_name, call.parameter_name) for call in calls] == [("F", "ada", "p")]


@pytest.mark.parametrize(
    ("default", "kind", "error"),
    [
        (lambda ctx: 1 / 0, int, ParameterFieldFailed),
        (lambda ctx: "1", int, ParameterFieldTypeMismatch),
        (lambda ctx: 9, click.IntRange(1, 5), ParameterFieldTypeMismatch),
    ],
)
def test_a_deploy_time_default_that_goes_wrong_ends_the_command(default, kind, error):
    with pytest.raises(error, match="parameter 'p'"):
        run(Parameter("p", default=default, type=kind))


# Help


@pytest.mark.parametrize(
    ("parameter", "lines"),
    [
        (Parameter("p", default=3, help="How many."), ["--p INTEGER", "How many.", "[default: 3]"]),
        (Parameter("p", default=False), ["--p BOOLEAN", "[default: False]"]),
        (Parameter("p", default={"a": [True]}), ["--p JSON", '[default: {"a": [true]}]']),
        (Parameter("p", required=True), ["--p TEXT", "[required]"]),
        (Parameter("p", default=lambda ctx: "x"), ["[default: (computed when the run starts)]"]),
        (IncludeFile("f", default="a.csv", help="Data."), ["--f FILE", "Data.", "[default: a.csv]"]),
        (Parameter("p", type=click.Choice(["a", "b"])), ["--p [a|b]"]),
    ],
)
def test_help_shows_type_text_and_default(parameter, lines):
    output = run(parameter, "--help").output

    assert [line for line in lines if line not in output] == []


@pytest.mark.parametrize(
    "parameter",
    [
        Parameter("p", default=3, show_default=False),
        Parameter("p", default=lambda ctx: 3, show_default=False),
        Parameter("p"),
    ],
)
def test_help_shows_no_default_where_there_is_none_to_show(parameter):
    assert "default" not in run(parameter, "--help").output


# All together


def test_all_parameters_of_a_flow_are_options_in_its_order():
    class Base(Flow):
        z = Parameter("last", default="z")

    class F(Base):
        a = Parameter("first", default=1)
        data = IncludeFile("data")

    assert [option.opts for option in parameter_options(F)] == [["--last"], ["--first"], ["--data"]]
    assert Outcome(F, ["--first", "2"], None).values == {"z": "z", "a": 2, "data": None}


def test_a_name_that_python_reserves_is_a_good_option():
    assert run(Parameter("lambda", default=0.1), "--lambda", "0.2").values == {"p": 0.2}


def test_no_parameter_can_have_the_name_of_an_option_of_run():
    options = run_command(Flow).params

    assert options
    names = {option.name for option in options}
    spelled = {flag.lstrip("-").replace("-", "_") for option in options for flag in option.opts}
    assert (names | spelled) - RESERVED_NAMES == set()
