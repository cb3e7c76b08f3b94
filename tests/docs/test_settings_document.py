"""docs/settings.md lists what there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from daskflow import FlowSpec, settings, step
from daskflow.cli.entry import commands_of

DOCUMENT = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()


class Some(FlowSpec):
    @step
    def start(self):
        pass


def commands(command: click.Command, path: str = "") -> dict[str, set[str]]:
    """The options of each command; those that all have are under ``all``."""
    options = {
        name
        for option in command.params
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith("--")
    }
    if not isinstance(command, click.Group):
        return {path: options}
    found = {"all": options} if options else {}
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        found |= commands(below, f"{path} {name}".strip())
    return found


def documented() -> dict[str, set[str]]:
    """The same, by the table."""
    found: dict[str, set[str]] = {}
    rows = re.findall(r"^\| (all|`.+?) \| (.+) \|$", DOCUMENT.partition("## Options")[2], re.MULTILINE)
    for names, options in rows:
        for name in names.replace("`", "").split(", "):
            words = [word for word in name.split() if word.islower()]  # the others are arguments
            found.setdefault(" ".join(words), set()).update(re.findall(r"--[a-z-]+", options))
    found["run"].discard("--help")
    found["logs show"] = found.pop("logs")
    return found


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The names that are looked up when settings are loaded."""
    names: set[str] = set()
    find = settings._Lookup._find

    def noted(lookup, of):
        names.update(of)
        return find(lookup, of)

    monkeypatch.setattr(settings._Lookup, "_find", noted)
    settings.load({"HOME": str(tmp_path), "USER": "ada"}, tmp_path)
    return names


def test_every_setting_is_in_the_table_and_nothing_else(asked):
    table = DOCUMENT.partition("## Settings")[2].partition("\n\n`NO_COLOR")[0]

    assert set(re.findall(r"`(DASKFLOW_[A-Z_0-9]+)`", table)) == asked


def test_every_option_of_every_command_is_in_the_table_and_nothing_else():
    assert documented() == commands(commands_of(Some))


def test_the_option_counts_then_its_variable_then_the_setting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = []
    group = commands_of(Some)
    run = group.get_command(click.Context(group), "run")
    for arguments, env in (
        (["--max-workers", "1"], {"DASKFLOW_RUN_MAX_WORKERS": "2", "DASKFLOW_MAX_WORKERS": "3"}),
        ([], {"DASKFLOW_RUN_MAX_WORKERS": "2", "DASKFLOW_MAX_WORKERS": "3"}),
        ([], {"DASKFLOW_MAX_WORKERS": "3"}),
    ):
        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            top = click.Context(group, auto_envvar_prefix="DASKFLOW")
            context = run.make_context("run", list(arguments), parent=top)
            found.append(context.params["max_workers"] or settings.load().max_workers)

    assert found == [1, 2, 3]
