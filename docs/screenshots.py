"""Make the pictures of ``watching-a-run.md`` anew: run its flow, open the page, look. Needs playwright and Chromium.

``python docs/screenshots.py``, with daskflow and its extra ``dev`` installed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import Page, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
IMAGES = HERE / "images"
TOOL = "from daskflow.cli.tool import main; main()"
SIZE = {"width": 1280, "height": 800}


def main() -> None:
    """Make all of them."""
    with folder_called("rain") as folder:
        blocks = re.findall(
            r"^```python\n(# file: rain.py.*?)^```$",
            (HERE / "watching-a-run.md").read_text(),
            re.MULTILINE | re.DOTALL,
        )
        flow = Path(folder) / "rain.py"
        flow.write_text(blocks[0])
        run(folder, "run")
        flow.write_text(
            flow.read_text().replace("MEASURED[self.input]", "MEASURED[self.input].replace('n/a', 'nan')")
        )
        run(folder, "resume", "--origin-run-id", "1")
        ui = subprocess.Popen(
            [sys.executable, "-c", TOOL, "ui", "--port", "0"], cwd=folder, stdout=subprocess.PIPE, text=True
        )
        assert ui.stdout is not None
        try:
            shoot(ui.stdout.readline().rpartition(": ")[2].strip())
        finally:
            ui.terminate()
            ui.wait()


@contextlib.contextmanager
def folder_called(name: str) -> Iterator[str]:
    """A new folder, whose path is in the pictures."""
    folder = Path(tempfile.gettempdir(), name)
    folder.mkdir()
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder)


def run(folder: str, *words: str) -> None:
    """Carry out a command of the flow, whatever becomes of it."""
    environment = os.environ | {"DASKFLOW_USER": "ada"}
    subprocess.run([sys.executable, "rain.py", "--quiet", *words], cwd=folder, env=environment, check=False)


def shoot(address: str) -> None:
    """Take a picture of each part."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        take(page, address, "#df-runs table", "runs", height=240)
        take(page, f"{address}?flow=Rain&run=1", "#df-tasks [data-task='2']", "run")
        take(page, f"{address}?flow=Rain&run=1&step=read&task=2", "#df-traceback", "task")
        take(page, f"{address}?flow=Rain&run=2&step=add&task=0&table=table", ".df-preview td", "table")
        browser.close()


def take(page: Page, address: str, there: str, name: str, height: int | None = None) -> None:
    """A picture of what is at an address once something is there."""
    page.goto(address)
    page.wait_for_selector("body[data-ready=yes]")
    page.wait_for_selector(there)
    IMAGES.mkdir(exist_ok=True)
    clip = None if height is None else {"x": 0, "y": 0, "width": SIZE["width"], "height": height}
    page.screenshot(path=IMAGES / f"{name}.png", full_page=height is None, clip=clip)


if __name__ == "__main__":
    main()
