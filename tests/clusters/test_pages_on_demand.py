"""The pages of the Dask dashboard come when somebody looks."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from distributed.http.routing import RoutingApplication

from daskflow.clusters import dashboard


def test_pages_that_could_not_be_loaded_are_loaded_for_who_looks_next(monkeypatch: pytest.MonkeyPatch):
    application = RoutingApplication()
    scheduler = SimpleNamespace(http_application=application, http_server=None)
    connected: list[object] = []
    stock = SimpleNamespace(connect=lambda *where, prefix: connected.append(where[0]))
    answers = [stock]

    def load() -> SimpleNamespace:
        if not connected and answers:
            answers.pop()
            raise MemoryError
        return stock

    monkeypatch.setattr(dashboard, "_import_pages", load)
    dashboard.pages_on_demand(scheduler)
    (pages,) = application.applications

    async def look() -> None:
        with pytest.raises(MemoryError):
            await pages.load_pages()
        await pages.load_pages()
        await pages.load_pages()

    asyncio.run(look())

    assert connected == [application]
