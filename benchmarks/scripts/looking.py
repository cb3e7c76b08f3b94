"""How long a browser takes until it shows something of a store: `python looking.py STORE QUERY SELECTOR`.

A new `daskflow ui` each time. Prints `paint=MILLISECONDS` until the first words are seen, `there=SECONDS` until the selector is.
"""

import shutil
import subprocess
import sys
import time

from playwright.sync_api import sync_playwright

TOOL = "from daskflow.cli.tool import main; main()"
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1"

store, query, selector = sys.argv[1:]
program = shutil.which("chromium") or shutil.which("google-chrome")
with sync_playwright() as started:
    browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    words = [sys.executable, "-c", TOOL, "ui", "--datastore", store, "--port", "0"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().rpartition(": ")[2].strip()
        began = time.perf_counter()
        page.goto(address + query)
        page.wait_for_selector(selector, timeout=60_000)
        there = time.perf_counter() - began
        paint = page.evaluate(PAINT)
    finally:
        server.terminate()
        server.wait()
    browser.close()
print(f"paint={paint}")
print(f"there={there}")
