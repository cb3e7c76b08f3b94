"""A run executes the snapshot of its code, whatever is edited meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daskflow.errors import StoreError
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from daskflow.task import code as task_code

if TYPE_CHECKING:
    from tests.task.conftest import Bench

PACKAGE_ROOT = str(Path(__file__).parents[2])


def test_edits_after_the_start_change_nothing(bench: Bench):
    files = {"helper.py": "VALUE = 'old'\ndef fail():\n    raise ValueError('in the helper')  # old line\n"}
    run = bench.run_of(
        """
        import inspect, lazy.part
        import helper
        self.seen = (helper.VALUE, lazy.part.VALUE, inspect.getsource(helper.fail).splitlines()[1].strip())
        helper.fail()
        self.next(self.end)
        """,
        files=files | {"lazy/part.py": "VALUE = 'old too'"},
    )
    for name in ("flow.py", "helper.py", "lazy/part.py"):
        (bench.folder / name).write_text("VALUE = 'new'\n" * 5)

    ran = bench.execute(run)

    assert ran.artifact("seen") == ("old", "old too", "raise ValueError('in the helper')  # old line")
    assert any("# old line" in line for line in ran.stderr)


def test_a_module_from_another_entry_of_the_path_is_of_the_snapshot_too(bench: Bench):
    run = bench.run_of(
        """
        import sys, os
        sys.path.append(os.path.abspath("lib"))
        import tool
        self.seen = (tool.VALUE, tool.__file__)
        self.next(self.end)
        """,
        files={"lib/tool.py": "VALUE = 'old'"},
    )
    (bench.folder / "lib" / "tool.py").write_text("VALUE = 'new'")

    ran = bench.execute(run)

    assert ran.artifact("seen") == ("old", str(bench.folder / "lib" / "tool.py"))


def test_a_built_in_module_is_not_replaced_by_a_local_file_of_its_name(bench: Bench):
    ran = bench("import errno\nself.seen = errno.ENOENT", files={"errno.py": "ENOENT = 'local'"})

    assert ran.artifact("seen") == 2


def test_a_namespace_package_may_have_parts_elsewhere(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    other = bench.folder / "elsewhere"
    (other / "shared" / "there").mkdir(parents=True)
    (other / "shared" / "there" / "part.py").write_text("VALUE = 'there'")
    monkeypatch.setenv("PYTHONPATH", f"{other}:{PACKAGE_ROOT}")

    ran = bench(
        "import shared.here, shared.there.part\nself.seen = (shared.here.VALUE, shared.there.part.VALUE)",
        files={"shared/here.py": "VALUE = 'here'"},
    )

    assert ran.artifact("seen") == ("here", "there"), ran.stderr


def test_data_beside_a_module_can_be_read_as_a_resource(bench: Bench):
    (bench.folder / "pack").mkdir()
    (bench.folder / "pack" / "words.txt").write_text("words")

    ran = bench(
        """
        import importlib.resources, pkgutil
        self.seen = (importlib.resources.files("pack").joinpath("words.txt").read_text(),
                     pkgutil.get_data("pack", "words.txt").decode())
        """,
        files={"pack/__init__.py": ""},
    )

    assert ran.artifact("seen") == ("words", "words"), ran.stderr


def test_a_module_that_was_deleted_can_still_be_imported(bench: Bench):
    run = bench.run_of(
        "import package.late\nself.seen = package.late.VALUE\nself.next(self.end)",
        files={"package/__init__.py": "", "package/late.py": "VALUE = 'kept'"},
    )
    import shutil

    shutil.rmtree(bench.folder / "package")

    assert bench.execute(run).artifact("seen") == "kept"


def test_a_snapshot_that_was_changed_by_hand_is_not_run(bench: Bench):
    run = bench.run_of("self.next(self.end)")
    store = RunStore(storage_at(run.store), "F", run.run)
    place = bench.folder / "store" / store.layout.code("flow.py")
    place.write_text("# changed")

    with pytest.raises(StoreError, match="changed by hand"):
        task_code.load(store)


def test_a_flow_that_cannot_be_loaded_is_an_error_with_its_traceback(auto_bench: Bench):
    from daskflow.task.execute import execute
    from tests.task.conftest import Heard

    run = auto_bench.run_of("pass", header="raise RuntimeError('no such luck')")
    result = execute(auto_bench.spec(run), Heard(), auto_bench.launchers)

    assert result.status == "failed"
    assert "no such luck" in result.error[1]
    assert 'flow.py", line ' in result.error[1]
    assert "zygote.py" not in result.error[1], "frames of ours"


def test_a_module_that_the_flow_makes_imports_and_removes_is_no_part_of_its_code(tmp_path: Path):
    (tmp_path / "flow.py").write_text(
        """
