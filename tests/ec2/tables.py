"""Profiles as they stand in daskflow.toml."""

from __future__ import annotations

import json
from typing import Any


def toml(profiles: dict[str, dict[str, Any]]) -> str:
    lines = []
    for name, values in profiles.items():
        lines.append(f"[cluster.{name}]")
        for key, value in values.items():
            if isinstance(value, dict):
                value = (
                    "{" + ", ".join(f"{inner} = {json.dumps(each)}" for inner, each in value.items()) + "}"
                )
                lines.append(f"{key} = {value}")
            else:
                lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join(lines)
