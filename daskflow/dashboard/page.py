"""The page as a Bokeh document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bokeh.document import Document

    from daskflow.dashboard.model import Source


def document(source: Source, variables: Mapping[str, Any] | None = None) -> Callable[[Document], None]:
    """What fills the documents of the page ``/daskflow``.

    ``variables`` go into the page's template: under a scheduler those of Dask's own pages, ``pages`` and ``plots``, for the
    navigation bar.
    """

    def fill(doc: Document) -> None:
        doc.title = "Dask: daskflow"
        doc.template_variables.update(variables or {})

    return fill
