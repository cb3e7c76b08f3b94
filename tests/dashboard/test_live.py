"""A run is shown by the dashboard of its cluster while it goes, and none suffers from being shown."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

import pytest
from live import FLOW, ROOT, Cluster, cluster_in, run_in, websocket_status, websocket_status_of
from watching import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PREFIX = ("--dashboard-address", "127.0.0.1:0", "--dashboard-prefix", "/pre")
SETTING = "DASK_DISTRIBUTED__SCHEDULER__DASHBOARD__BOKEH_APPLICATION"


def get(address: str) -> str:
    text: str = urllib.request.urlopen(address, timeout=60).read().decode()
    return text


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One whose dashboard is behind a prefix, and is reached by a name that only a setting knows."""
    box = {f"{SETTING}__ALLOW_WEBSOCKET_ORIGIN": '["box.example"]'}
    with cluster_in(tmp_path_factory.mktemp("cluster"), *PREFIX, scheduler_environment=box) as found:
        yield found


def test_a_run_on_this_machine_shows_how_far_it_is_and_what_it_works_on(tmp_path: Path):
    with run_in(tmp_path, "--max-workers", "2", "--isolate") as run:
        run.wait_for_counts("work", done=2, running=2)
        tasks = run.ask("/Live/1/work")["tasks"]
        head = run.ask("/Live/1")["run"]
        run.go_on()

        assert run.ends() == 0
    assert head["status"] == "running"
    assert head["parameters"] == {"items": "4", "fails": "-1"}
    assert head["user"] == "ada"
    done = {each["task"]: each for each in tasks if each["state"] == "done"}
    assert {task: each["value"] for task, each in done.items()} == {"0": "item 0", "1": "item 1"}
    for each in done.values():
        assert each["seconds"] >= 0
        assert each["peak_memory"] > 1_000_000
        assert each["pid"]
    running = {each["task"]: each["value"] for each in tasks if each["state"] == "running"}
    assert running == {"2": "item 2", "3": "item 3"}


def test_of_items_that_share_a_process_it_is_shown_how_many_are_done_before_they_are_committed(
    tmp_path: Path,
):
    with run_in(tmp_path, "--max-workers", "1", "--chunk", "100", "--items", "100") as run:
        wait_until(lambda: run.counts("work")["done"] > 0, 60)
        shown = run.counts("work")
        committed = list((tmp_path / "store" / "Live" / "1" / "work").glob("chunk.*.json"))
        run.go_on()

        assert run.ends() == 0
    assert committed == []
    assert shown["running"] == 1
    assert shown["done"] + shown["waiting"] == 99


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_page_that_is_open_shows_how_the_run_ended(tmp_path: Path):
    from bokeh.client import pull_session

    with run_in(tmp_path, "--max-workers", "2", "--fails", "3", "--grace", "60") as run:
        run.wait_for_counts("work", retried=1)
        page = run.page
        get(page)
        session = pull_session(url=page)
        parts = session.document.get_model_by_name("parts")
        begun = parts.data["head"][0]
        run.go_on()
        session._loop_until_closed()

        assert run.ends() == 1
    head = parts.data["head"][0]
    del session, parts
    gc.collect()  # Bokeh's client leaves its socket to the collector
    assert "running" in begun
    assert "failed" in head
    assert "continue 1" in head


def test_a_failed_attempt_is_shown_with_its_error_and_counts_as_a_retry(tmp_path: Path):
    with run_in(tmp_path, "--max-workers", "3", "--isolate", "--fails", "0") as run:
        run.wait_for_counts("work", failed=1, retried=1)
        first = run.ask("/Live/1/work")["tasks"][0]
        run.go_on()

        assert run.ends() == 1
    assert (first["task"], first["state"], first["attempt"]) == ("0", "failed", 1)
    assert first["error"] == "builtins.ValueError: not <b>item 0</b>"
    assert first["value"] == "item 0"


def test_a_task_that_runs_shows_what_it_wrote(tmp_path: Path):
    with run_in(tmp_path, "--max-workers", "2", "--isolate") as run:
        run.wait_for_counts("work", running=2)
        wait_until(lambda: "works on item 2" in str(run.ask("/Live/1/work/2")), 60)
        run.go_on()

        assert run.ends() == 0


