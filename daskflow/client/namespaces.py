"""The namespace: which runs this process looks at. It is one of their tags, mostly ``user:<name>``."""

from __future__ import annotations

from daskflow import settings
from daskflow._current import current

_chosen: list[str | None] = []
"""What :func:`namespace` was told last, empty if nothing."""


def namespace(ns: str | None) -> str | None:
    """From now on look only at runs that have the tag ``ns``, or at all if it is None; returns it.

    It holds for this process. Objects made before keep the namespace they were made in.
    Raises ``TypeError`` for anything but a string and None.
    """
    if not (ns is None or isinstance(ns, str)):
        raise TypeError(f"A namespace is a string such as 'user:ada', or None for all; got {ns!r}.")
    _chosen[:] = [ns]
    return ns


def get_namespace() -> str | None:
    """The namespace that holds now, None for all.

    Until :func:`namespace` is called it is that of the running flow within a task, and elsewhere ``user:<name>``, or
    ``production:<token>`` if ``DASKFLOW_PRODUCTION_TOKEN`` is set.
    Raises :class:`UnknownUser` if nothing says who the user is.
    """
    if _chosen:
        return _chosen[0]
    if "namespace" in current:
        found: str | None = current.namespace
        return found
    return settings.load().namespace()


def default_namespace() -> str | None:
    """Go back to the namespace that holds without a call of :func:`namespace`; returns it."""
    _chosen.clear()
    return get_namespace()
