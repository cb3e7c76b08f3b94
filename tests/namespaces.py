"""Mounts that nobody sees but a command and what it starts."""

from __future__ import annotations

import subprocess

import pytest

_UNSHARE = ["unshare", "-Urm"]

needs_mounts = pytest.mark.skipif(
    subprocess.run([*_UNSHARE, "true"], check=False, capture_output=True).returncode != 0,
    reason="the system lets nobody mount what others do not see (unshare)",
)


def with_mounts(script: str) -> list[str]:
    """What stands before a command to run it by a shell's ``script``, as ``"$@"``, in which ``mount`` works."""
    return [*_UNSHARE, "sh", "-c", script, "sh"]
