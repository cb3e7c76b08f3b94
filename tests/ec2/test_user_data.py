"""What a machine does when it boots, as it stands in its user data."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from daskflow.clusters.ec2_boot import Credentials, credentials_in, scheduler_command, user_data
from daskflow.clusters.profiles import PYTHON, Ec2Profile
from daskflow.errors import ClusterError
from daskflow.task.certificate import self_signed

if TYPE_CHECKING:
    from pathlib import Path

OURS = Credentials(*self_signed())
SHOWS = r"""
import os, sys
sys.stdout.write("".join(each + "\0" for each in [*map("=".join, os.environ.items()), *sys.argv[1:]]))
"""


def script(**profile: object) -> str:
    made = Ec2Profile(name="team", **{"image": "flows:1"} | profile)  # type: ignore[arg-type]
    return user_data(made, OURS.configuration(), scheduler_command(made), gpu=False)


@pytest.mark.parametrize("image", ["flows:1", None])
def test_who_may_read_it_can_speak_with_the_cluster(image: str | None):
    said = script(image=image, environment={"LIKE": "\nexport DASK_INTERNAL_INHERIT_CONFIG=e30=\n"})

    [line] = [each for each in said.splitlines() if len(each) > 2000]
    assert line.startswith(
        "export DASK_INTERNAL_INHERIT_CONFIG="
    )  # in no command line, which everybody on a machine may read
    assert credentials_in(said) == OURS
    assert len(said) < 6000
    with pytest.raises(ClusterError, match="none of daskflow's"):
        credentials_in("#!/bin/sh")


@pytest.mark.parametrize("value", ["a 'b' \"c\"", "$HOME `id` $(id)", "two\nlines\n", "\\n \\", "ü", ""])
def test_a_variable_arrives_as_it_is_written(value: str, tmp_path: Path):
    for name in ("shutdown", "systemctl"):
        (tmp_path / name).write_text("#!/bin/sh\n")
    (tmp_path / "docker").write_text('#!/bin/sh\nfor each in "$@"; do printf "%s\\0" "$each"; done\n')
    for program in tmp_path.iterdir():
        program.chmod(0o755)

    run = subprocess.run(
        ["sh"],
        input=script(environment={"SAYS": value}),
        env={"PATH": f"{tmp_path}:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert f"SAYS={value}" in run.stdout.split("\0")


@pytest.mark.parametrize("name", ["SAYS", "PATH", "HOME", "UID", "IFS"])
@pytest.mark.parametrize("value", ["a 'b' \"c\"", "$HOME `id` $(id)", "two\nlines\n", "\\n \\", "ü", ""])
def test_without_a_container_it_arrives_as_well(name: str, value: str, tmp_path: Path):
    said = run_on(tmp_path, script(image=None, python=f"{tmp_path}/python", environment={name: value}))

    assert f"{name}={value}" in said
    assert ("PATH=" + f"{tmp_path}:{tmp_path}:/usr/bin:/bin" in said) == (name != "PATH")
    assert ("HOME=/root" in said) == (name != "HOME")
    assert "ended" in said


def run_on(folder: Path, script: str) -> list[str]:
    """What a machine sees whose programs are in a folder: the variables of its Python, its words, that it was told to end."""
    (folder / "python").write_text(f"#!{sys.executable} -SE\n{SHOWS}")
    (folder / "shutdown").write_text('#!/bin/sh\n[ "$2" != now ] || printf "ended\\0"\n')
    for program in folder.iterdir():
        program.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh"],
        input=script,
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split("\0")


def test_a_machine_that_needs_no_container_starts_none():
    made = script(image=None, ami="ami-1")

    assert "docker" not in made
    assert f"{PYTHON} -m distributed.cli.dask_scheduler" in made


def test_the_registry_of_an_account_is_signed_in_to():
    image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/flows:7"

    assert "docker login" not in script()
    assert (
        "aws ecr get-login-password --region eu-central-1 | docker login --username AWS --password-stdin "
        "123456789012.dkr.ecr.eu-central-1.amazonaws.com\n"
    ) in script(image=image)
