"""What the page shows, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daskflow.dashboard.model import Source


def routes(source: Source) -> list[tuple[str, Any, dict[str, Any]]]:
    """Tornado's routes of ``/daskflow/api``, without a prefix: a pattern, a handler and its arguments each."""
    return []
