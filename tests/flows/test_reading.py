"""`dump` and `logs`: what a run left, on the command line."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = """
    import sys

    import pandas
    from daskflow import FlowSpec, step

    class Left(FlowSpec):
        @step
        def start(self):
            self.number, self._hidden, self.items = 5, "h", [1, 2]
            self.big, self.thing = "x" * 3000, bytearray(b"ab")
            self.mean, self.pairs = pandas.Series([1, 2]).mean(), {(1, "a"): {3}}
            self.frame = pandas.DataFrame({"column": [7, 8]})
            print("to stdout")
            print("to stderr", file=sys.stderr)
            self.next(self.work, foreach="items")

        @step
        def work(self):
            print("item", self.input)
            if self.input == 2:
                raise ValueError("not two")
            self.next(self.join)

        @step
        def join(self, inputs):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Left()
"""


@pytest.fixture(scope="module")
def place(workspace):
    made = workspace()
    made.write(SOURCE)
    assert made.call("flow.py", "run").returncode == 1
    return made


def test_dump_shows_values_but_loads_no_pickle(place):
    out = place.call("flow.py", "dump", "1/start").stdout

    assert "number [size: 1 type: int] = 5" in out
    assert "items [size: 5 type: list] = [1, 2]" in out
    assert "big [size: 3002 type: str] = < artifact too large >" in out
    assert "column" in out
    assert ".parquet" in out
    assert "type: bytearray] = < a pickle" in out
    assert "mean [size: 22 type: numpy.float64] = np.float64(1.5)" in out
    assert "= {(1, 'a'): {3}}" in out
    assert "_hidden" not in out


def test_dump_can_be_told_what_to_show(place):
    assert "bytearray(b'ab')" in place.call("flow.py", "dump", "1/start/0", "--load").stdout
    assert "x" * 3000 in place.call("flow.py", "dump", "1/start", "--max-value-size", "4000").stdout
    private = place.call("flow.py", "dump", "1/start", "--private", "--include", "_hidden,number").stdout
    assert private.splitlines()[1:] == [
        "_hidden [size: 3 type: str] = 'h'",
        "number [size: 1 type: int] = 5",
    ]
    place.call("flow.py", "dump", "1/start", "--file", "all.pickle")
    assert pickle.loads((place.folder / "all.pickle").read_bytes())["1/start/0"]["thing"] == bytearray(b"ab")


def test_dump_for_a_program_is_a_line_of_json_an_artifact_and_shortens_nothing(place):
    lines = [
        json.loads(line) for line in place.call("flow.py", "dump", "1/start", "--json").stdout.splitlines()
    ]
    found = {line.pop("name"): line for line in lines}

    assert {line.pop("task") for line in lines} == {"Left/1/start/0"}
    assert found["number"] == {"type": "int", "size": 1, "encoding": "json", "value": 5}
    assert found["big"]["value"] == "x" * 3000
    assert found["mean"]["value"] == {"$numpy.float64": 1.5}
    assert found["pairs"]["value"] == {"$dict": [[{"$tuple": [1, "a"]}, {"$set": [3]}]]}
    frame = found["frame"]
    path = frame.pop("path").removeprefix(place.store.storage.locate(""))
    assert len(place.store.read(path)) == frame.pop("size")
    assert frame == {
        "type": "pandas.DataFrame",
        "encoding": "parquet",
        "rows": 2,
        "columns": 1,
        "schema": [["column", "int64"]],
    }
    assert found["thing"]["why"] == "values of type bytearray have no other form"
    assert not {"value", "path", "repr"} & set(found["thing"])
    (loaded,) = place.call(
        "flow.py", "dump", "1/start", "--json", "--include", "thing", "--load"
    ).stdout.splitlines()
    assert json.loads(loaded)["repr"] == "bytearray(b'ab')"


def test_dump_for_a_program_can_not_be_shortened(place):
    done = place.call("flow.py", "dump", "1/start", "--json", "--max-value-size", "5")

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "Error: --json shows whole values. Leave --max-value-size out."


def test_logs_show_both_streams_and_the_failed_task_too(place):
    both = place.call("flow.py", "logs", "1/start")
    assert (both.stdout, both.stderr) == ("to stdout\n", "to stderr\n")
    assert place.call("flow.py", "logs", "show", "1/start/0", "--stdout").stderr == ""
    assert place.call("flow.py", "logs", "1/start/0", "--stderr").stdout == ""
    timed = place.call("flow.py", "logs", "1/start", "--timestamps", "--stdout").stdout
    assert timed.startswith("20")
    assert timed.endswith(" to stdout\n")
    failed = place.call("flow.py", "logs", "1/work/1", "--attempt", "0")
    assert failed.stdout == "item 2\n"
    assert "ValueError: not two" in failed.stderr
    lines = place.call("flow.py", "logs", "1/work", "--json").stdout.splitlines()
    assert {json.loads(line)["task"] for line in lines} == {"Left/1/work/0", "Left/1/work/1"}


@pytest.mark.parametrize(
    "command", [("dump", "1/nope"), ("logs", "9/start"), ("dump", "1/start/7"), ("logs", "1/work/7")]
)
def test_what_is_not_there_is_one_error_and_no_traceback(place, command):
    done = place.call("flow.py", *command)

    assert done.returncode == 1
    assert any(word in done.stderr for word in ("does not exist", "neither RUN/STEP"))
    assert "Traceback" not in done.stderr


def test_a_table_is_opened_by_its_path_in_an_environment_without_daskflow(place, tmp_path: Path):
    out = place.call("flow.py", "dump", "1/start").stdout
    (path,) = [line for line in out.split() if line.endswith(".parquet")]
    import pandas

    packages = Path(pandas.__file__).parents[1]
    for wanted in ("pandas*", "numpy*", "pyarrow*", "dateutil", "six.py", "tzdata*", "pytz*"):
        for found in packages.glob(wanted):
            (tmp_path / found.name).symlink_to(found)
    code = (
        f"import sys; sys.path.append({str(tmp_path)!r})\n"
        "import importlib.util, pandas\n"
        "assert importlib.util.find_spec('daskflow') is None\n"
        f"print(pandas.read_parquet({path!r}).column.tolist())"
    )

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout == "[7, 8]\n", done.stderr


def test_dump_shows_what_can_be_read_and_names_what_cannot(workspace):
    place = workspace()
    place.write(SOURCE)
    place.call("flow.py", "run")
    facts = map(json.loads, place.call("flow.py", "dump", "1/start", "--json").stdout.splitlines())
    (path,) = [each["path"] for each in facts if each["name"] == "frame"]
    place.store.remove(path[path.index("Left/1/") :])

    done = place.call("flow.py", "dump", "1/start")

    assert done.returncode == 1
    shown = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert shown["number"].endswith("= 5")
    assert path in shown["frame"]
    assert "Traceback" not in done.stderr
