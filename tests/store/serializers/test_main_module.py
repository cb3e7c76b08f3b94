"""Classes of the flow file: the same class in later steps, and readable where there is no flow file."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

SHARED = """
import json, pathlib, sys
from daskflow.store.serializers import decode, encode

def store(value, name):
    path = pathlib.Path(name + ".bin")
    with path.open("wb") as file:
        encoded = encode(value, lambda suffix: file)
    record = {"info": encoded.info, "inline": encoded.inline, "encoding": encoded.encoding}
    pathlib.Path(name + ".json").write_text(json.dumps(record))
    return encoded

def load(name):
    record = json.loads(pathlib.Path(name + ".json").read_text())
    path = pathlib.Path(name + ".bin")
    return decode(record["encoding"], record["info"], record["inline"], lambda: path.open("rb"))
"""

DEFINITIONS = """
__daskflow_code__ = "code-1"

import dataclasses, enum, threading

SCALE = 10

class Base:
    def kind(self):
        return type(self).__name__

class Point(Base):
    class Unit:
        meters = 1

    def __init__(self, x):
        self.x = x

    def scaled(self):
        return Point(self.x * SCALE)

class Color(enum.Enum):
    RED = 1
    BLUE = 2

@dataclasses.dataclass(frozen=True)
class Line:
    start: Point
    color: Color

def double(x):
    return 2 * x

LOCK = threading.Lock()

class Locked:
    def __init__(self):
        self.n = 1
    def use(self):
        with LOCK:
            return self.n

TABLE = bytearray(2_000_000)

class UsesLargeGlobal:
    def size(self):
        return len(TABLE)

class Singleton:
    def __reduce__(self):
        return "ONLY"

ONLY = Singleton()
"""

WRITE = """
store(Point(1), "point")
store([Point(i) for i in range(20_000)], "many")
store(Line(Point(2), Color.RED), "line")
store(Color.BLUE, "color")
store({"f": double, "g": lambda x: Point(x)}, "functions")
store(Point.Unit, "nested")
store(Locked(), "locked")
store([Point(1), Locked()], "mixed")
store(UsesLargeGlobal(), "large")
store(ONLY, "singleton")
"""


def run(folder: Path, *parts: str) -> None:
    """Run a program of these parts as ``__main__`` in ``folder``; its assertions are the test's."""
    source = SHARED + "".join(map(textwrap.dedent, parts))
    (folder / "program.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with values that a step stored."""
    folder = tmp_path_factory.mktemp("stored")
    run(folder, DEFINITIONS, WRITE)
    return folder


def test_in_a_later_step_a_value_is_of_the_flow_files_own_class(stored: Path) -> None:
    run(
        stored,
        DEFINITIONS,
        """
        assert type(load("point")) is Point
        assert type(load("many")[-1]) is Point and load("many")[-1].x == 19_999
        assert load("line").color is Color.RED and type(load("line")) is Line
        assert load("color") is Color.BLUE
        assert load("functions")["f"] is double
        assert type(load("functions")["g"](1)) is Point
        assert load("nested") is Point.Unit
        assert load("locked").use() == 1
        assert load("large").size() == 2_000_000
        assert load("singleton") is ONLY
        """,
    )


def test_elsewhere_a_value_is_of_one_class_however_often_it_is_loaded(stored: Path) -> None:
    run(
        stored,
        """
        class Point: "Another one, of the same name."

        point, again = load("point"), load("point")
        assert type(point) is type(again) is not Point
        assert type(load("many")[0]) is type(point)
        line = load("line")
        assert type(line.start) is type(point)
        assert point.kind() == "Point" and point.scaled().x == 10
        assert type(point.scaled()) is type(point)
        assert line.color is type(load("color")).RED
        assert load("color").value == 2
        functions = load("functions")
        assert functions["f"](4) == 8
        assert type(functions["g"](3)).__name__ == "Point"
        assert load("nested").meters == 1
        """,
    )


def test_threads_that_load_at_once_get_one_complete_class(stored: Path) -> None:
    run(
        stored,
        """
        from concurrent.futures import ThreadPoolExecutor

        sys.setswitchinterval(1e-5)
        with ThreadPoolExecutor(8) as pool:
            points = list(pool.map(lambda _: load("point").scaled(), range(64)))
        assert len(set(map(type, points))) == 1
        assert {point.kind() for point in points} == {"Point"}
        """,
    )


def test_a_class_that_no_other_program_can_have_is_named_where_it_is_missed(stored: Path) -> None:
    run(
        stored,
        """
        from daskflow.errors import DataException

        def refusal(name):
            try:
                load(name)
            except DataException as error:
                return str(error)
            raise AssertionError(name)

        assert "'Locked' of the flow file" in refusal("locked")
        assert "cannot pickle '_thread.lock' object" in refusal("locked")
        assert "move 'Locked' to a module" in refusal("mixed")
        assert "takes more than 1,048,576 bytes" in refusal("large")
        assert "'ONLY'" in refusal("singleton")
        """,
    )


def test_versions_of_a_flow_keep_their_classes_apart_in_one_process(tmp_path: Path) -> None:
    changed = DEFINITIONS.replace("code-1", "code-2").replace("SCALE = 10", "SCALE = 100")
    run(tmp_path, DEFINITIONS, 'store(Point(1), "old")')
    run(tmp_path, changed, 'store(Point(1), "new")')

    run(
        tmp_path,
        """
        old, new = load("old"), load("new")
        assert type(old) is not type(new)
        assert (old.scaled().x, new.scaled().x) == (10, 100)
        """,
    )


FLOW = """
from daskflow import FlowSpec, step

class PointFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass
"""


def test_the_corrected_code_of_a_flow_sees_its_own_class_in_values_of_the_older_code(tmp_path: Path) -> None:
    run(tmp_path, DEFINITIONS, FLOW, 'store(Point(1), "point")')
    corrected = DEFINITIONS.replace("code-1", "code-2").replace("SCALE = 10", "SCALE = 100")

    run(
        tmp_path,
        corrected,
        FLOW,
        'point = load("point"); assert type(point) is Point; assert point.scaled().x == 100',
    )
    run(
        tmp_path,
        corrected,
        FLOW.replace("PointFlow", "OtherFlow"),
        'point = load("point"); assert type(point) is not Point; assert point.scaled().x == 10',
    )


def test_a_value_of_the_flow_files_class_has_one_identity_in_all_processes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(
            tmp_path,
            DEFINITIONS,
            f'open("{name}", "w").write(store([Point(1), Color.RED, double], "x").hash)',
        )

    assert (tmp_path / "one").read_text() == (tmp_path / "two").read_text()


def test_a_program_that_is_no_flow_is_no_home_for_values_of_another_one(tmp_path: Path) -> None:
    plain = DEFINITIONS.replace('__daskflow_code__ = "code-1"', "")
    run(tmp_path, plain, 'store(Point(1), "point"); assert type(load("point")) is Point')

    run(
        tmp_path,
        """
        class Point: "Another one, of the same name."

        assert type(load("point")) is not Point
        assert load("point").scaled().x == 10
        """,
    )
