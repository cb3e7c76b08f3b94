"""What a person sees: a real browser, a real store, real runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pages import SIZES, Look, Ui, Written, ran, ui_of

from daskflow.dashboard import plot
from daskflow.store.records import Log

if TYPE_CHECKING:
    from pathlib import Path


LOOKS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]
OVERLAPS = """() => {
  const boxes = [...document.querySelectorAll('.df-card, .df-node, .navbar')].filter(e => e.offsetParent !== null || e.matches('.navbar'));
  const inside = (a, b) => a.contains(b) || b.contains(a);
  const found = [];
  for (const a of boxes) for (const b of boxes) {
    if (a === b || inside(a, b)) continue;
    const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
    const clipped = e => e.matches('.df-node') && a.closest('.df-graph') !== b.closest('.df-graph');
    if (clipped(a) || clipped(b)) continue;
    if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 1 && q.top < p.bottom - 1)
      found.push([a.id || a.className, b.id || b.className]);
  }
  return found;
}"""


def assert_nothing_overlaps(look: Look) -> None:
    assert look.page.evaluate(OVERLAPS) == []
    too_wide = look.page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
    assert too_wide <= 0


def name_of(part: str, look: Look) -> str:
    size = look.page.viewport_size
    scheme = look.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'")
    assert size is not None
    return f"{part}-{scheme}-{size['width']}"


def test_a_click_leads_from_the_list_of_runs_to_the_traceback_of_the_item_that_failed(
    look: Look, troubles_ui: Ui
) -> None:
    look.at(troubles_ui.page())
    assert "Trouble/1" in look.text("#df-runs")

    look.page.click("#df-runs a:text-is('Trouble/1')")
    look.page.wait_for_selector("#df-graph [data-step=fit]")
    look.page.click("#df-graph [data-step=start]")
    look.page.wait_for_selector("#df-tasks h2:text-is('start')")
    look.page.click("#df-graph [data-step=fit]")
    look.page.wait_for_selector("#df-tasks h2:text-is('fit')")
    assert look.text("#df-tasks tbody tr:first-child [data-task]") == "11"  # failed first
    look.page.click("#df-tasks [data-task='11']")

    look.page.wait_for_selector("#df-traceback")
    assert "ValueError: item 11 is <b>too bad</b>" in look.text("#df-traceback")
    assert "fitting 11" in look.text("#df-log-stdout")
    assert "debug 1/fit/11" in look.text("#df-task .df-commands")
    assert "step=fit" in look.page.url
    look.page.go_back()
    look.page.wait_for_selector("#df-traceback", state="detached")


def test_the_address_holds_what_is_selected(look: Look, troubles_ui: Ui) -> None:
    look.at(troubles_ui.page(flow="Trouble", run="1", step="fit", task="11"))

    look.page.wait_for_selector("#df-traceback")
    assert look.page.locator(".df-node.df-selected").get_attribute("data-step") == "fit"


def test_a_log_is_shown_from_its_end_on_also_when_the_page_is_opened_at_it(
    look: Look, tmp_path: Path
) -> None:
    text = "".join(f"T line {number}\n" for number in range(150))
    written = Written(tmp_path, {"start": {}})
    written.task("start/0", logs={"stdout": Log(size=len(text), text=text)})
    written.ended()
    at_end = "(e => e.scrollTop > 0 && e.scrollTop + e.clientHeight >= e.scrollHeight - 4)"

    with ui_of(tmp_path) as ui:
        look.at(ui.page(flow="F", run="1", step="start", task="0"))
        look.page.wait_for_selector("#df-log-stdout")
        assert look.page.evaluate(f"{at_end}(document.getElementById('df-log-stdout'))")
        look.page.goto("about:blank")


@pytest.mark.parametrize(
    ("begin", "end", "labels"),
    [
        (0, 0.004, ["0 s", "0.0005 s", "0.001 s"]),
        (0, 380, ["0 s", "1 min", "2 min"]),
        (0, 25_000, ["0 s", "1 h", "2 h"]),
        (0, 800_000, ["0 s", "1 d", "2 d"]),
        (299.8, 305, ["5 min", "5:00.5 min", "5:01 min"]),
        (3599, 3700, ["1 h", "1:00:10 h", "1:00:20 h"]),
        (86_400, 186_400, ["1 d", "1 d 3 h", "1 d 6 h"]),
    ],
)
def test_the_times_of_the_timeline_are_round_and_tell_moments_apart(
    look: Look, begin: float, end: float, labels: list[str]
) -> None:
    ask = """([ticks, label, range]) => {
      return new Function("cb_data", ticks)({range}).map(tick => new Function("tick", label)(tick));
    }"""

    found = look.page.evaluate(ask, [plot._TICKS, plot._LABELS, {"start": begin, "end": end}])

    assert found[:3] == labels
    assert len(set(found)) == len(found) <= 12


def test_who_uses_the_keyboard_stays_where_he_is(look: Look, troubles_ui: Ui) -> None:
    look.at(troubles_ui.page(flow="Trouble", run="1"))

    look.page.focus("#df-graph [data-step=left]")
    look.page.keyboard.press("Enter")
    look.page.wait_for_selector("#df-tasks h2:text-is('left')")
    assert look.page.evaluate("document.activeElement.dataset.step") == "left"
    look.page.focus("#df-by-seconds")
    look.page.keyboard.press("Enter")
    look.page.wait_for_selector("#df-by-seconds:has-text('▲')")
    look.page.keyboard.press("Enter")
    look.page.wait_for_selector("#df-by-seconds:has-text('▼')")
    assert look.page.evaluate("document.activeElement.id") == "df-by-seconds"


def test_a_failed_run_says_why_and_what_to_type(look: Look, troubles_ui: Ui) -> None:
    look.at(troubles_ui.page(flow="Trouble", run="1"))

    head = look.text("#df-head")
    assert "failed" in look.text("#df-status")
    assert "continue 1" in head
    assert "resume --origin-run-id 1" in head
    look.page.click("#df-failure")
    look.page.wait_for_selector("#df-traceback")


@pytest.mark.parametrize("look", LOOKS, indirect=True, ids=str)
def test_nothing_overlaps_in_light_and_dark_on_small_and_large_screens(look: Look, troubles_ui: Ui) -> None:
    look.at(troubles_ui.page())
    look.page.wait_for_selector("#df-runs table")
    assert_nothing_overlaps(look)
    look.shot(name_of("runs", look))

    look.at(troubles_ui.page(flow="Trouble", run="1", step="fit"))
    look.page.wait_for_selector("#df-tasks [data-task='11']")
    assert_nothing_overlaps(look)
    look.shot(name_of("run", look))

    look.at(troubles_ui.page(flow="Trouble", run="1", step="fit", task="11"))
    look.page.wait_for_selector("#df-traceback")
    assert_nothing_overlaps(look)
    look.shot(name_of("task", look))

    look.at(troubles_ui.page(flow="Trouble", run="2", step="start", task="0", table="wide", column=50))
    look.page.wait_for_selector(".df-preview td")
    assert_nothing_overlaps(look)
    look.shot(name_of("table", look))


def test_another_run_is_chosen_above_the_run_that_is_shown(look: Look, troubles_ui: Ui) -> None:
    look.at(troubles_ui.page(flow="Trouble", run="1", step="fit", task="11"))

    look.page.select_option("#df-head select", label="Trouble/2 ✓")

    look.page.wait_for_selector("#df-head h1:text-is('Trouble/2')")
    assert "run=2" in look.page.url
    assert not look.page.is_visible("#df-traceback")


def test_what_comes_from_a_run_is_text_and_nothing_else(look: Look, troubles_ui: Ui) -> None:
    for table in ("heights", "wide"):
        look.at(troubles_ui.page(flow="Trouble", run="1", step="start", task="0", table=table))
        look.page.wait_for_selector(".df-preview td")
        assert look.page.title() == "daskflow"
        assert look.page.locator("main script, main u, main i:not([class]), main td b").count() == 0

    assert "<script>" in look.text("#df-head")
    assert look.text("#df-log-stdout") == "red and <script>document.title='hacked'</script>"
    assert "<i>column 0</i>" in look.text(".df-preview")
    look.at(troubles_ui.page())
    assert "<u>night</u>" in look.text("#df-runs")


def test_tasks_are_filtered_and_sorted(look: Look, troubles_ui: Ui) -> None:
    look.at(troubles_ui.page(flow="Trouble", run="2", step="fit"))
    look.page.wait_for_selector("#df-tasks [data-task='11']")

    look.page.click("#df-tasks th a:text('task')")
    look.page.wait_for_selector("#df-tasks th a:has-text('▲')")
    look.page.click("#df-tasks th a:has-text('task')")
    look.page.wait_for_selector("#df-tasks tbody tr:first-child [data-task='11']")
    look.page.fill("input[data-bind=words]", "10")
    look.page.wait_for_function("document.querySelectorAll('#df-tasks tbody tr').length === 1")

    assert look.text("#df-tasks tbody [data-task]") == "10"
    assert "words=10" in look.page.url


def test_runs_are_found_by_tag_and_status(look: Look, troubles_ui: Ui) -> None:
    look.at(troubles_ui.page())

    look.page.fill("input[data-bind=find]", "night")
    look.page.wait_for_function("document.querySelectorAll('#df-runs tbody tr').length === 1")
    assert "Trouble/1" in look.text("#df-runs tbody")

    look.page.fill("input[data-bind=find]", "")
    look.page.wait_for_function("document.querySelectorAll('#df-runs tbody tr').length === 2")
    look.page.click("a.df-chip:has-text('successful')")
    look.page.wait_for_function("document.querySelectorAll('#df-runs tbody tr').length === 1")
    assert "Trouble/2" in look.text("#df-runs tbody")


def test_a_run_that_is_going_on_moves_until_its_counts_reach_the_end(look: Look, tmp_path: Path) -> None:
    store, gate = tmp_path / "store", tmp_path / "gate"
    with ui_of(store) as ui:
        look.at(ui.page())
        run = ran(store, "--worst", "99", "--gate", str(gate), "--isolate", wait=False)

        look.page.click("#df-runs a:text-is('Trouble/1')", timeout=60_000)
        look.page.wait_for_selector("#df-status:has-text('running')")
        look.page.wait_for_selector("[data-step=left] .df-is-done:has-text('1')", timeout=60_000)
        look.page.wait_for_selector("[data-step=fit] .df-is-running", timeout=60_000)
        look.shot("running")
        gate.touch()
        look.page.wait_for_selector("#df-status:has-text('successful')", timeout=60_000)

        assert look.text("#df-done") == "25 of 25 known tasks done"
        run.communicate(timeout=60)
        look.page.goto("about:blank")


def test_a_server_that_comes_back_is_found_again(look: Look, troubles: Path) -> None:
    with ui_of(troubles) as ui:  # which ends without a word, though a page is open
        look.at(ui.page(flow="Trouble", run="1"))
        port = ui.origin.rpartition(":")[2]
    look.page.wait_for_selector("#df-gone:not([hidden])", timeout=30_000)
    look.page.evaluate("window.was_here = true")
    with ui_of(troubles, "--port", port):
        anew = "window.was_here === undefined && document.body.dataset.ready === 'yes'"
        look.page.wait_for_function(anew, timeout=30_000)
        look.page.click("#df-graph [data-step=left]")
        look.page.wait_for_selector("#df-tasks h2:text-is('left')")
        look.page.goto("about:blank")
    look.errors.clear()  # the browser tells of each try that failed


@pytest.mark.parametrize("look", [(SIZES[0], "light")], indirect=True)
def test_long_names_and_three_hundred_steps_are_drawn_without_overlap(look: Look, tmp_path: Path) -> None:
    long = [f"{'a_name_of_eighty_characters_' * 3}"[:76] + f"_{number:03}" for number in range(300)]
    steps = {name: {"next": [to]} for name, to in zip(long, [*long[1:], "end"], strict=True)}
    written = Written(tmp_path, {**steps, "end": {"type": "end"}}, flow="F" * 80)
    for number, name in enumerate(long):
        written.task(
            f"{name}/0", at=1e9 + number, transition={"kind": "linear", "targets": steps[name]["next"]}
        )
    written.task("end/0", at=1e9 + 300, transition={"kind": "end", "targets": []})
    written.ended()

    with ui_of(tmp_path) as ui:
        look.at(ui.page(flow="F" * 80, run="1", step=long[200]))
        look.page.wait_for_selector("#df-done:has-text('301 of 301')")
        assert look.page.locator(".df-node").count() == 301
        assert_nothing_overlaps(look)
        assert look.page.locator(".df-edge").count() == 300
        box = look.page.locator(".df-node.df-selected").bounding_box()
        assert box is not None
        assert 0 <= box["x"] < 1280  # it was scrolled to
        name = look.page.locator(".df-node.df-selected .df-name > :last-child").bounding_box()
        assert name is not None
        assert name["x"] + name["width"] <= box["x"] + box["width"]  # the end of the name is to be seen
        look.shot("long-names")
        look.page.goto("about:blank")