import os
from daskflow import FlowSpec, step
open("made.py", "w").write("VALUE = 1")
import made
os.remove("made.py")

class F(FlowSpec):
    @step
    def start(self):
        self.value = made.VALUE

if __name__ == "__main__":
    F()
"""
    )
    ran = subprocess.run(
        [sys.executable, "flow.py", "run", "--no-dashboard"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": PACKAGE_ROOT},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert RunStore(storage_at(str(tmp_path / ".daskflow")), "F", 1).code()["files"].keys() == {"flow.py"}


MODULE = """
import warnings
from . import sibling
from .deep.inner import VALUE
from daskflow import FlowSpec, step


class F(FlowSpec):
    @step
    def start(self):
        import sys, __main__
        from .late import LATE
        self.seen = [sibling.NAME, VALUE, LATE, __main__.__spec__.name, __package__]
        self.flags = (sys.flags.optimize, sys.flags.utf8_mode, sys.warnoptions)
        assert False, "python -O takes this away"
        self.next(self.end)

    @step
    def end(self):
        import multiprocessing
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print("spawned:", pool.map(sibling.double, [21]))
        print("seen:", self.seen, self.flags)


if __name__ == "__main__":
    F()
"""


@pytest.mark.parametrize("launcher", ["fork", "fresh"])
def test_a_flow_may_be_a_module_of_a_package_run_with_interpreter_flags(tmp_path: Path, launcher: str):
    package = tmp_path / "pack"
    (package / "deep").mkdir(parents=True)  # a namespace package
    for name, text in {
        "__init__.py": "",
        "flow.py": MODULE,
        "sibling.py": "NAME = 'sibling'\ndef double(x):\n    return 2 * x\n",
        "late.py": "LATE = 'late'",
        "deep/inner.py": "VALUE = 'inner'",
    }.items():
        (package / name).write_text(textwrap.dedent(text))

    done = subprocess.run(
        [sys.executable, "-O", "-X", "utf8", "-W", "ignore::ImportWarning", "-m", "pack.flow", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"DASKFLOW_LAUNCHER": launcher, "PYTHONPATH": PACKAGE_ROOT},
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "spawned: [42]" in done.stdout
    expected = "seen: ['sibling', 'inner', 'late', 'pack.flow', 'pack'] (1, 1, ['ignore::ImportWarning'])"
    assert expected in done.stdout, done.stdout


LINKED = """
from daskflow import FlowSpec, step
import beside


class F(FlowSpec):
    @step
    def start(self):
        import beside_and_late
        print("seen:", beside.VALUE, beside_and_late.VALUE)


if __name__ == "__main__":
    F()
"""


@pytest.mark.parametrize("launcher", ["fork", "fresh"])
def test_a_flow_file_that_is_a_link_has_the_modules_beside_the_real_file(tmp_path: Path, launcher: str):
    real = tmp_path / "real"
    real.mkdir()
    (real / "flow.py").write_text(LINKED)
    (real / "beside.py").write_text("VALUE = 'beside'")
    (real / "beside_and_late.py").write_text("VALUE = 'late'")
    (tmp_path / "link.py").symlink_to(real / "flow.py")

    done = subprocess.run(
        [sys.executable, "link.py", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ
        | {
            "DASKFLOW_LAUNCHER": launcher,
            "PYTHONPATH": PACKAGE_ROOT,
            "DASKFLOW_DATASTORE": str(tmp_path / "store"),
        },
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "seen: beside late" in done.stdout
    files = RunStore(storage_at(str(tmp_path / "store")), "F", "1").record()["code"]["files"]
    assert set(files) == {"flow.py", "beside.py", "beside_and_late.py"}
