"""``@secrets``: variables of a step's process whose values are kept elsewhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from daskflow.decorators.secret_sources import BACKENDS, Source, masked
from daskflow.errors import SecretsError
from daskflow.flow.decorator import StepDecorator, truth_of

if TYPE_CHECKING:
    from daskflow.flow.decorator import Attempt
    from daskflow.flow.graph import Graph
    from daskflow.flow.node import Node
    from daskflow.flow.spec import FlowSpec

RESERVED = ("DASKFLOW_", "METAFLOW_")
"""How names begin that a secret can't set."""


class secrets(StepDecorator):
    """Environment variables that are fetched when the step starts, for it and what it starts. Other steps don't see them.

    Parameters
    ----------
    sources
        Where they come from, each ``"backend.id"`` or ``{"type": backend, "id": id, "options": {...}, "role": ...}``.
        Backends are ``aws-secrets-manager``, whose ``id`` is the name or ARN of a secret, and ``inline``, for tests, whose
        ``options={"env_vars": {...}}`` are the variables.
    role
        The role (ARN) to take on for sources that name none of their own.
    allow_override
        Whether a variable may be replaced that is set already.
    """

    name = "secrets"
    defaults = {"sources": [], "role": None, "allow_override": False}

    def step_init(self, graph: Graph, node: Node) -> None:
        """Check the sources."""
        if not isinstance(self.options["sources"], list | tuple):
            raise self.refuse(node, "has sources that are not a list")
        role = self.options["role"]
        if role is not None and not isinstance(role, str):
            raise self.refuse(node, f"has role={role!r}, which is not the ARN of a role")
        truth_of(self, node, "allow_override")
        try:
            self._sources()
        except ValueError as error:
            raise self.refuse(node, f"has a source {error}") from None

    def described(self) -> dict[str, Any]:
        """The options without the values of inline secrets."""
        sources = self.options["sources"]
        shown = [masked(each) for each in sources] if isinstance(sources, list | tuple) else "***"
        return {**self.options, "sources": shown}

    def task_pre_step(self, flow: FlowSpec, attempt: Attempt) -> None:
        """Fetch them all, then set them. Raises :class:`SecretsError`."""
        if attempt.fallback:
            return
        origin: dict[str, Source] = {}
        values: dict[str, str] = {}
        for source in self._sources():
            for name, value in BACKENDS[source.type].fetch(source).items():
                self._check(name, source)
                if name in origin:
                    raise SecretsError(f"Both '{origin[name]}' and '{source}' give {name}.")
                origin[name], values[name] = source, value
        os.environ.update(values)

    def _sources(self) -> list[Source]:
        return [Source.of(each, self.options["role"]) for each in self.options["sources"]]

    def _check(self, name: str, source: Source) -> None:
        if name.startswith(RESERVED):
            begins = " and ".join(RESERVED)
            raise SecretsError(
                f"'{source}' gives {name}; names that begin with {begins} are not for secrets."
            )
        if name in os.environ and not self.options["allow_override"]:
            raise SecretsError(
                f"'{source}' gives {name}, which is set already; allow_override=True replaces it."
            )
