"""What a machine does when it boots: run one container, or one program of its own, and end when that ends.

It is a shell script in the machine's user data, of which EC2 takes 16 kB. Whatever happens, the machine ends itself after the
profile's lifetime, and what a machine's shutdown does is to terminate it.
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskflow.clusters.ec2_account import PORT
from daskflow.clusters.profiles import CONFIGURATION
from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daskflow.clusters.ec2_account import Kind
    from daskflow.clusters.profiles import Ec2Profile

MOST_BYTES = 16384
"""What EC2 takes of user data, before it is put into base64."""
JOIN_SECONDS = 300
"""A worker that has no scheduler for so long ends."""
ROOM = "/var/tmp"
"""A folder on a machine's disk: Amazon Linux has ``/tmp`` in memory."""
ECR = re.compile(r"(\d{12}\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?)/")
"""How images begin that are in a registry of AWS."""
SIDES = ("scheduler", "worker", "client")


@dataclass(frozen=True)
class Credentials:
    """One certificate and key for scheduler, workers and clients of a cluster; both PEM."""

    certificate: str
    key: str

    def configuration(self) -> dict[str, Any]:
        """As Dask's configuration has them."""
        sides = {f"distributed.comm.tls.{side}.cert": self.certificate for side in SIDES}
        sides |= {f"distributed.comm.tls.{side}.key": self.key for side in SIDES}
        return sides | {
            "distributed.comm.tls.ca-file": self.certificate,
            "distributed.comm.require-encryption": True,
            "distributed.comm.default-scheme": "tls",
        }

    def security(self) -> Any:
        """As Dask's clients take them."""
        from distributed.security import Security

        given = {f"tls_{side}_cert": self.certificate for side in SIDES}
        given |= {f"tls_{side}_key": self.key for side in SIDES}
        return Security(tls_ca_file=self.certificate, require_encryption=True, **given)


def scheduler_command(profile: Ec2Profile) -> list[str]:
    """What a scheduler's Python runs. Its dashboard is for its own machine only."""
    return [
        *("-m", "distributed.cli.dask_scheduler", "--protocol", "tls", "--port", str(PORT)),
        *("--dashboard-address", "127.0.0.1:8787", "--idle-timeout", f"{profile.idle_timeout}s"),
    ]


def worker_command(scheduler: str, name: str, threads: int) -> list[str]:
    """What a worker's Python runs, to join the scheduler at an address."""
    return [
        *("-m", "distributed.cli.dask_worker", scheduler, "--protocol", "tls", "--name", name),
        *("--nthreads", str(threads), "--dashboard-address", "127.0.0.1:0"),
        *("--death-timeout", str(JOIN_SECONDS)),
    ]


def user_data(
    profile: Ec2Profile, configuration: Mapping[str, Any], command: Sequence[str], *, gpu: bool
) -> str:
    """The script. Raises :class:`ClusterError` if EC2 would not take it."""
    sent = base64.b64encode(json.dumps(_nested(configuration), separators=(",", ":")).encode()).decode()
    run = _on_machine(profile, command) if profile.image is None else _in_container(profile, command, gpu=gpu)
    script = "\n".join(
        [
            "#!/bin/sh",
            f"shutdown -h +{profile.lifetime // 60}",
            f"export {CONFIGURATION}={sent}",
            *run,
            "shutdown -h now",
            "",
        ]
    )
    size = len(script.encode())
    if size > MOST_BYTES:
        own = sum(len(f"{name}={value}".encode()) for name, value in profile.environment.items())
        raise ClusterError(
            f"Profile '{profile.name}': the user data of a machine would have {size:,} bytes, and EC2 takes {MOST_BYTES:,}. Of these "
            f"{own:,} are the profile's environment: put what is large into the image."
        )
    return script


def _in_container(profile: Ec2Profile, command: Sequence[str], *, gpu: bool) -> list[str]:
    image = str(profile.image)
    run = [
        "docker",
        "run",
        "--rm",
        "--network=host",
        *(["--gpus=all"] if gpu else []),
        "--env",
        CONFIGURATION,
    ]
    for variable in _assignments(profile):
        run += ["--env", variable]
    return ["systemctl start docker", *_sign_in(image), shlex.join([*run, image, "python", *command])]


def _on_machine(profile: Ec2Profile, command: Sequence[str]) -> list[str]:
    """As in a container there is a home, room for temporary files, and ``python`` on the path; the profile's variables come last."""
    programs = shlex.quote(posixpath.dirname(profile.python))
    own = f'HOME="${{HOME:-/root}}" TMPDIR={ROOM} PATH={programs}:"$PATH"'
    return [
        f"cd {ROOM}",
        "umask 077",
        f"env {own} {shlex.join([*_assignments(profile), profile.python, *command])}",
    ]


def _assignments(profile: Ec2Profile) -> list[str]:
    return [f"{name}={value}" for name, value in profile.environment.items()]


def what_is_wrong(profile: Ec2Profile, kind: Kind) -> str:
    """A question about the image, for somebody whose machine of that kind ended at once."""
    if profile.image is None:
        return f"has the machine image {kind.ami} a Python with Dask, {profile.python}, that runs on {kind.type}?"
    return f"does the container image {profile.image} exist, can the machine get it, is it made for {kind.type}, and has it Dask?"


def _sign_in(image: str) -> list[str]:
    """How a machine gets an image from the account's registry, which takes what its instance profile may do."""
    registry = ECR.match(image)
    if registry is None:
        return []
    return [
        "command -v aws || dnf install --assumeyes awscli-2",
        f"aws ecr get-login-password --region {registry[2]} | docker login --username AWS --password-stdin {registry[1]}",
    ]


def credentials_in(script: str) -> Credentials:
    """What a machine's user data says about how to speak with it. Raises :class:`ClusterError` if it says nothing."""
    # the first, which comes before all that the profile says
    found = re.search(rf"^export {CONFIGURATION}=([A-Za-z0-9+/=]+)$", script, re.MULTILINE)
    try:
        tls = json.loads(base64.b64decode(found[1]))["distributed"]["comm"]["tls"] if found else {}
        return Credentials(tls["client"]["cert"], tls["client"]["key"])
    except (ValueError, KeyError) as error:
        raise ClusterError(
            "The scheduler's user data is none of daskflow's: it has no certificate."
        ) from error


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as Dask takes it: ``{"a.b": 1}`` is ``{"a": {"b": 1}}``."""
    found: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, name = path.split(".")
        inner = found
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = value
    return found
