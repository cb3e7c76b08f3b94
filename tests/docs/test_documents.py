"""What the documents show is run, in order, as a reader would run it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from s3server import Bucket

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "docs/tutorial.md", "docs/artifacts.md", "docs/how-a-run-works.md", "docs/tags.md"]
DOCUMENTS += [
    "docs/when-something-fails.md",
    "docs/resume-and-continue.md",
    "docs/debugging.md",
    "docs/decorators.md",
    "docs/wide-foreach.md",
    "docs/tables.md",
    "docs/settings.md",
    "docs/where-your-data-is.md",
    "docs/larger-than-memory.md",
    "docs/watching-a-run.md",
    "docs/other-clusters.md",
    "docs/requirements.md",
]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT = "(Pdb) "
"""What stands after it is typed."""


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DASKFLOW_", "XDG_"))}
    return kept | {"PYTHONPATH": str(ROOT), "HOME": str(folder), "DASKFLOW_USER": "reader"}


def run(command: list[str], folder: Path, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )


def matches(expected: str, output: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return any(re.fullmatch(pattern, line.removeprefix(PROMPT).strip()) for line in output.splitlines())


def follow_console(block: str, folder: Path) -> None:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *expected = part.rstrip("\n").split("\n")
        words = shlex.split(command, comments=True)
        if words[0] == "make":  # covered by the continuous integration itself
            continue
        start = {"python": [], "daskflow": ["-c", "from daskflow.cli.tool import main; main()"]}[words[0]]
        typed = "".join(line.removeprefix(PROMPT) + "\n" for line in expected if line.startswith(PROMPT))
        done = run([sys.executable, *start, *words[1:]], folder, typed)
        assert (done.returncode != 0) == command.endswith("# fails"), f"{command}\n{done.stdout}"
        for line in (line for line in expected if not line.startswith(PROMPT)):
            assert matches(line, done.stdout), f"{command}: no line like {line!r} in\n{done.stdout}"


def follow(document: str, folder: Path) -> None:
    """Do what a document says."""
    blocks = BLOCK.findall((ROOT / document).read_text())

    assert blocks
    for language, block in blocks:
        if language == "console":
            follow_console(block, folder)
        elif block.startswith("# file: "):
            (folder / block.split()[2]).write_text(block)
        else:
            done = run([sys.executable, "-c", block], folder)
            assert done.returncode == 0, f"{block}\n{done.stdout}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_does_what_it_says(document: str, tmp_path: Path):
    for example in (ROOT / "examples").glob("*.py"):
        shutil.copy(example, tmp_path)

    follow(document, tmp_path)


def test_the_document_of_s3_does_what_it_says(bucket: Bucket, tmp_path: Path):
    bucket.client.create_bucket(Bucket="my-bucket")

    follow("docs/s3.md", tmp_path)
