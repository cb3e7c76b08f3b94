"""What a join sees of the tasks before it, and what it may take over."""

from __future__ import annotations

import pytest

JOINS = """
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd
    from daskflow import FlowSpec, Parameter, step
    from daskflow.errors import (
        MergeArtifactsException, MissingInMergeArtifactsException, UnhandledInMergeArtifactsException,
    )

    def caught(kinds, call):
        try:
            call()
        except kinds as error:
            return type(error).__name__, getattr(error, "artifact_names", None)
        return None

    class Joins(FlowSpec):
        alpha = Parameter("alpha", default=0.5)
        CONSTANT = [1]

        @step
        def start(self):
            self.shared = {"a": [1, 2]}
            self.words = {"red", "green", "blue", "black"}
            self.frame = pd.DataFrame({"x": [1.0, None], "y": ["a", "b"]})
            self.array = np.arange(5)
            self.lone = 1
            self.grown = {"deep": [1]}
            self._private = "hidden"
            self.nothing = None
            self.not_in_join = caught(MergeArtifactsException, lambda: self.merge_artifacts([]))
            self.next(self.zebra, self.ant, self.count)

        @step
        def zebra(self):
            self.shared["a"].append(3)
            self.seen = self.grown["deep"][0]
            self.read = (sorted(self.words), float(self.frame.x[0]), int(self.array[1]))
            self.differs = 1
            self.only_here = "zebra"
            self.equal_but_made_twice = {"k": np.arange(3).tolist()}
            self._private_differs = 1
            self.next(self.join)

        @step
        def ant(self):
            self.shared["a"] += [3]
            self.grown["deep"].append(2)
            self.read = (sorted(self.words), float(self.frame.x[0]), int(self.array[1]))
            self.differs = 2
            self.equal_but_made_twice = {"k": [0, 1, 2]}
            self._private_differs = 2
            self.next(self.join)

        @step
        def count(self):
            self.shared = {"a": [1, 2, 3]}
            self.grown["deep"].append(2)
            self.words = set(sorted(self.words))
            self.frame = self.frame.copy()
            self.read = (sorted(self.words), 1.0, 1)
            self.differs = 1
            self.equal_but_made_twice = {"k": [0, 1, 2]}
            self._private_differs = 1
            self.next(self.join)

        @step
        def join(self, inputs):
            self.order = [i._current_step for i in inputs]
            self.size = len(inputs)
            self.sliced = [i._current_step for i in inputs[1:]] + [inputs[-1]._current_step]
            self.flows = [i.differs for i in inputs.flows]
            self.named = (inputs.zebra.differs, inputs.ant.differs, inputs.count.differs)
            self.is_sequence = (isinstance(inputs, Sequence), inputs[1] in inputs, 1 in inputs)
            self.reversed = [i._current_step for i in reversed(inputs)]
            self.unknown = caught(AttributeError, lambda: inputs.horse)
            self.beyond = caught(IndexError, lambda: inputs[3])
            self.before = {n: hasattr(self, n) for n in ("shared", "lone", "alpha", "CONSTANT", "only_here")}
            both = UnhandledInMergeArtifactsException, MissingInMergeArtifactsException, MergeArtifactsException
            self.conflict = caught(both, lambda: self.merge_artifacts(inputs))
            self.after_conflict = hasattr(self, "lone")
            self.absent = caught(both, lambda: self.merge_artifacts(inputs, include=["lone", "no_such"]))
            self.both = caught(both, lambda: self.merge_artifacts(inputs, include=["lone"], exclude=["read"]))
            self.no_inputs = caught(both, lambda: self.merge_artifacts([1, 2]))
            self.merge_artifacts(inputs, include=["lone"])
            self.only_lone = hasattr(self, "lone") and not hasattr(self, "shared")
            inputs[0].shared["a"].append("scribbled")
            inputs[0].lone = "scribbled"
            self.differs = "set by the join"
            self.merge_artifacts(inputs, exclude=["_private_differs", "grown"])
            self.excluded = not hasattr(self, "_private_differs")
            self.next(self.some)

        @step
        def some(self):
            self.merge_outside = caught(MergeArtifactsException, lambda: self.merge_artifacts([]))
            self.items = [5, 6, 7]
            self.next(self.work, foreach="items")

        @step
        def work(self):
            self.score = self.input * 10
            self.next(self.gather)

        @step
        def gather(self, inputs):
            self.last_by_name = inputs.work.score
            self.scores = [i.score for i in inputs]
            self.indices = [(i.index, i.input, i.foreach_stack()) for i in inputs]
            good = [i for i in inputs if i.score > 50]
            self.some_conflict = caught(MergeArtifactsException, lambda: self.merge_artifacts(good, include=["score"]))
            self.merge_artifacts(good[:1], include=["score"])
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Joins()
"""


@pytest.fixture(scope="module")
def joins(run_flow):
    return run_flow(JOINS)


def test_inputs_of_branches_come_in_the_order_in_which_they_were_declared(joins):
    assert joins.value("join", "order") == ["zebra", "ant", "count"]
    assert joins.record("join").parents == ["zebra/0", "ant/0", "count/0"]


