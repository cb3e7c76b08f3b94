"""A join over many inputs."""

from __future__ import annotations

import pytest

JOINS = """
    import numpy as np
    from daskflow import FlowSpec, step

    N = 1100
    ODD = {3: None, 4: True, 5: 2.5, 6: "six"}

    class Joins(FlowSpec):
        @step
        def start(self):
            self.items = range(N)
            self.next(self.work, foreach="items")

        @step
        def work(self):
            i = self.index
            self.whole = i * 2
            self.real = i / 2
            self.text = f"t{i}"
            self.truth = i % 2 == 0
            self.nothing = None
            self.dict = {"a": i, "b": f"b{i}"}
            self.mixed = ODD.get(i, i)
            self.numpy = np.float64(i)
            self.maybe = i if i % 2 else None
            self.far = i if i < N - 1 else np.arange(3)
            self.near = [i]
            self.same = "the same"
            self.big = "b" * 300
            if i % 100 == 0:
                self.rare = i
            if i == 7:
                self.missing_elsewhere = 1
            self.next(self.join)

        @step
        def join(self, inputs):
            self.length = len(inputs)
            self.order = [i.index for i in inputs] == list(range(N)) == [i.input for i in inputs]
            self.again = [i.whole for i in inputs] == [i.whole for i in inputs]
            self.picked = [inputs[k].whole for k in (0, 5, 1099, -1, -1100)]
            self.sliced = [i.whole for i in inputs[5:1000:300]] + [i.whole for i in inputs[-2:]]
            self.named = inputs.work.index
            self.flows = len(inputs.flows)
            self.outside = [IndexError if fails(lambda k=k: inputs[k], IndexError) else None for k in (N, -N - 1)]

            inputs[1050].mark = "set"
            inputs[3].whole = -1
            self.kept = (inputs[1050].mark, inputs[3].whole, inputs[-50].mark)
            self.kept_when_walked = [(i.index, i.mark) for i in inputs if hasattr(i, "mark")]
            for i in inputs:
                i.walked = i.index
            self.walked = [inputs[k].walked for k in (0, 1050, 1099)] == [0, 1050, 1099]
            self.walked_all = [i.walked for i in inputs] == list(range(N))
            self.changed = inputs.scalars("whole")[3]

            def kind(name):
                got = inputs.scalars(name)
                return type(got).__name__, str(got.dtype), got.tolist()[8:11], len(got)

            self.kinds = {n: kind(n) for n in ("whole", "real", "text", "truth", "nothing", "numpy", "maybe")}
            self.mixed = list(inputs.scalars("mixed")[2:8])
            several = inputs.scalars("whole", "text")
            self.several = (type(several).__name__, list(several.columns), several.iloc[9].tolist(), len(several))
            of_dicts = inputs.scalars("dict")
            self.of_dicts = (type(of_dicts).__name__, list(of_dicts.columns), of_dicts.iloc[9].tolist())
            self.merge_artifacts(inputs, include=["same", "big"])
            self.next(self.bad)

        @step
        def bad(self):
            self.next(self.end)

        @step
        def end(self):
            pass

    def fails(call, kind):
        try:
            call()
        except kind:
            return True

    if __name__ == "__main__":
        Joins()
"""


@pytest.fixture(scope="module")
def joins(run_flow):
    return run_flow(JOINS, "--chunk", "250")


def test_inputs_come_by_index_and_have_a_length(joins):
    assert joins.value("join", "length") == joins.value("join", "flows") == 1100
    assert joins.value("join", "order") is True
    assert joins.value("join", "again") is True
    assert joins.value("join", "named") == 1099


def test_inputs_can_be_picked_and_sliced(joins):
    assert joins.value("join", "picked") == [0, 10, 2198, 2198, 0]
    assert joins.value("join", "sliced") == [10, 610, 1210, 1810, 2196, 2198]
    assert joins.value("join", "outside") == [IndexError, IndexError]


def test_what_is_set_on_an_input_stays_there_also_beyond_a_thousand(joins):
    assert joins.value("join", "kept") == ("set", -1, "set")
    assert joins.value("join", "kept_when_walked") == [(1050, "set")]
    assert joins.value("join", "walked") is True
    assert joins.value("join", "walked_all") is True
    assert joins.value("join", "changed") == -1


def test_scalars_are_an_array_of_the_values(joins):
    kinds = joins.value("join", "kinds")

    assert kinds["whole"] == ("ndarray", "int64", [16, 18, 20], 1100)
    assert kinds["real"] == ("ndarray", "float64", [4.0, 4.5, 5.0], 1100)
    assert kinds["text"][2:] == (["t8", "t9", "t10"], 1100)
    assert kinds["truth"] == ("ndarray", "bool", [True, False, True], 1100)
    assert kinds["nothing"][2:] == ([None, None, None], 1100)
    assert kinds["numpy"] == ("ndarray", "float64", [8.0, 9.0, 10.0], 1100)
    assert [each if each == 9 else None for each in kinds["maybe"][2]] == [None, 9, None]
    assert joins.value("join", "mixed") == [2, None, True, 2.5, "six", 7]


def test_scalars_of_several_names_or_of_dicts_are_a_frame(joins):
    assert joins.value("join", "several") == ("DataFrame", ["whole", "text"], [18, "t9"], 1100)
    assert joins.value("join", "of_dicts") == ("DataFrame", ["a", "b"], [9, "b9"])


def test_a_wide_join_merges_what_all_inputs_agree_on(joins):
    assert joins.value("end", "same") == "the same"
    assert joins.value("end", "big") == "b" * 300


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ('inputs.scalars("near")', ["Artifact 'near' of task work/0 is a list; scalars() is for numbers"]),
        ('inputs.scalars("far")', ["Artifact 'far' of task work/59 is a ndarray"]),
        ('inputs.scalars("rare")', ["AttributeError", "rare"]),
        ('inputs[3].merged = self.merge_artifacts(inputs, include=["whole"])', ["whole"]),
        ("inputs.start", ["No input comes from a step 'start'; the inputs come from: work."]),
        ("inputs[60]", ["IndexError"]),
    ],
)
def test_what_the_inputs_do_not_have_is_an_error_that_names_it(run_flow, statement, words):
    source = JOINS.replace("N = 1100", "N = 60")
    head, _, tail = source.partition("            self.length = len(inputs)\n")
    _, _, tail = tail.partition("            self.merge_artifacts(inputs, include")
    source = (
        f"{head}            {statement}\n            self.next(self.bad)\n"
        + tail.partition("self.next(self.bad)\n")[2]
    )

    result = run_flow(source, "--chunk", "25", expect=1)

    for each in words:
        assert each in result.text
