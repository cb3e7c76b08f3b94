"""What passes from step to step, and what a join makes of it."""

from __future__ import annotations

from pathlib import Path

from tests.flows.test_transitions import flow

JOIN = '''
class F(FlowSpec):
    """Three branches, merged in several ways; what goes wrong is kept as text."""
    C = [1, 2]

    @step
    def start(self):
        self.same, self._private, self.untouched = "same", "private", {"deep": [1]}
        self.next(self.a, self.b, self.c)

    @step
    def a(self):
        self.x, self.only_a, self.both = 1, "a", [1]
        self.untouched
        self.next(self.join)

    @step
    def b(self):
        self.x, self.both = 2, [1]
        self.untouched["deep"].append(2)
        self.next(self.join)

    @step
    def c(self):
        self.x = 3
        self.untouched["deep"].append(2)
        self.next(self.join)

    @step
    def join(self, inputs):
        from daskflow.errors import (MergeArtifactsException, MissingInMergeArtifactsException,
                                     UnhandledInMergeArtifactsException)
        self.order = [i.x for i in inputs], len(inputs), inputs[-1].x, [i.x for i in inputs[:2]], inputs.b.x
        self.nothing = hasattr(self, "same"), hasattr(self, "x")
        inputs[0].x = 99
        inputs[0].both.append(2)
        errors = []
        for keywords in ({}, {"include": ["x"]}, {"include": ["none"]}, {"include": ["same"], "exclude": ["x"]}):
            try:
                self.merge_artifacts(inputs, **keywords)
            except (UnhandledInMergeArtifactsException, MissingInMergeArtifactsException) as error:
                errors.append((type(error).__name__, sorted(error.artifact_names)))
            except MergeArtifactsException as error:
                errors.append(type(error).__name__)
        self.set_by_a_failed_merge = hasattr(self, "same")
        self.errors = errors
        self.x = max(i.x for i in inputs if i.x < 99)
        self.merge_artifacts(inputs, exclude=["untouched"])
        self.next(self.end)

    @step
    def end(self):
        self.last = self.x, self.same, self._private, self.only_a, self.both, hasattr(self, "untouched"), self.C
'''


def test_a_join_takes_over_what_its_inputs_agree_on(run_flow):
    done = run_flow(flow(JOIN))

    assert done.value("end", "order") == ([1, 2, 3], 3, 3, [1, 2], 2)
    assert done.value("end", "nothing") == (False, False)
    assert done.value("end", "errors") == [
        ("UnhandledInMergeArtifactsException", ["untouched", "x"]),
        ("UnhandledInMergeArtifactsException", ["x"]),
        ("MissingInMergeArtifactsException", ["none"]),
        "MergeArtifactsException",
    ]
    assert done.value("end", "set_by_a_failed_merge") is False
    assert done.value("end", "last") == (3, "same", "private", "a", [1], False, [1, 2])


ARTIFACTS = '''
import math

class Point:
    def __init__(self, x):
        self.x = x
    def __eq__(self, other):
        return type(other) is Point and other.x == self.x
    __hash__ = None

class F(FlowSpec):
    """What artifacts there can be, and what changes them."""
    LIMIT = 3
    TABLE = {"k": [1]}
    helper = staticmethod(len)
    _hidden = "class"

    @property
    def doubled(self):
        return self.number * 2

    def method(self):
        return self.number + 1

    @step
    def start(self):
        self.number, self.nothing, self.text, self.big = 21, None, "caf\\u00e9", list(range(20_000))
        self.function, self.point, self.points = (lambda x: x + self_free), Point(1), [Point(2), Point(3)]
        self.shared = self.alias = [1]
        self.mutated, self.read, self.gone = {"a": 1}, {"b": {2, 3}}, "still here"
        self.odd = float("nan"), b"bytes", 10**30, {1: 2}
        errors = []
        for name, value in (("LIMIT", 4), ("doubled", 1), ("index", 1), ("input", 1)):
            try:
                setattr(self, name, value)
            except AttributeError as error:
                errors.append((name, name in str(error)))
        self.errors = errors
        self.TABLE["k"].append(2)
        self.local = self.TABLE["k"]
        self.next(self.middle)

    @step
    def middle(self):
        self.mutated["c"] = 3
        self.read["b"]
        self.shared.append(2)
        self.gone
        del self.gone
        self.called = self.function(1), self.method(), self.doubled, self.point == Point(1), type(self.points[0]) is Point
        self.table = self.TABLE["k"]
        try:
            self.missing
        except AttributeError as error:
            self.why = str(error)
        self.next(self.end)

    @step
    def end(self):
        self.after = (self.mutated, self.shared, self.alias, self.gone, self.nothing, self.text, len(self.big),
                      self.helper("abc"), self.LIMIT, math.isnan(self.odd[0]), self.odd[1:])

self_free = 10
'''