def test_inputs_are_a_sequence_with_names(joins):
    assert joins.value("join", "size") == 3
    assert joins.value("join", "sliced") == ["ant", "count", "count"]
    assert joins.value("join", "flows") == [1, 2, 1]
    assert joins.value("join", "is_sequence") == (True, True, False)
    assert joins.value("join", "reversed") == ["count", "ant", "zebra"]
    assert joins.value("join", "named") == (1, 2, 1)  # although sequences have a method `count`
    assert joins.value("join", "unknown") == ("AttributeError", None)
    assert joins.value("join", "beyond") == ("IndexError", None)


def test_nothing_but_parameters_and_constants_passes_a_join_by_itself(joins):
    assert joins.value("join", "before") == {
        "shared": False,
        "lone": False,
        "alpha": True,
        "CONSTANT": True,
        "only_here": False,
    }
    assert "items" not in joins.names("gather")


def test_a_conflict_names_the_artifacts_and_takes_nothing_over(joins):
    kind, names = joins.value("join", "conflict")

    assert kind == "UnhandledInMergeArtifactsException"
    assert sorted(names) == ["_private_differs", "differs", "grown"]
    assert joins.value("join", "after_conflict") is False


def test_merge_artifacts_refuses_what_it_can_not_do(joins):
    assert joins.value("join", "absent") == ("MissingInMergeArtifactsException", ["no_such"])
    assert joins.value("join", "both") == ("MergeArtifactsException", [])
    assert joins.value("join", "no_inputs") == ("MergeArtifactsException", [])
    assert joins.value("start", "not_in_join") == ("MergeArtifactsException", [])
    assert joins.value("some", "merge_outside") == ("MergeArtifactsException", [])


def test_merge_artifacts_takes_what_the_inputs_agree_on(joins):
    assert joins.value("join", "only_lone") is True
    assert joins.value("join", "excluded") is True
    assert joins.value("join", "shared") == {"a": [1, 2, 3]}
    assert joins.value("join", "only_here") == "zebra"
    assert joins.value("join", "_private") == "hidden"
    assert joins.value("join", "nothing") is None
    assert joins.value("join", "equal_but_made_twice") == {"k": [0, 1, 2]}
    assert joins.value("join", "differs") == "set by the join"
    assert joins.value("join", "words") == {"red", "green", "blue", "black"}
    assert joins.value("join", "frame").y.tolist() == ["a", "b"]
    assert joins.value("join", "array").tolist() == [0, 1, 2, 3, 4]


def test_what_a_join_does_to_its_inputs_is_seen_by_nobody_else(joins):
    assert joins.value("join", "lone") == 1
    assert "scribbled" not in joins.value("zebra", "shared")["a"]
    assert joins.value("zebra", "lone") == 1


def test_merged_artifacts_are_referred_to_and_not_written_again(joins):
    merged = joins.record("join").artifacts
    for name in ("frame", "array", "words", "shared"):
        ref = merged[name]
        assert ref.path is None or "/join/" not in ref.path, name


def test_inputs_of_a_foreach_come_by_index_and_know_their_items(joins):
    assert joins.value("gather", "scores") == [50, 60, 70]
    assert joins.value("gather", "last_by_name") == 70
    assert joins.value("gather", "indices") == [(i, 5 + i, [(i, 3, 5 + i)]) for i in range(3)]


def test_some_of_the_inputs_can_be_merged(joins):
    assert joins.value("gather", "some_conflict") == ("UnhandledInMergeArtifactsException", ["score"])
    assert joins.value("gather", "score") == 60


ORDERED = """
    import time
    from daskflow import FlowSpec, step

    class Ordered(FlowSpec):
        @step
        def start(self):
            self.xs = [3, 2, 1, 0]
            self.next(self.work, foreach="xs")

        @step
        def work(self):
            time.sleep(0.1 * self.input)
            self.kind = "even" if self.index % 2 == 0 else "odd"
            self.next({"even": self.even, "odd": self.odd}, condition="kind")

        @step
        def odd(self):
            self.next(self.gather)

        @step
        def even(self):
            self.next(self.gather)

        @step
        def gather(self, inputs):
            self.seen = [(i._current_step, i.index) for i in inputs]
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Ordered()
"""


def test_inputs_from_several_steps_come_grouped_by_step_whatever_ends_first(run_flow):
    seen = run_flow(ORDERED, "--max-workers", "4").value("gather", "seen")

    assert seen in (
        [("odd", 1), ("odd", 3), ("even", 0), ("even", 2)],
        [("even", 0), ("even", 2), ("odd", 1), ("odd", 3)],
    )


STORED = """
    from daskflow import FlowSpec, step

    class Stored(FlowSpec):
        @step
        def start(self):
            self.next(self.a, self.b)

        @step
        def a(self):
            self.next(self.join)

        @step
        def b(self):
            self.next(self.join)

        @step
        def join(self, inputs):
            self.fine = 1
            {statement}
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Stored()
"""


@pytest.mark.parametrize(
    "statement",
    ["self.bad = self", "self.bad = {'deep': [inputs[0]]}", "self.bad = inputs", "self.bad = list(inputs)"],
)
def test_a_flow_object_is_no_artifact(run_flow, statement):
    result = run_flow(STORED.format(statement=statement), expect=1)

    words = "Flows can't be serialized. Maybe you tried to assign *self* or one of the *inputs*"
    failed = result.failed("join")
    assert failed.error["type"].endswith("UnpicklableArtifactException")
    assert f"Cannot pickle artifact 'bad': {words}" in failed.error["exception"]
    assert words in result.stdout
    assert set(failed.artifacts) == {"fine"}