def test_what_a_run_that_goes_on_had_done_before_is_shown_as_reused(tmp_path: Path):
    with run_in(tmp_path, "--max-workers", "3", "--isolate", "--fails", "0", "--grace", "0") as failed:
        assert failed.ends() == 1
    with run_in(tmp_path, "--max-workers", "2", "--isolate", command="continue") as run:
        wait_until(lambda: run.counts("work")["retried"] or run.counts("work")["failed"], 60)
        start = run.counts("start")
        run.go_on()

        assert run.ends() == 1
    assert (start["done"], start["reused"]) == (1, 1)


def test_two_runs_on_a_cluster_are_both_shown_also_if_they_have_the_same_number(
    cluster: Cluster, tmp_path: Path
):
    on = ("--cluster", cluster.address, "--isolate")
    with run_in(tmp_path / "one", *on) as one, run_in(tmp_path / "two", *on, "--items", "6") as two:
        names = [dict(urllib.parse.parse_qsl(each.page.partition("?")[2])) for each in (one, two)]
        for run, name in zip((one, two), names, strict=True):
            wait_until(lambda run=run, name=name: run.counts("start", name["run"])["done"] == 1, 60)
        shown = {each["run"]: each["store"] for each in one.ask()["runs"] if each["status"] == "running"}
        one.go_on()
        two.go_on()

        assert (one.ends(), two.ends()) == (0, 0)
        assert shown == {
            names[0]["run"]: str(tmp_path / "one" / "store"),
            names[1]["run"]: str(tmp_path / "two" / "store"),
        }
        assert sorted(each["run"] for each in names) == ["1", "1@2"]
        for run, name in zip((one, two), names, strict=True):
            assert run.ask(f"/Live/{name['run']}")["run"]["status"] == "successful"


def test_the_page_is_behind_the_prefix_and_in_the_navigation_bar_of_all_pages(
    cluster: Cluster, tmp_path: Path
):
    with run_in(tmp_path, "--cluster", cluster.address) as run:
        page = run.page
        run.go_on()
        assert run.ends() == 0
    root = page.partition("/pre/daskflow")[0]

    assert page.startswith("http://127.0.0.1:")
    assert "/pre/daskflow?" in page
    for name in ("status", "workers", "tasks", "system", "profile", "graph", "groups", "daskflow"):
        assert get(f"{root}/pre/{name}").count('href="daskflow"') == 1, name
    assert "individual" in get(f"{root}/pre/individual-plots.json")


def test_a_run_whose_driver_was_killed_is_shown_as_lost(cluster: Cluster, tmp_path: Path):
    with run_in(tmp_path, "--cluster", cluster.address, "--isolate") as run:
        name = dict(urllib.parse.parse_qsl(run.page.partition("?")[2]))["run"]
        wait_until(lambda: run.counts("work", name)["running"] == 2, 60)

        assert run.ask(f"/Live/{name}")["run"]["commands"] is None
        run.process.kill()

        wait_until(lambda: run.ask(f"/Live/{name}")["run"]["status"] == "lost", 60)
        assert " continue 1" in run.ask(f"/Live/{name}")["run"]["commands"][0]
        run.go_on()


def test_only_pages_of_the_dashboard_itself_may_open_its_websocket(cluster: Cluster, tmp_path: Path):
    with run_in(tmp_path, "--cluster", cluster.address) as run:
        page = run.page
        run.go_on()
        assert run.ends() == 0
    own = page.partition("/pre/")[0]

    assert websocket_status(page, own) == 101
    assert websocket_status(page, "http://localhost:9000") == 101  # as through a tunnel
    assert websocket_status(page, "http://evil.example") == 403
    assert websocket_status(page, f"http://evil.example:{own.rpartition(':')[2]}") == 403


def test_a_websocket_may_be_opened_before_anybody_has_looked_at_the_page(tmp_path: Path):
    from bokeh.util.token import generate_jwt_token, generate_session_id

    with run_in(tmp_path) as run:
        page = run.page
        token = generate_jwt_token(generate_session_id())

        assert websocket_status_of(token, page, "http://evil.example") == 403
        assert websocket_status_of(token, page, page.partition("/daskflow")[0]) == 101
        assert websocket_status(page) == 101
        run.go_on()
        assert run.ends() == 0


