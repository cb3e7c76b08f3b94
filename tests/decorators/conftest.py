"""Decorators in whole flows, run as a user runs them."""

from __future__ import annotations

from tests.flows.conftest import run_flow, workspace

__all__ = ["run_flow", "workspace"]
