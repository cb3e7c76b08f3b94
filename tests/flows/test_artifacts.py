"""What a step sets on ``self``, and what later steps find there."""

from __future__ import annotations

import pytest

ARTIFACTS = """
    import enum
    import functools
    from collections import namedtuple
    from dataclasses import dataclass, field

    import numpy as np
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from daskflow import FlowSpec, Parameter, step

    class Model:
        def __init__(self, weights):
            self.weights = weights

        def predict(self, x):
            return sum(w * x for w in self.weights)

    @dataclass
    class Score:
        name: str
        values: list = field(default_factory=list)

    class Colour(enum.Enum):
        RED = 1

    Point = namedtuple("Point", "x y")

    def double(x):
        return 2 * x

    def error_of(call):
        try:
            call()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "no error"

    class Artifacts(FlowSpec):
        p = Parameter("p", default=3)
        CONSTANT = {"k": [1]}
        NUMBER = 7
        _HIDDEN = "class value"

        class Nested:
            pass

        @property
        def computed(self):
            return self.n * 2

        @functools.cached_property
        def cached(self):
            return object, self.n * 3

        @property
        def failing(self):
            return self.never_set_by_anyone

        @staticmethod
        def helper(x):
            return x + 1

        @classmethod
        def maker(cls):
            return cls.__name__

        def method(self):
            return self.n + self.NUMBER

        @step
        def start(self):
            self.n = 5
            self.text = "ü" * 20_000
            self.nothing = None
            self._private = [1]
            self.mutable = [1, 2]
            self.untouched = list(range(10_000))
            self.removed = "inherited"
            self.squares = lambda x: x * x + self_free
            self.function = double
            self.partial = functools.partial(double, 4)
            self.model = Model([1, 2])
            self.score = Score("a", [1.5])
            self.colour = Colour.RED
            self.point = Point(1, 2)
            self.kind = Model
            self.same = self.other = {"shared": []}
            self.bound = self.method
            self.called = self.bound() + self.cached[1]
            self.parameter = type(self).p
            self.pandas = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=pd.Index([3, 4], name="i"))
            self.series = pd.Series([1.5, 2.5], name="s")
            self.polars = pl.DataFrame({"a": [1, 2]})
            self.arrow = pa.table({"a": [1, 2]})
            self.array = np.arange(300_000)
            self.set_errors = [
                error_of(lambda: setattr(self, name, 1)) for name in ("CONSTANT", "p", "computed", "index", "input", "name")
            ]
            self.del_errors = [error_of(lambda: delattr(self, name)) for name in ("CONSTANT", "p", "never_set")]
            self.CONSTANT["k"].append("mutated here")
            self.constant_here = self.CONSTANT
            self.next(self.second)

        @step
        def second(self):
            self.uses = [
                self.squares(3), self.function(4), self.partial(), self.model.predict(2), self.computed,
                self.method(), self.helper(1), self.maker(), self.name,
            ]
            self.types = [
                type(self.model) is Model, type(self.score) is Score and self.score == Score("a", [1.5]),
                self.colour is Colour.RED, type(self.point) is Point, self.kind is Model,
                type(self.pandas) is pd.DataFrame, type(self.series) is pd.Series, type(self.polars) is pl.DataFrame,
                type(self.arrow) is pa.Table, type(self.array) is np.ndarray and bool((self.array == np.arange(300_000)).all()),
            ]
            self.mutable.append(3)
            self.same["shared"].append(1)
            self.independent = self.other["shared"] == []
            self.has = {n: hasattr(self, n) for n in ("nothing", "parameter", "bound", "Nested", "computed")}
            self.constant_next = self.CONSTANT
            self.missing = error_of(lambda: self.no_such_thing)
            self.failed_property = error_of(lambda: self.failing)
            self.removed = "changed"
            del self.removed
            self.after_del = self.removed
            self.mutable_copy = self.mutable
            del self.mutable
            self.mutable_again = self.mutable
            del self.text
            self.text_length = len(self.text)
            self.pandas_ok = self.pandas.index.name == "i" and self.pandas.b.tolist() == ["x", None]
            self.next(self.third)

        @step
        def third(self):
            self.model.weights.append(3)
            self.mutable.append(4)
            self.pandas.iloc[0, 0] = -1
            self.next(self.end)

        @step
        def end(self):
            self.final = (self.model.predict(1), self.mutable, self.removed, self._private, self.nothing)

    self_free = 1

    if __name__ == "__main__":
        Artifacts()
"""


