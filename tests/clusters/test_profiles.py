"""Profiles of clusters in daskflow.toml."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from daskflow import settings
from daskflow.clusters import Purpose, open_cluster
from daskflow.clusters.profiles import PYTHON, ClassProfile, Ec2Profile, duration_text, find
from daskflow.errors import ClusterError, DaskflowException, SettingsError

ROOT = str(Path(__file__).parents[2])
FLOW = """
    from daskflow import FlowSpec, step


    class F(FlowSpec):
        @step
        def start(self):
            pass


    if __name__ == "__main__":
        F()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, with a home beside it."""
    (tmp_path / "home" / ".config").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "project"


def configure(folder: Path, text: str) -> None:
    (folder / "daskflow.toml").write_text(textwrap.dedent(text))


def found(folder: Path, name: str = "team", **options: object) -> ClassProfile | Ec2Profile:
    profile = find(name, folder, options)
    assert profile is not None
    return profile


def test_a_profile_is_found_upwards_and_the_projects_comes_before_that_of_the_home(folder: Path):
    home = folder.parent / "home" / ".config"
    configure(home, '[cluster.team]\nclass = "of.Home"\n[cluster.own]\nclass = "of.Mine"')
    configure(
        folder, '[cluster.team]\nclass = "of.Project"\n[cluster.team.options]\ncores = 4\nmemory = "8GB"'
    )
    (folder / "a" / "b").mkdir(parents=True)

    team = found(folder / "a" / "b", cores=2)

    assert team == ClassProfile("team", "of.Project", {"cores": 2, "memory": "8GB"})
    assert found(folder, "own") == ClassProfile("own", "of.Mine", {})
    assert find("other", folder, {}) is None


def test_what_a_profile_of_ec2_says_is_read_with_its_units(folder: Path):
    configure(
        folder,
        """
        [cluster.team]
        kind = "ec2"
        image = "registry.example/flows:3"
        region = "eu-central-1"
        max_workers = 20
        spot = true
        idle_timeout = "10 minutes"
        lifetime = "2 days"
        allow = ["203.0.113.7/32", "2001:db8::/64"]
        environment = { MODE = "a 'b'" }
        """,
    )

    profile = found(folder, max_workers=30)

    assert isinstance(profile, Ec2Profile)
    assert (profile.max_workers, profile.max_machines) == (30, 31)
    assert (profile.idle_timeout, profile.lifetime) == (600, 2 * 86400)
    assert profile.allow == ("203.0.113.7/32", "2001:db8::/64")
    assert profile.environment == {"MODE": "a 'b'"}
    assert profile.spot


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "1 second"),
        (90, "90 seconds"),
        (1800, "30 minutes"),
        (5401, "5401 seconds"),
        (3600, "1 hour"),
        (36 * 3600, "36 hours"),
        (7 * 86400, "7 days"),
    ],
)
def test_a_time_is_told_as_a_profile_would_say_it(folder: Path, seconds: int, text: str):
    assert duration_text(seconds) == text

    configure(folder, f'[cluster.team]\nkind = "ec2"\nimage = "i"\nidle_timeout = "{text}"')
    profile = found(folder)
    assert isinstance(profile, Ec2Profile)
    assert profile.idle_timeout == seconds


def test_ec2_needs_no_table_if_the_options_say_what_has_to_be_said(folder: Path):
    profile = found(folder, "ec2", image="flows:1")

    assert isinstance(profile, Ec2Profile)
    assert profile.image == "flows:1"
    with pytest.raises(ClusterError, match="--cluster-option: \\[cluster.ec2\\] says neither image nor ami"):
        find("ec2", folder, {})


def test_scheduler_and_workers_run_in_a_container_or_on_a_machine_image_that_has_all(folder: Path):
    container, machine = found(folder, "ec2", image="flows:1"), found(folder, "ec2", ami="ami-1")
    own = found(folder, "ec2", ami="ami-1", python="/usr/bin/python3.11")

    assert isinstance(container, Ec2Profile)
    assert isinstance(machine, Ec2Profile)
    assert isinstance(own, Ec2Profile)
    assert (container.image, container.ami) == ("flows:1", None)
    assert (machine.image, machine.ami, machine.python) == (None, "ami-1", PYTHON)
    assert own.python == "/usr/bin/python3.11"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('kind = "ec2"\nimage = "i"\nmax_worker = 3', "there is no key 'max_worker'. Did you mean 'max_workers'?"),
        ('class = "a.B"\noption = 3', "there is no key 'option'; with what a class is called stands in [cluster.team.options]. Did you mean 'options'?"),
        ('kind = "ec3"', "kind is 'ec3'; expected 'ec2' or 'class'"),
        ("cores = 3", 'says neither kind = "ec2" nor class = "package.module.Class"'),
        ('class = "Cluster"', "class is 'Cluster'; expected \"package.module.Class\""),
        ('kind = "ec2"', "says neither image nor ami: scheduler and workers run in a container image, or on a machine image"),
        ('kind = "ec2"\nimage = "i"\npython = "/bin/python"', "says image and python: a container has its own Python"),
        ('kind = "ec2"\nami = "ami-1"\npython = "python"', "python is 'python'; expected the path of an interpreter"),
        ('kind = "ec2"\nimage = "a b"', "image is 'a b'; expected a text (it is empty or has blanks)"),
        ('kind = "ec2"\nimage = "i"\nmax_workers = "3"', "max_workers is '3'; expected a whole number from 1"),
        ('kind = "ec2"\nimage = "i"\nspot = "yes"', "spot is 'yes'; expected true or false"),
        ('kind = "ec2"\nimage = "i"\nidle_timeout = "soon"', "idle_timeout is 'soon'; expected a time, such as"),
        ('kind = "ec2"\nimage = "i"\nlifetime = "90 days"', "from 10 minutes to 30 days"),
        ('kind = "ec2"\nimage = "i"\nallow = "203.0.113.7/8"', "has host bits set"),
        ('kind = "ec2"\nimage = "i"\nallow = ["0.0.0.0/1", "128.0.0.0/1"]', 'they are a large part of the internet; say "0.0.0.0/0" if that is what you want'),
        ('kind = "ec2"\nimage = "i"\nallow = "2000::/3"', 'say "::/0"'),
        ('kind = "ec2"\nimage = "i"\nenvironment = { A = 3 }', "A is no text; write it in quotes"),
        ('kind = "ec2"\nimage = "i"\nenvironment = { "A B" = "" }', "'A B' is no name of a variable"),
        ('kind = "ec2"\nimage = "i"\nenvironment = { AWS_SECRET_ACCESS_KEY = "x" }', "let iam_instance_profile give them rights"),
        ('kind = "ec2"\nimage = "i"\nenvironment = { DASK_INTERNAL_INHERIT_CONFIG = "x" }', "is what daskflow tells scheduler and workers"),
        ('kind = "ec2"\nimage = "i"\nmax_workers = 2\nmin_workers = 3', "max_workers is 2, min_workers 3"),
        ('kind = "ec2"\nimage = "i"\nmin_workers = 4\nmax_machines = 4', "too few for a scheduler and 4 workers"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_the_file_and_the_nearest_right_name(folder: Path, text: str, words: str):
    configure(folder, f"[cluster.team]\n{text}")

    with pytest.raises(DaskflowException) as told:
        find("team", folder, {})

    assert f"{folder / 'daskflow.toml'}: [cluster.team]" in told.value.message
    assert words in told.value.message


def test_what_an_option_says_wrong_is_told_as_the_options(folder: Path):
    configure(folder, '[cluster.team]\nkind = "ec2"\nimage = "i"')

    with pytest.raises(DaskflowException, match="^--cluster-option: there is no key 'spots'"):
        found(folder, spots=True)


def test_what_a_variable_holds_is_not_told(folder: Path):
    with pytest.raises(DaskflowException) as told:
        found(folder, "ec2", image="i", environment={"AWS_SECRET_ACCESS_KEY": "hush"})

    assert "AWS_SECRET_ACCESS_KEY would stand in the machines' user data" in told.value.message
    assert "hush" not in told.value.message


def test_a_name_that_no_profile_has_is_told_with_the_nearest(folder: Path):
    configure(folder, '[cluster.research]\nclass = "a.B"')

    with pytest.raises(ClusterError, match="no cluster 'reserch'. Did you mean 'research'"):
        open_cluster("reserch", None, {}, Purpose(folder, "s3://b/p", "ada", print))


def test_what_is_no_table_of_tables_is_told(folder: Path):
    configure(folder, 'cluster = "team"')

    with pytest.raises(SettingsError, match="expected tables \\[cluster.NAME\\]"):
        settings.cluster_tables(folder)


def test_a_flow_runs_on_a_profile_of_its_folder_from_wherever_it_is_started(folder: Path):
    (folder / "flow.py").write_text(textwrap.dedent(FLOW))
    configure(
        folder,
        """
        datastore = "store"

        [cluster.small]
        class = "distributed.LocalCluster"
        options = { n_workers = 1, threads_per_worker = 1, dashboard_address = "127.0.0.1:0" }
        """,
    )

    done = subprocess.run(
        [sys.executable, folder / "flow.py", "run", "--cluster", "small"],
        cwd=folder.parent,
        env=os.environ | {"PYTHONPATH": ROOT, "DASKFLOW_USER": "ada"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "is no setting" not in done.stderr


def test_the_document_lists_the_keys_of_a_profile_and_nothing_else():
    table = (Path(ROOT) / "docs" / "ec2.md").read_text().partition("| key |")[2].partition("\n\n")[0]
    listed = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)

    names = {name for each in listed for name in re.findall(r"`(\w+)`", each)}
    assert names == {each.name for each in dataclasses.fields(Ec2Profile)} - {"name"}