def test_artifacts_pass_as_they_are_and_changes_in_place_are_kept(run_flow):
    done = run_flow(flow(ARTIFACTS))

    assert done.value("start", "errors") == [(n, True) for n in ("LIMIT", "doubled", "index", "input")]
    assert done.value("start", "local") == [1, 2]
    assert done.value("end", "table") == [1]
    assert done.value("end", "called") == (11, 22, 42, True, True)
    assert "missing" in done.value("end", "why")
    assert done.value("end", "after") == (
        {"a": 1, "c": 3},
        [1, 2],
        [1],
        "still here",
        None,
        "caf\u00e9",
        20_000,
        3,
        3,
        True,
        (b"bytes", 10**30, {1: 2}),
    )
    start, middle = done.record("start"), done.record("middle")
    for untouched in ("read", "big", "points", "function", "gone"):
        assert middle.artifacts[untouched].hash == start.artifacts[untouched].hash
        assert middle.artifacts[untouched].path == start.artifacts[untouched].path
    assert middle.artifacts["mutated"].hash != start.artifacts["mutated"].hash
    assert "LIMIT" in done.run().parameters().artifacts


FRAME = """
import numpy, pandas, polars, pyarrow

class F(FlowSpec):
    @step
    def start(self):
        self.frame = pandas.DataFrame({"a": numpy.arange(100_000), "b": ["x", "y"] * 50_000})
        self.polars = polars.DataFrame({"a": [1, 2]})
        self.arrow = pyarrow.table({"a": [1, 2]})
        self.series = pandas.Series([1.5], name="s")
        self.odd = pandas.DataFrame({1: [1], "1": [2]})
        self.next(self.read)

    @step
    def read(self):
        self.total = int(self.frame["a"].sum())
        self.types = [type(x).__module__.split(".")[0] + "." + type(x).__name__
                      for x in (self.frame, self.polars, self.arrow, self.series, self.odd)]
        self.next(self.change)

    @step
    def change(self):
        self.frame.loc[0, "a"] = -1
        self.next(self.end)

    @step
    def end(self):
        self.first = int(self.frame["a"].iloc[0])
"""


def test_a_frame_is_parquet_and_only_reading_it_writes_nothing(run_flow):
    import pandas as pd

    done = run_flow(flow(FRAME))

    assert done.value("end", "total") == 4999950000
    assert done.value("end", "first") == -1
    assert done.value("end", "types") == [
        "pandas.DataFrame",
        "polars.DataFrame",
        "pyarrow.Table",
        "pandas.Series",
        "pandas.DataFrame",
    ]
    start, read, change = (done.record(step) for step in ("start", "read", "change"))
    storage = done.run().storage
    assert read.artifacts["frame"] == start.artifacts["frame"]
    assert sorted(storage.names("F/1/read/0")) == ["task.json"]
    assert change.artifacts["frame"].path != start.artifacts["frame"].path
    assert change.artifacts["polars"].path == start.artifacts["polars"].path
    assert {start.artifacts[n].encoding for n in ("frame", "polars", "arrow", "series")} == {"parquet"}
    assert start.artifacts["odd"].encoding == "pickle"
    assert start.artifacts["odd"].info["why"]
    path = storage.locate(start.artifacts["frame"].path)
    assert Path(path).suffix == ".parquet"
    assert pd.read_parquet(path)["a"].sum() == 4999950000


REFUSED = """
import threading

class F(FlowSpec):
    @step
    def start(self):
        self.good = 1
        self.bad = threading.Lock()
        self.frame = __import__("pandas").DataFrame({"a": [1]})
        self.next(self.end)
    @step
    def end(self):
        pass
"""


def test_what_cannot_be_stored_is_named_and_the_rest_is_kept(run_flow):
    done = run_flow(flow(REFUSED), expect=1)

    failed = done.failed("start")
    assert failed.error["exception"].startswith("Cannot pickle artifact 'bad'")
    assert {"good", "frame"} <= set(failed.artifacts)
    assert "artifact 'bad'" in done.stdout
    assert "Traceback" not in done.text


def test_a_flow_cannot_be_an_artifact(run_flow):
    for what in ("self", "inputs[0]", "[inputs[1]]"):
        source = f"""
class F(FlowSpec):
    @step
    def start(self):
        self.next(self.a, self.b)
    @step
    def a(self):
        self.next(self.j)
    @step
    def b(self):
        self.next(self.j)
    @step
    def j(self, inputs):
        self.x = {what}
        self.next(self.end)
    @step
    def end(self):
        pass
"""
        done = run_flow(flow(source), expect=1)
        assert "Flows can't be serialized" in done.failed("j").error["exception"]
