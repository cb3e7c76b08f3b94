from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from daskflow.errors import ParameterError, ParameterFieldFailed, ParameterFieldTypeMismatch
from daskflow.flow.include_file import IncludeFile
from daskflow.flow.parameters import ParameterContext, parameters_of


class Flow:
    """Stands for FlowSpec, its fallback for missing attributes included."""

    __daskflow_flow__ = True

    def __init__(self, content):
        self.content = content

    def _artifact(self, name):
        return self.content

    def __getattr__(self, name):
        return f"fallback for {name}"


@pytest.fixture
def context():
    return ParameterContext("F", "ada", "file", print, "local")


def flow_with(include_file):
    return type("F", (Flow,), {"file": include_file})


# Reading the file


def test_the_value_is_the_text_of_the_file(tmp_path):
    (tmp_path / "a.txt").write_bytes("grün\r\nblau\n".encode())

    assert IncludeFile("file").convert(str(tmp_path / "a.txt")) == "grün\r\nblau\n"


def test_the_value_is_bytes_where_it_is_not_text(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\xff\x00")

    assert IncludeFile("file", is_text=False).convert(str(tmp_path / "a.bin")) == b"\xff\x00"


def test_the_encoding_is_that_of_the_declaration(tmp_path):
    (tmp_path / "a.txt").write_bytes("grün".encode("latin-1"))

    assert IncludeFile("file", encoding="latin-1").convert(str(tmp_path / "a.txt")) == "grün"


def test_a_relative_path_starts_at_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("here")
    monkeypatch.chdir(tmp_path)

    assert IncludeFile("file").convert("a.txt") == "here"


def test_the_tilde_is_the_home_directory(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("home")
    monkeypatch.setenv("HOME", str(tmp_path))

    assert IncludeFile("file").convert("~/a.txt") == "home"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing.txt", "Could not read file 'missing.txt': No such file or directory"),
        ("folder", "Could not read file 'folder': Is a directory"),
        (
            "latin.txt",
            "Could not read file 'latin.txt' as utf-8 text: .* at byte 2.* encoding, or with is_text=False",
        ),
        ("a\0b", "Could not read file .*null byte"),
        ("~nobody-of-that-name/x", "Could not read file '~nobody-of-that-name/x': No such file"),
        ("s3://bucket/key", "'s3://bucket/key' is a URL, and IncludeFile reads local files only"),
        ("https://example.org/a.csv", "is a URL"),
        ("file:///etc/hosts", "is a URL"),
    ],
)
def test_what_can_not_be_read_is_an_error_that_names_path_and_reason(tmp_path, monkeypatch, path, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.txt").write_bytes("grün".encode("latin-1"))
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ValueError, match=reason):
        IncludeFile("file").convert(path)


# Defaults


def test_without_a_default_the_value_is_none(context):
    assert IncludeFile("file").resolve_default(context) is None


@pytest.mark.parametrize(
    "default", [str, Path, lambda path: lambda ctx: str(path), lambda path: lambda ctx: path]
)
def test_the_default_is_a_path_or_a_callable_that_returns_one(tmp_path, context, default):
    (tmp_path / "a.txt").write_text("default")

    assert IncludeFile("file", default=default(tmp_path / "a.txt")).resolve_default(context) == "default"


def test_the_default_file_is_not_read_when_the_flow_is_looked_at():
    (parameter,) = parameters_of(flow_with(IncludeFile("file", default="missing.txt")))

    assert parameter.default == "missing.txt"


def test_a_default_that_is_no_path_is_an_error(context):
    with pytest.raises(ParameterFieldTypeMismatch, match="is 3, of type int; expected a path"):
        parameters_of(flow_with(IncludeFile("file", default=3)))
    with pytest.raises(ParameterFieldTypeMismatch, match="is None, of type NoneType; expected a path"):
        IncludeFile("file", default=lambda ctx: None).resolve_default(context)


def test_a_default_path_that_can_not_be_computed_is_an_error(context):
    with pytest.raises(ParameterFieldFailed, match=r"'file' is computed by .* raised ZeroDivisionError"):
        IncludeFile("file", default=lambda ctx: 1 / 0).resolve_default(context)


# Parsers


@pytest.mark.parametrize("parser", [json.loads, "json.loads"])
def test_a_step_reads_what_the_parser_makes_of_the_content(parser):
    F = flow_with(IncludeFile("file", parser=parser))

    assert F('{"a": 1}').file == {"a": 1}


def test_without_a_parser_a_step_reads_the_content():
    assert flow_with(IncludeFile("file"))("text").file == "text"


def test_the_parser_is_not_asked_about_a_file_that_was_not_given():
    assert flow_with(IncludeFile("file", parser=json.loads))(None).file is None


def test_the_content_is_parsed_once_a_task_and_a_change_stays_in_it():
    F = flow_with(IncludeFile("file", parser=json.loads))
    one, other = F("[1]"), F("[1]")

    one.file.append(2)

    assert one.file == [1, 2]
    assert other.file == [1]


@pytest.mark.parametrize(
    ("parser", "message"),
    [
        (json.loads, "of IncludeFile 'file' raised JSONDecodeError"),
        ("json.no_such", "'json.no_such' of IncludeFile 'file' raised AttributeError"),
        ("no_such_module.f", "'no_such_module.f' of IncludeFile 'file' raised ModuleNotFoundError"),
        (lambda content: content.no_such, "raised AttributeError: 'str' object has no attribute"),
    ],
)
def test_a_parser_that_fails_is_an_error_and_no_missing_attribute(parser, message):
    flow = flow_with(IncludeFile("file", parser=parser))("{bad")

    with pytest.raises(ParameterFieldFailed, match=message):
        flow.file


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"parser": "loads"}, "parser 'loads': give a callable, or the dotted name"),
        ({"parser": 3}, "parser 3: give a callable"),
        ({"encoding": "utf-9"}, "an encoding that Python does not know: 'utf-9'"),
    ],
)
def test_a_wrong_declaration_is_found_before_anything_runs(declared, message):
    with pytest.raises(ParameterError, match=message):
        parameters_of(flow_with(IncludeFile("file", **declared)))


def test_an_included_file_that_was_parsed_can_still_be_pickled():
    include_file = IncludeFile("file", parser="json.loads")
    flow = flow_with(include_file)("[1]")
    assert flow.file == [1]

    copy = pickle.loads(pickle.dumps(include_file))

    assert flow_with(copy)("[2]").file == [2]


def test_an_included_file_can_not_be_assigned():
    with pytest.raises(AttributeError, match="not modifiable"):
        flow_with(IncludeFile("file"))("x").file = "y"
