"""Stores with runs in them, a server that shows them, and a real browser that looks."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from pages import SIZES, Look, Ui, ran, ui_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def troubles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which one run of the flow failed, and one, of which items shared processes, did not."""
    store = tmp_path_factory.mktemp("troubles") / "store"
    failed = ran(store, "--isolate", "--tag", "<u>night</u>")
    successful = ran(store, "--worst", "99")
    assert (failed.returncode, successful.returncode) == (1, 0)
    return store


@pytest.fixture(scope="session")
def troubles_ui(troubles: Path) -> Iterator[Ui]:
    with ui_of(troubles) as found:
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Gone with the tests that need it: beside its event loop no other can run in this thread."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "The tests of the page need a browser: apt-get install chromium."
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def look(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Look]:
    """A page of 1280 x 800, unless the test names another size or scheme."""
    size, scheme = getattr(request, "param", (SIZES[0], "light"))
    context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    found = Look(context.new_page())
    yield found
    context.close()
    assert found.errors == []