@pytest.fixture(scope="module")
def artifacts(run_flow):
    return run_flow(ARTIFACTS)


def test_functions_classes_and_objects_of_the_flow_file_are_artifacts(artifacts):
    assert artifacts.value("second", "uses") == [10, 8, 8, 6, 10, 12, 2, "Artifacts", "Artifacts"]
    assert artifacts.value("second", "types") == [True] * 10


def test_properties_bound_methods_and_parameters_are_none(artifacts):
    assert artifacts.value("start", "called") == 12 + 15
    assert artifacts.value("second", "has") == {
        "nothing": True,
        "parameter": False,
        "bound": False,
        "Nested": True,
        "computed": True,
    }
    assert not artifacts.names("start") & {
        "bound",
        "parameter",
        "computed",
        "cached",
        "Nested",
        "CONSTANT",
        "name",
        "p",
    }


def test_a_value_changed_in_place_is_kept(artifacts):
    assert artifacts.value("end", "final") == (6, [1, 2, 4], "inherited", [1], None)
    assert artifacts.value("start", "model").weights == [1, 2]
    assert artifacts.value("end", "pandas").a.tolist() == [-1, 2]
    first, last = artifacts.record("start").artifacts, artifacts.record("end").artifacts
    assert last["pandas"].path != first["pandas"].path
    assert last["polars"].path == first["polars"].path


def test_del_drops_what_the_task_has_and_the_inherited_value_is_there_again(artifacts):
    assert artifacts.value("second", "after_del") == "inherited"
    assert artifacts.value("second", "mutable_copy") == [1, 2, 3]
    assert artifacts.value("second", "mutable_again") == [1, 2]
    assert artifacts.value("second", "text_length") == 20_000


def test_one_object_under_two_names_becomes_two_values(artifacts):
    assert artifacts.value("second", "independent") is True


def test_class_level_values_and_parameters_can_not_be_changed(artifacts):
    *fixed, computed, index, item, name = artifacts.value("start", "set_errors")

    for error in fixed:
        assert error.startswith("AttributeError: Flow level attributes and Parameters are not modifiable")
    for error in (computed, index, item, name):
        assert error.startswith("AttributeError: property")
    constant, parameter, missing = artifacts.value("start", "del_errors")
    assert "not modifiable" in constant
    assert "not modifiable" in parameter
    assert missing.startswith("AttributeError")


def test_a_change_of_a_constant_in_place_stays_within_its_task(artifacts):
    assert artifacts.value("start", "constant_here") == {"k": [1, "mutated here"]}
    assert artifacts.value("second", "constant_next") == {"k": [1]}
    assert artifacts.value("end", "CONSTANT") == {"k": [1]}
    assert artifacts.value("end", "NUMBER") == 7


def test_a_missing_artifact_is_an_attribute_error_with_its_name(artifacts):
    assert artifacts.value("second", "missing") == (
        "AttributeError: Step 'second' has no artifact 'no_such_thing'."
    )


def test_a_property_that_fails_shows_its_own_error(artifacts):
    assert artifacts.value("second", "failed_property") == (
        "AttributeError: Step 'second' has no artifact 'never_set_by_anyone'."
    )


def test_all_that_any_step_set_is_there_at_the_end(artifacts):
    assert artifacts.names("start") <= artifacts.names("end")
    assert {"text", "untouched", "_private", "nothing", "array", "polars"} <= artifacts.names("end")


