"""What a scheduler keeps of the runs that drivers tell it of."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from types import SimpleNamespace

import pytest
from distributed.broker import Broker
from distributed.http.routing import RoutingApplication
from distributed.scheduler import ClientState

from daskflow.dashboard import plugin, render, scheduler_pages
from daskflow.dashboard.events import Committed, Lines, Planned, Told
from daskflow.dashboard.plugin import LOST_SECONDS, MOST_ENDED, MOST_TASKS, RunPages
from daskflow.dashboard.scheduler_pages import Pages
from daskflow.dashboard.view import View
from daskflow.errors import NotFound


@pytest.fixture
def pages() -> RunPages:
    found = RunPages()
    found._pages = Pages(path="/daskflow")
    found._scheduler = SimpleNamespace(clients={})
    return found


def hello(pages: RunPages, token: str, run: str = "1", store: str = "/store", client: str = "") -> str:
    return pages.hello(token, "F", run, store, client or f"client of {token}")["run"]


def tell(pages: RunPages, token: str, *events) -> None:
    asyncio.run(pages.hear(token, list(events)))


def statuses(pages: RunPages) -> dict[str, str]:
    return {head["run"]: head["status"] for head in pages.runs()}


def test_events_come_as_they_are_or_as_bytes(pages: RunPages):
    hello(pages, "a")

    tell(pages, "a", Planned("work", 2))
    asyncio.run(pages.hear("a", pickle.dumps([Committed("work", {"task": ["0"]})])))

    assert (pages.runs()[0]["known"], pages.runs()[0]["done"]) == (2, 1)


def test_a_run_that_another_driver_goes_on_with_is_one_run(pages: RunPages):
    hello(pages, "a")
    tell(pages, "a", Told({"status": "failed"}))

    hello(pages, "b")

    assert statuses(pages) == {"1": "running"}


def test_runs_of_the_same_number_from_other_stores_have_names_of_their_own(pages: RunPages):
    names = [hello(pages, token, store=f"/{token}") for token in "abc"]
    again = hello(pages, "d", store="/b")

    assert names == ["1", "1@2", "1@3"]
    assert again == "1@2"


def test_a_run_whose_client_leaves_before_it_is_over_is_lost(pages: RunPages):
    hello(pages, "a", "1")
    hello(pages, "b", "2")
    tell(pages, "b", Told({"status": "successful"}))

    for token in "ab":
        pages.remove_client(None, f"client of {token}")

    assert statuses(pages) == {"1": "lost", "2": "successful"}


def test_a_driver_that_is_silent_is_lost_until_it_speaks(pages: RunPages, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plugin, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(plugin, "LOST_SECONDS", -1.0)
    hello(pages, "a")

    async def look_once() -> None:
        looking = asyncio.create_task(pages._look())
        while statuses(pages)["1"] != "lost":
            await asyncio.sleep(0)
        looking.cancel()

    asyncio.run(look_once())
    tell(pages, "a")

    assert statuses(pages) == {"1": "running"}


def test_a_driver_whose_client_is_alive_may_take_long_to_read_its_store(
    pages: RunPages, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(plugin, "LOOK_SECONDS", 0.0)
    for token in "ab":
        hello(pages, token, token)
        pages._runs[token].heard -= 2 * LOST_SECONDS
        pages._scheduler.clients[f"client of {token}"] = ClientState(f"client of {token}")
    pages._scheduler.clients["client of b"].last_seen -= 2 * LOST_SECONDS

    async def look_once() -> None:
        looking = asyncio.create_task(pages._look())
        while statuses(pages)["b"] != "lost":
            await asyncio.sleep(0)
        looking.cancel()

    asyncio.run(look_once())

    assert statuses(pages) == {"a": "running", "b": "lost"}


def test_of_a_run_that_is_over_dask_keeps_no_events(pages: RunPages):
    broker = Broker(1000, SimpleNamespace(plugins={}, send_all=lambda *_, **__: None))  # type: ignore[arg-type]
    pages._scheduler._broker = broker
    for token in "abc":
        pages.hello(token, "F", token, "/store", f"client of {token}", topic=f"daskflow/{token}")
        broker.publish(f"daskflow/{token}", "line")

    tell(pages, "a", Told({"status": "successful"}))
    pages.remove_client(None, "client of b")

    assert list(broker.get_events()) == ["daskflow/c"]


def test_of_runs_that_are_over_the_last_ones_are_kept_and_those_that_go_on_all(pages: RunPages):
    for number in range(1, MOST_ENDED + 11):
        hello(pages, f"t{number}", str(number))
        if number > 5:
            tell(pages, f"t{number}", Told({"status": "successful"}))

    shown = statuses(pages)

    assert [run for run, status in shown.items() if status == "running"] == ["5", "4", "3", "2", "1"]
    ended = [int(run) for run, status in shown.items() if status == "successful"]
    assert ended == list(range(MOST_ENDED + 10, 10, -1))


def test_ten_thousand_tasks_take_less_than_sixty_megabytes():
    code = """