def test_a_browser_that_was_led_to_the_dashboard_under_another_name_gets_nothing_of_a_run(
    cluster: Cluster, tmp_path: Path
):
    with run_in(tmp_path, "--cluster", cluster.address) as run:
        page = run.page
        run.go_on()
        assert run.ends() == 0
    port = urllib.parse.urlsplit(page).port
    api = f"{page.partition('?')[0]}/api/runs"

    def status(address: str, host: str) -> int:
        try:
            with urllib.request.urlopen(
                urllib.request.Request(address, headers={"Host": host}), timeout=60
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    evil = f"evil.example:{port}"
    assert status(page, "localhost:9000") == 200  # as through a tunnel, which loads the page
    assert [status(page, evil), status(api, evil), websocket_status(page, f"http://{evil}", evil)] == 3 * [
        403
    ]
    for known in ("localhost:9000", f"10.1.2.3:{port}", "[::1]:9000", "box.example"):
        assert (status(page, known), status(api, known)) == (200, 200)
    assert websocket_status(page, "http://box.example", "box.example") == 101
    assert websocket_status(page, "http://localhost:9000", "localhost:9000") == 101


def test_a_scheduler_that_is_lost_ends_the_run_as_ever_also_with_the_page_open(tmp_path: Path):
    with (
        cluster_in(tmp_path, "--dashboard-address", "127.0.0.1:0") as cluster,
        run_in(tmp_path, "--cluster", cluster.address, "--isolate") as run,
    ):
        wait_until(lambda: run.counts("work")["running"] == 2, 60)
        assert websocket_status(run.page) == 101

        cluster.scheduler.kill()

        assert run.ends() == 1
        run.go_on()
    assert "The scheduler is gone" in run.output
    assert "Traceback" not in run.output
    assert "dashboard is told" not in run.output


def test_tasks_whose_worker_is_lost_wait_again(tmp_path: Path):
    with (
        cluster_in(tmp_path, "--dashboard-address", "127.0.0.1:0") as cluster,
        run_in(tmp_path, "--cluster", cluster.address, "--isolate", "--items", "8") as run,
    ):
        run.wait_for_counts("work", done=4, running=4)

        cluster.workers[0].kill()

        run.wait_for_counts("work", done=4, running=2, waiting=2)
        run.go_on()
        assert run.ends() == 0


def test_a_scheduler_without_a_dashboard_is_told_in_a_line_and_the_run_goes_on(tmp_path: Path):
    with (
        cluster_in(tmp_path, "--no-dashboard", workers=1) as cluster,
        run_in(tmp_path, "--cluster", cluster.address) as run,
    ):
        run.go_on()

        assert run.ends() == 0
    lines = [line for line in run.output.splitlines() if "dashboard" in line.lower()]
    assert len(lines) == 1
    assert lines[0].endswith("The scheduler was started without its dashboard, so none shows the run.")


def test_a_scheduler_without_bokeh_is_told_in_a_line_and_the_run_goes_on(tmp_path: Path):
    without = tmp_path / "without"
    without.mkdir()
    (without / "sitecustomize.py").write_text("import sys\nsys.modules['bokeh'] = None\n")
    environment = {"PYTHONPATH": f"{without}{os.pathsep}{ROOT}"}
    where = ("--dashboard-address", "127.0.0.1:0")
    with (
        cluster_in(tmp_path, *where, workers=1, scheduler_environment=environment) as cluster,
        run_in(tmp_path / "run", "--cluster", cluster.address) as run,
    ):
        run.go_on()

        assert run.ends() == 0
    lines = [line for line in run.output.splitlines() if "dashboard" in line.lower()]
    assert len(lines) == 1
    assert "no Bokeh" in lines[0]
    assert "pip install bokeh" in lines[0]


def test_a_scheduler_without_daskflow_is_told_in_a_line(tmp_path: Path):
    """Nothing runs there: its workers can't have it either, or Dask could not hand them anything."""
    environment = {"PYTHONPATH": "", "PYTHONSAFEPATH": "1"}
    hide = tmp_path / "hide"
    hide.mkdir()
    (hide / "sitecustomize.py").write_text("import sys\nsys.modules['daskflow'] = None\n")
    environment["PYTHONPATH"] = str(hide)
    where = ("--dashboard-address", "127.0.0.1:0")
    with (
        cluster_in(tmp_path, *where, workers=1, scheduler_environment=environment) as cluster,
        run_in(tmp_path / "run", "--cluster", cluster.address) as run,
    ):
        wait_until(lambda: "can't show the run" in run.output, 60)
        run.process.send_signal(signal.SIGTERM)
        run.go_on()
        run.ends()
    assert "is this daskflow installed there?" in run.output


def test_without_a_dashboard_neither_bokeh_nor_any_of_it_is_loaded(tmp_path: Path):
    (tmp_path / "go").touch()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(FLOW), "--datastore", "store", "run", "--no-dashboard"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "Dashboard" not in done.stdout
    assert "distributed.scheduler" in done.stderr
    assert "bokeh" not in done.stderr
    assert "daskflow.dashboard" not in done.stderr
