"""Where steps are drawn, what addresses say, and how numbers are told."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
from bokeh.document import Document
from hypothesis import given
from hypothesis import strategies as st
from pages import Written, driver_here

from daskflow.dashboard import details, render
from daskflow.dashboard.events import Committed, Failed, Lines, Planned, Progress, Started, Told
from daskflow.dashboard.graph import HEIGHT, WIDTH, drawn
from daskflow.dashboard.model import RunModel, Source
from daskflow.dashboard.page import document
from daskflow.dashboard.view import View
from daskflow.errors import NotFound

if TYPE_CHECKING:
    from pathlib import Path


def step(name: str, *following: str, kind: str = "linear", **more: object) -> dict:
    return {"name": name, "next": list(following), "type": kind, "taken": {}} | more


@st.composite
def flows(draw: st.DrawFn) -> list[dict]:
    """Steps of which each leads to later ones, some back to themselves."""
    count = draw(st.integers(1, 12))
    names = [f"s{number}" for number in range(count)]
    found = []
    for number, name in enumerate(names):
        following = draw(st.lists(st.sampled_from(names[number:]), max_size=4))
        found.append(step(name, *following))
    return found


@given(flows())
def test_steps_never_overlap_and_ways_lead_to_the_right(steps: list[dict]):
    drawing = drawn(steps)

    assert set(drawing.places) == {each["name"] for each in steps}
    for (x, y), (to_x, to_y) in combinations(drawing.places.values(), 2):
        assert abs(x - to_x) >= WIDTH or abs(y - to_y) >= HEIGHT
    for edge in drawing.edges:
        if edge.begin != edge.end:
            assert drawing.places[edge.begin][0] < drawing.places[edge.end][0]
    for x, y in drawing.places.values():
        assert 0 <= x <= drawing.width - WIDTH
        assert 0 <= y <= drawing.height - HEIGHT


def test_of_a_switch_that_decided_the_way_is_marked():
    edges = drawn([step("a", "b", "c", kind="switch", taken={"b": 3}), step("b"), step("c")]).edges

    assert [(edge.end, edge.taken, edge.count) for edge in edges] == [("b", True, 3), ("c", False, 0)]


@given(st.text(), st.text(), st.integers(0, 10**8))
def test_an_address_says_what_is_selected(flow: str, words: str, offset: int):
    view = View(flow=flow.strip("\ud800")[:100], words=words[:100], offset=offset, sort="seconds", down=1)
    try:
        query = view.query
    except UnicodeEncodeError:  # half a surrogate pair is in no address
        return

    assert View.of(query) == view


@given(st.text())
def test_an_address_that_nobody_made_is_no_error(query: str):
    assert isinstance(View.of(query), View)


@given(st.text())
def test_whatever_a_text_holds_it_is_escaped(text: str):
    model = RunModel("F", "1")
    head = model.head() | {
        "reason": f"<script>{text}</script>",
        "tags": [f"<b>{text}"],
        "parameters": {"<i>": "<i>"},
    }

    html = render.head(head, [], None, View(flow="<u>", find="'\"><u>"))

    assert not any(tag in html for tag in ("<script", "<b>", "<i>", "<u>"))


def test_runs_of_which_the_records_are_damaged_can_be_listed_alone():
    heads = [{"flow": "F", "run": str(n), "status": status} for n, status in enumerate(["lost", "damaged"])]

    html = render.runs(heads, View(), "")
    damaged = render.runs(heads, View(status="damaged"), "")

    assert "?status=damaged" in html
    assert ("F/0" in damaged, "F/1" in damaged) == (False, True)


def test_all_tags_of_a_run_can_be_read():
    tags = [f"a-tag-of-many-{number}" for number in range(20)]
    head = {"flow": "F", "run": "1", "status": "failed", "tags": tags}

    shown = render.head(RunModel("F", "1").head() | head, [], None, View())

    assert [tag for tag in tags if f'<span class="df-tag">{tag}</span>' in shown] == tags
    assert f'title="{", ".join(tags)}"' in render.runs([head], View(), "")


def test_an_empty_list_of_runs_says_where_there_are_none():
    assert "There are no runs in /a/&lt;b&gt; yet." in render.runs([], View(), "", "/a/<b>")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (0.0, "0.0 ms"), (0.0123, "12.3 ms"), (1.234, "1.23 s"), (59.94, "59.9 s"), (185, "3 min 05 s"),
        (7800, "2 h 10 min"), (100_000, "1 d 03 h"), (float("nan"), ""), (-5.0, "0.0 ms"),
    ],
)  # fmt: skip
def test_durations_are_told_for_people(value: float | None, text: str):
    assert render.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (5, "5 B"), (1500, "1.5 kB"), (123_456_789, "123 MB"), (5e12, "5.0 TB")]
)
def test_bytes_are_told_for_people(value: float | None, text: str):
    assert render.size(value) == text


def test_nothing_of_bokeh_is_loaded_before_someone_looks():
    modules = "model, events, page, api, details, stored, following"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; from daskflow.dashboard import {modules}; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    loaded = set(done.stdout.split())
    assert not loaded & {"bokeh", "tornado", "jinja2", "pandas", "pyarrow", "distributed"}


class One(Source):
    """A source of one run, as a scheduler has it."""

    opens_latest = True

    def __init__(self, model: RunModel) -> None:
        self._model = model

    def runs(self) -> list[dict]:
        return [self._model.head()]

    def model(self, flow: str, run: str) -> RunModel | None:
        return self._model if (flow, run) == (self._model.flow, self._model.run) else None

    def detail(self, *task: str) -> dict:
        raise NotFound("It has not begun.")


def parts_of(doc: Document) -> dict[str, str]:
    return {name: values[0] for name, values in doc.get_model_by_name("parts").data.items()}


def ask(doc: Document, query: str) -> dict[str, str]:
    """What the page shows for an address; it may take a thread or two."""
    doc.get_model_by_name("view").data = {"query": [query]}
    return parts_of(doc)


def test_a_scheduler_shows_its_latest_run_and_lists_all_when_asked():
    model = RunModel("F", "1")
    model.apply(Planned("fit", 20))
    doc = Document()
    document(One(model))(doc)

    assert parts_of(doc)["mode"] == "run"
    assert ask(doc, "?all=1")["mode"] == "runs"
    assert "There is no run F/9" in ask(doc, "?flow=F&run=9")["runs"]


def test_a_task_that_runs_and_has_stored_nothing_shows_what_it_wrote():
    model = RunModel("F", "1")
    model.apply(Started("fit", "4..9", 6, 1e9, "here", 7))
    model.apply(Progress("fit", "4..9", 2))
    model.apply(Lines("fit", "4", "stdout", ["<b>half</b> \x1b[1mway"]))
    doc = Document()
    document(One(model))(doc)

    shown = ask(doc, "?step=fit&task=4")["task"]

    assert "&lt;b&gt;half&lt;/b&gt; way" in shown
    assert "2 of 6 done" in shown


def test_what_is_known_here_of_a_task_that_runs_counts_as_long_as_its_store_has_nothing(tmp_path: Path):
    written = Written(tmp_path, {"fit": {}})
    written.store.storage.create(written.store.layout.driver(0), driver_here())
    detail = details.detail(written.store, "fit", "0", begun=True)
    model = RunModel("F", "1")
    model.apply(Started("fit", "0", 1, 1e9, "node-7", 7))

    html = render.task(detail, model.task("fit", "0"), {}, None, View(step="fit", task="0"), "")

    assert detail["state"] == "running"
    assert "▶ running" in html
    assert 'data-at="1000000000.0"' in html
    assert "node-7, pid 7" in html
    assert "It has written nothing yet." in html


def test_the_page_moves_with_the_model(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("daskflow.dashboard.page.DRAW_SECONDS", 0.0)
    model = RunModel("F", "1")
    model.apply(Planned("fit", 2))
    doc = Document()
    document(One(model))(doc)
    (callback,) = doc.session_callbacks
    assert "0 of 2 known tasks done" in parts_of(doc)["head"]

    model.apply(Committed("fit", {"task": ["0", "1"], "seconds": [1.0, 2.0], "started": [0.0, 0.0]}))
    callback.callback()

    assert "2 of 2 known tasks done" in parts_of(doc)["head"]
    bars = doc.get_model_by_name("timeline").renderers[0].data_source
    assert list(bars.data["right"]) == [1.0, 2.0]


def test_only_what_failed_or_runs_has_a_pattern():
    model = RunModel("F", "1")
    model.apply(Committed("fit", {"task": ["0"], "seconds": [1.0], "started": [0.0]}))
    model.apply(Failed("fit", "1", 0, "no", 2.0, 1.0))
    doc = Document()
    document(One(model))(doc)

    plain, marked = (each.data_source.data for each in doc.get_model_by_name("timeline").renderers)

    assert list(plain["left"]) == [0.0, 2.0]
    assert (list(marked["left"]), marked["hatch"], marked["edge"]) == ([2.0], ["/"], [render.FAILED_COLOUR])


class Counted(RunModel):
    """A model that counts how often its tasks are listed."""

    listed = 0

    def tasks(self, *step: Any, **which: Any) -> tuple[dict[str, list[Any]], int]:
        self.listed += 1
        return super().tasks(*step, **which)


def test_a_page_makes_nothing_anew_as_long_as_nothing_happens():
    model = Counted("F", "1")
    model.apply(Started("fit", "0", 1, 1e9, "here", 7))
    doc = Document()
    document(One(model))(doc)
    (callback,) = doc.session_callbacks
    before, listed = parts_of(doc), model.listed

    for _ in range(3):
        callback.callback()
    after = parts_of(doc)
    assert model.listed == listed
    assert {name: text for name, text in after.items() if before[name] != text}.keys() <= {"beat"}

    model.apply(Committed("fit", {"task": ["0"], "seconds": [1.0], "started": [0.0]}))
    callback.callback()
    assert model.listed == listed + 1
    assert ask(doc, "?all=1")["mode"] == "runs"
    shown = ask(doc, "?flow=F&run=1")
    assert (shown["mode"], "1 of 1 known tasks done" in shown["head"]) == ("run", True)
    assert 'data-task="0"' in shown["tasks"]


def test_of_the_graph_only_the_steps_that_have_changed_are_made_anew():
    model = RunModel("Fresh", "1")
    model.apply(Told({"steps": [{"name": f"step{n}", "next": []} for n in range(20)]}))
    view = View(flow="Fresh", run="1", step="step0")
    first = render.graph(model.steps(), view)
    made = render._node.cache_info().misses

    model.apply(Planned("step7", 3))
    second = render.graph(model.steps(), view)
    third = render.graph(model.steps(), View(flow="Fresh", run="1", step="step1", task="0"))

    assert render._node.cache_info().misses == made + 3
    assert ("0/3" in first, "0/3" in second) == (False, True)
    assert [html.count(" df-selected") for html in (first, second, third)] == [1, 1, 1]
    assert third.index(" df-selected") > second.index(" df-selected")