import resource
from daskflow.dashboard.events import Committed, Planned, Started
from daskflow.dashboard.model import RunModel
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, model = peak(), RunModel("F", "1")
model.apply(Planned("work", 10_000))
for n in range(10_000):
    at = 1e9 + n / 100
    model.apply(Started("work", str(n), 1, at, "host", n))
    facts = {"task": str(n), "index": n, "attempt": 0, "status": "successful", "started": at, "finished": at + 0.02,
             "cpu_seconds": 0.01, "peak_memory": 1 << 24, "worker": "host", "pid": n, "value": f"value number {n}"}
    model.apply(Committed("work", {name: [value] for name, value in facts.items()}))
model.timeline(2e9), model.steps(), model.tasks("work", sort_by="seconds")
assert model.head()["done"] == 10_000
print((peak() - before) / 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=False
    )

    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 60


def test_the_drivers_of_many_runs_may_leave_at_once(pages: RunPages):
    for number in range(1, MOST_ENDED + 11):
        pages.hello(f"t{number}", "F", str(number), "/store", "the same client")

    pages.remove_client(None, "the same client")

    assert set(statuses(pages).values()) == {"lost"}
    assert len(statuses(pages)) == MOST_ENDED


def test_a_run_whose_driver_left_before_it_told_anything_is_listed(pages: RunPages):
    hello(pages, "a")

    pages.remove_client(None, "client of a")

    assert "F/1" in render.runs(pages.runs(), View(), "")


def test_no_two_runs_have_the_same_name_when_others_were_forgotten(pages: RunPages):
    for token in "abc":
        hello(pages, token, store=f"/{token}")
    del pages._runs["a"]
    del pages._runs["b"]

    assert [hello(pages, token, store=f"/{token}") for token in "de"] == ["1", "1@2"]
    assert sorted(statuses(pages)) == ["1", "1@2", "1@3"]


def test_of_runs_that_are_over_so_many_are_kept_as_have_few_tasks(pages: RunPages):
    for number in range(1, 4):
        hello(pages, f"t{number}", str(number))
        tell(
            pages, f"t{number}", Planned("work", MOST_TASKS // 2 + 1 - number), Told({"status": "successful"})
        )

    assert list(statuses(pages)) == ["3", "2"]


def test_a_run_that_was_forgotten_has_no_details(pages: RunPages):
    with pytest.raises(NotFound, match="F/9 is not shown here any more"):
        pages.detail("F", "9", "work", "0")
    with pytest.raises(NotFound, match="F/9 is not shown here any more"):
        pages.table("F", "9", "work", "0", "x", 0)


def test_while_many_events_are_taken_notice_of_others_get_their_turn_and_the_order_stays(
    pages: RunPages, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(plugin, "SLICE_SECONDS", -1.0)
    hello(pages, "a")
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def hear() -> None:
        others = asyncio.create_task(take_turns())
        lines = [Lines("work", "0", "stdout", [str(number)]) for number in range(100)]
        await asyncio.gather(pages.hear("a", lines[:50]), pages.hear("a", lines[50:]))
        others.cancel()

    asyncio.run(hear())

    model = pages.model("F", "1")
    assert model is not None
    assert turns >= 100
    assert model.tail("work", "0")["stdout"] == list(map(str, range(100)))


def test_a_page_that_could_not_be_loaded_is_loaded_for_who_looks_next(monkeypatch: pytest.MonkeyPatch):
    async def stock_pages() -> None:
        pass

    looks: list[str] = []

    def load() -> None:
        looks.append("load")
        if len(looks) == 1:
            raise MemoryError

    scheduler = SimpleNamespace(http_application=RoutingApplication())
    page = scheduler_pages._Page(
        scheduler, RunPages(), "", SimpleNamespace(when_loaded=[], load_pages=stock_pages)
    )
    page.add()
    monkeypatch.setattr(scheduler_pages, "_import", load)
    monkeypatch.setattr(page, "_show", lambda: looks.append("show"))

    async def look() -> None:
        with pytest.raises(MemoryError):
            await page.load()
        await page.load()
        await page.load()

    asyncio.run(look())

    assert looks == ["load", "load", "show"]
