"""Records hold what somebody wrote: whatever that is, the page can be made of it and sent."""

from __future__ import annotations

from daskflow.dashboard import render
from daskflow.dashboard.events import Committed, Told
from daskflow.dashboard.model import RunModel
from daskflow.dashboard.view import View


def test_a_text_that_is_no_unicode_can_be_sent():
    strange = "\udc80 half"
    model = RunModel("F", "1")
    model.apply(Told({"tags": [strange], "user": strange, "reason": strange, "parameters": {"p": strange}}))
    model.apply(Committed(strange, {"task": ["0"], "value": [strange], "worker": [strange]}))
    (a_step,) = model.steps()
    view = View(flow="F", run="1", step=strange, find=strange)

    for html in (
        render.head(model.head(), [model.head()], None, view),
        render.runs([model.head()], view, strange),
        render.graph(model.steps(), view),
        render.tasks(model, a_step, view),
    ):
        assert html.encode()


def test_runs_are_found_whatever_their_records_hold():
    head = RunModel("F", "1").head() | {"status": "damaged", "user": 7, "tags": ["night", 3], "reason": None}

    assert render.matches(head, ["night", "7"])
    assert "damaged 1" in render.runs([head], View(find="night"), "")
