"""``daskflow code``: what a run was made with, and what changed since."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

TOOL = "from daskflow.cli.tool import main; main()"
FLOW = """
    from daskflow import FlowSpec, step

    import helper


    class F(FlowSpec):
        @step
        def start(self):
            self.x = helper.ONE
            self.next(self.end)

        @step
        def end(self):
            pass


    if __name__ == "__main__":
        F()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run 1 with ``ONE = 1``, run 2 with 2; the file says 3 now."""
    folder = tmp_path_factory.mktemp("flow")
    (folder / "flow.py").write_text(textwrap.dedent(FLOW))
    for one in (1, 2):
        (folder / "helper.py").write_text(f"ONE = {one}\n")
        command = [sys.executable, "flow.py", "--datastore", "store", "run"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=90)
    (folder / "helper.py").write_text("ONE = 3\n")
    return folder


def code(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", TOOL, "code", *words, "--datastore", "store"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_the_sources_of_a_run_are_shown_as_they_were(folder: Path):
    shown = code(folder, "F/1").stdout
    data = json.loads(code(folder, "F/1", "--json").stdout)

    assert "# helper.py\nONE = 1\n" in shown
    assert data == {"flow.py": textwrap.dedent(FLOW), "helper.py": "ONE = 1\n"}


@pytest.mark.parametrize(("other", "before"), [("F/1", "ONE = 1"), (".", "ONE = 3")])
def test_what_changed_from_another_run_or_a_folder_is_shown(folder: Path, other: str, before: str):
    done = code(folder, "F/2", "--diff", other)

    assert done.stdout.splitlines() == [
        f"--- {other}/helper.py",
        "+++ F/2/helper.py",
        "@@ -1 +1 @@",
        f"-{before}",
        "+ONE = 2",
    ]


def test_files_that_only_one_side_has_are_shown_whole(folder: Path, tmp_path: Path):
    (tmp_path / "flow.py").write_text(textwrap.dedent(FLOW).replace("import helper", "import helper, fresh"))
    (tmp_path / "fresh.py").write_text("TWO = 2\n")
    (tmp_path / "of_another_flow.py").touch()

    done = code(folder, "F/1", "--diff", str(tmp_path))

    assert done.stdout.splitlines()[:5] == [
        f"--- {tmp_path}/flow.py",
        "+++ F/1/flow.py",
        "@@ -1,7 +1,7 @@",
        " ",
        " from daskflow import FlowSpec, step",
    ]
    assert done.stdout.splitlines()[-8:] == [
        f"--- {tmp_path}/fresh.py",
        "+++ /dev/null",
        "@@ -1 +0,0 @@",
        "-TWO = 2",
        "--- /dev/null",
        "+++ F/1/helper.py",
        "@@ -0,0 +1 @@",
        "+ONE = 1",
    ]
    assert "of_another_flow" not in done.stdout


def test_the_sources_are_written_where_nothing_is_lost(folder: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    done = [code(folder, "F/1", "--save", str(tmp_path / name)) for name in ("new", "deep/new", "empty")]
    again = code(folder, "F/2", "--save", str(tmp_path / "new"))

    for each in (tmp_path / name for name in ("new", "deep/new", "empty")):
        assert {file.name for file in each.iterdir()} == {"flow.py", "helper.py"}
        assert (each / "helper.py").read_text() == "ONE = 1\n"
    assert [each.returncode for each in done] == [0, 0, 0]
    assert again.returncode == 1
    assert "is not empty, or is the folder you are in. Choose one that is empty" in again.stderr


def test_sources_that_can_not_all_be_written_leave_nothing(folder: Path, tmp_path: Path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # as on a full disk: one file is longer

    (tmp_path / "file").touch()
    command = [sys.executable, "-c", TOOL, "code", "F/1", "--datastore", str(folder / "store"), "--save"]
    options = {"capture_output": True, "text": True, "timeout": 60, "check": False, "cwd": tmp_path}
    full = subprocess.run([*command, "new"], preexec_fn=limit, **options)
    below_a_file = subprocess.run([*command, "file/new"], **options)

    assert full.returncode == below_a_file.returncode == 1
    assert "The files can't be written to new: File too large." in full.stderr
    assert "The files can't be written to file/new: Not a directory." in below_a_file.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["F/9"], "F/9"),
        (["G/1"], "G/1"),
        (["F/1", "--diff", "F/8"], "There is no folder F/8; and as a run: "),
        (["F/1", "--diff", "nodir"], "--diff takes a folder or a run. There is no folder nodir"),
        (["F/1", "--diff", "F/2", "--json"], "exclude one another"),
    ],
)
def test_what_is_not_there_is_one_error(folder: Path, words: list[str], told: str):
    done = code(folder, *words)

    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr
