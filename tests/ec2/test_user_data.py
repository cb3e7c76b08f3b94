"""What a machine does when it boots, as it stands in its user data."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from daskflow.clusters.ec2_boot import Credentials, credentials_in, scheduler_command, user_data
from daskflow.clusters.profiles import Ec2Profile
from daskflow.errors import ClusterError
from daskflow.task.certificate import self_signed

if TYPE_CHECKING:
    from pathlib import Path

OURS = Credentials(*self_signed())


def script(**profile: object) -> str:
    made = Ec2Profile(name="team", **{"image": "flows:1"} | profile)  # type: ignore[arg-type]
    return user_data(made, OURS.configuration(), scheduler_command(made), gpu=False)


def test_who_may_read_it_can_speak_with_the_cluster():
    said = script(environment={"LIKE": "DASK_INTERNAL_INHERIT_CONFIG=e30="})

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


def test_the_registry_of_an_account_is_signed_in_to():
    image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/flows:7"

    assert "docker login" not in script()
    assert (
        "aws ecr get-login-password --region eu-central-1 | docker login --username AWS --password-stdin "
        "123456789012.dkr.ecr.eu-central-1.amazonaws.com\n"
    ) in script(image=image)