def test_tables_are_parquet_and_small_plain_values_are_json(artifacts):
    refs = artifacts.record("start").artifacts

    assert {refs[name].encoding for name in ("pandas", "series", "polars", "arrow")} == {"parquet"}
    assert {refs[name].encoding for name in ("n", "nothing", "mutable", "_private")} == {"json"}


READING = """
    import numpy as np
    import pandas as pd
    from daskflow import FlowSpec, step

    class Point:
        def __init__(self, x):
            self.x = x

    class Reading(FlowSpec):
        @step
        def start(self):
            self.frame = pd.DataFrame({"a": range(1000), "b": ["x"] * 1000})
            self.array = np.arange(100_000)
            self.words = {"a", "b", "c"}
            self.big = {"list": list(range(20_000))}
            self.function = lambda x: x
            self.points = [Point(2)]
            self.next(self.look)

        @step
        def look(self):
            total = self.frame.a.sum() + self.array.sum() + len(self.words) + len(self.big["list"])
            total += self.function(1) + self.points[0].x
            frame = self.frame
            self.frame = frame
            assert total and self._graph_info and self._current_step == "look"
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Reading()
"""


def test_reading_writes_nothing_and_changes_no_identity(run_flow):
    result = run_flow(READING)

    first, later = result.record("start").artifacts, result.record("look").artifacts
    assert set(later) == set(first)
    for name, ref in first.items():
        assert (later[name].hash, later[name].path) == (ref.hash, ref.path), name
    assert result.store.all("Reading/1/look") == ["Reading/1/look/0/task.json"]
    assert len(result.store.read("Reading/1/look/0/task.json")) < 6000


REFUSED = """
    import threading
    import pandas
    from daskflow import FlowSpec, step

    class Unwilling:
        def __reduce__(self):
            raise RuntimeError("not me")

    class Refused(FlowSpec):
        @step
        def start(self):
            self.good = [1, 2]
            self.lock = threading.Lock()
            self.unwilling = Unwilling()
            self.generator = (x for x in "ab")
            self.later = "kept as well"
            self.frame = pandas.DataFrame({"a": [1]})
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Refused()
"""


def test_what_can_not_be_stored_is_named_and_all_else_is_kept(run_flow):
    result = run_flow(REFUSED, expect=1)

    failed = result.failed("start")
    assert failed.error["type"].endswith("UnpicklableArtifactException")
    assert "Cannot pickle artifact 'lock': " in failed.error["exception"]
    assert "'unwilling'" in failed.error["exception"]
    assert "not me" in failed.error["exception"]
    assert "'generator'" in failed.error["exception"]
    assert set(failed.artifacts) == {"good", "later", "frame"}
    assert result.run().load("later", failed.artifacts["later"]) == "kept as well"
    assert "Cannot pickle artifact 'lock'" in result.stdout
    assert "Traceback" not in result.text


FAILED = """
    from daskflow import FlowSpec, step

    class Awkward(Exception):
        def __str__(self):
            raise ValueError("no text")

    class Failed(FlowSpec):
        @step
        def start(self):
            self.before = {"a": 1}
            self.inherited = [1]
            self.next(self.a)

        @step
        def a(self):
            self.inherited.append(2)
            self.set_here = "yes"
            raise Awkward

        @step
        def b(self):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Failed()
"""


def test_what_was_set_before_a_failure_is_kept_with_the_failure(run_flow):
    source = FAILED.replace(
        "raise Awkward\n", "if self.before:\n                raise Awkward\n            self.next(self.b)\n"
    )

    result = run_flow(source, expect=1)

    failed = result.failed("a")
    assert failed.error["type"] == "__main__.Awkward"
    assert "raise Awkward" in failed.error["stacktrace"]
    assert result.run().load("inherited", failed.artifacts["inherited"]) == [1, 2]
    assert result.run().load("set_here", failed.artifacts["set_here"]) == "yes"
    assert "before" in failed.artifacts
    assert result.run().load("inherited", result.record("start").artifacts["inherited"]) == [1]
