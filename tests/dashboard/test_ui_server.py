"""``daskflow ui``: who gets an answer, and what the API says."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from pages import ROOT, TOOL, Ui, Written, ui_of

from daskflow.dashboard.server import PORT
from daskflow.store.records import Log

if TYPE_CHECKING:
    from pathlib import Path

ELSEWHERE = "127.1"
"""An address that only the system knows to be loopback: to us it is one by which others come, though none can."""


def get(address: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers of an answer; a redirection is one."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    try:
        with urllib.request.build_opener(Stay).open(
            urllib.request.Request(address, headers=headers), timeout=30
        ) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), dict(error.headers)


def asked(ui: Ui, path: str) -> dict[str, Any]:
    status, body, headers = get(f"{ui.origin}/daskflow/api/{path}")
    assert headers["Content-Type"].startswith("application/json")
    return json.loads(body) | {"status": status}


def opened(ui: Ui, **headers: str) -> int:
    """The status with which the page's websocket answers a browser that says it is on a page of this origin: 101 if it opens."""
    asks = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol": "bokeh, token",
    }  # fmt: skip
    with contextlib.closing(
        http.client.HTTPConnection(ui.origin.removeprefix("http://"), timeout=30)
    ) as connection:
        connection.request("GET", "/daskflow/ws", headers=asks | headers)
        return connection.getresponse().status


def test_runs_are_listed_filtered_and_paged(troubles_ui: Ui):
    found = asked(troubles_ui, "runs?limit=1")

    assert (found["version"], found["total"], found["offset"], found["limit"]) == (1, 2, 0, 1)
    assert (found["runs"][0]["flow"], found["runs"][0]["run"]) == ("Trouble", "2")
    assert [run["run"] for run in asked(troubles_ui, "runs?status=failed")["runs"]] == ["1"]
    assert [run["run"] for run in asked(troubles_ui, "runs?words=NIGHT")["runs"]] == ["1"]
    assert asked(troubles_ui, "runs?flow=Other")["total"] == 0
    assert found["trouble"] == ""


def test_a_run_a_step_and_a_task_are_told(troubles_ui: Ui):
    run = asked(troubles_ui, "runs/Trouble/1")
    step = asked(troubles_ui, "runs/Trouble/1/fit?limit=2&sort=task&descending=1")
    task = asked(troubles_ui, "runs/Trouble/1/fit/11")
    table = asked(troubles_ui, "runs/Trouble/1/start/0?table=wide&column=1999")

    assert run["run"]["failed"] == 1
    assert [each["name"] for each in run["steps"]][:2] == ["start", "again"]
    assert ([each["task"] for each in step["tasks"]], step["total"]) == (["11", "10"], 12)
    assert task["task"]["error"]["exception"] == "item 11 is <b>too bad</b>"
    assert task["task"]["row"]["value"] == "11"
    assert isinstance(task["task"]["row"]["peak_memory"], int)
    assert [each["name"] for each in table["task"]["table"]["columns"]] == ["<i>column 1999</i>"]


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("runs/Trouble/9", 404, "There is no run Trouble/9."),
        ("runs/Trouble/1/nothing", 404, "Run Trouble/1 has no step nothing."),
        ("runs/Trouble/1/fit/99", 404, "has not begun, or does not exist"),
        ("runs/Trouble/1/start/0?table=day", 404, "is no table"),
        ("runs/Trouble/1/fit?sort=colour", 400, "There is no column 'colour'"),
        ("runs?limit=1001", 400, "limit must be a whole number from 0 to 1,000"),
        ("runs?limit=000000000000999999", 400, "limit must be a whole number from 0 to 1,000"),
        ("runs?limit=", 400, "limit must be a whole number from 0 to 1,000"),
        ("runs?offset=-1", 400, "offset must be a whole number"),
        ("runs?offset=%25s", 400, "offset must be a whole number from 0 to 2,147,483,648, not '%s'."),
        ("runs/Trouble/1/50%25", 404, "Run Trouble/1 has no step 50%."),
        ("runs/Trouble/1/fit?sort=50%25", 400, "There is no column '50%'"),
        ("runs/Trouble/1/start/0?table=50%25", 404, "has no artifact '50%'."),
        ("runs?words=%ff", 400, "Invalid unicode in words"),
        ("runs/Trouble/x", 404, "There is nothing at /daskflow/api/runs/Trouble/x."),
        ("", 404, "There is nothing at /daskflow/api/."),
    ],
)
def test_what_is_asked_for_wrongly_is_told(troubles_ui: Ui, path: str, status: int, told: str):
    found = asked(troubles_ui, path)

    assert found["status"] == status
    assert told in found["error"]


@pytest.mark.parametrize(
    "path", ["runs/../../etc/passwd", "runs/Trouble/1/..", "runs/Trouble/1/fit/../../x", "nothing"]
)
def test_other_paths_lead_nowhere(troubles_ui: Ui, path: str):
    assert get(f"{troubles_ui.origin}/daskflow/api/{path}")[0] == 404


def test_names_may_have_letters_of_any_language(tmp_path: Path):
    written = Written(tmp_path, {"start": {}, "prüfen": {}}, flow="Größe")
    written.task("prüfen/0")
    written.ended()

    with ui_of(tmp_path) as ui:
        path = urllib.parse.quote("runs/Größe/1/prüfen")
        assert asked(ui, path)["tasks"][0]["state"] == "done"
        assert asked(ui, f"{path}/0")["task"]["step"] == "prüfen"
        assert "prüfen" in get(ui.page(flow="Größe", run="1", step="prüfen", task="0"))[1]


def test_the_api_has_all_tasks_of_a_run_that_nobody_looked_at_before(tmp_path: Path):
    written = Written(tmp_path, {"start": {}, "fit": {}})
    for number in range(500):
        written.task(f"fit/{number}", at=1e9 + number)
    written.ended()

    with ui_of(tmp_path) as ui:
        assert asked(ui, "runs/F/1/fit?limit=0")["total"] == 500


@pytest.mark.parametrize("what", ["fit/1/task.json", "fit/0/0.x0/stdout.log"])
def test_it_ends_at_once_even_if_a_store_does_not_answer(tmp_path: Path, what: str):
    written = Written(tmp_path, {"start": {}, "fit": {}})
    log = Log(size=1, path="F/1/fit/0/0.x0/stdout.log")
    written.task("fit/0", logs={"stdout": log} if what.endswith("log") else {})
    written.task("fit/1")
    written.ended()
    (tmp_path / "F/1" / what).unlink(missing_ok=True)
    (tmp_path / "F/1" / what).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / "F/1" / what)  # who opens it waits for somebody who writes

    with ui_of(tmp_path) as ui:
        address = f"{ui.origin}/daskflow/api/runs/F/1/fit/0"
        asking = threading.Thread(target=ask_in_vain, args=(address,), daemon=True)
        asking.start()
        while what.endswith("log") and asked(ui, "runs/F/1")["run"]["done"] < 2:
            pass
        ui.process.send_signal(signal.SIGINT)
        assert ui.process.wait(15) == 0
    asking.join()


def ask_in_vain(address: str) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        get(address)


def test_a_page_of_somebody_else_can_neither_open_the_websocket_nor_read_under_another_name(troubles: Path):
    with ui_of(troubles) as ui:
        ui.is_silent = False  # it tells of each that it refuses
        port = ui.origin.rpartition(":")[2]

        assert opened(ui, Origin="http://evil.example") == 403
        assert opened(ui, Origin=f"http://evil.example:{port}") == 403
        assert opened(ui, Origin=ui.origin) == 101
        assert get(ui.address)[0] == 200
        status, body, _ = get(ui.address, Host=f"evil.example:{port}")
        assert (status, "under no other name" in body) == (403, True)


def test_through_a_tunnel_it_is_reached_by_another_port(troubles: Path):
    with ui_of(troubles) as ui:
        ui.is_silent = False

        for host in ("localhost:9999", "127.0.0.1:9999", "[::1]:9999"):
            assert get(ui.address, Host=host)[0] == 200
            assert opened(ui, Host=host, Origin=f"http://{host}") == 101
        assert opened(ui, Host="localhost:9999", Origin="http://evil.example:9999") == 403
        assert get(ui.address, Host="localhost.evil.example:9999")[0] == 403


def test_only_one_address_of_this_machine_is_listened_to_unless_told_otherwise(troubles_ui: Ui):
    port = int(troubles_ui.origin.rpartition(":")[2])

    with socket.create_connection(("127.0.0.1", port), timeout=30):
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=30)


def test_without_bokeh_it_says_what_is_missing(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['bokeh'] = None\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}

    done = subprocess.run(
        [sys.executable, "-c", TOOL, "ui", "--datastore", str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr == "Error: The page needs Bokeh: pip install 'bokeh>=3.4'.\n"


def test_elsewhere_it_takes_the_token_of_the_link_and_then_the_cookie(troubles: Path):
    with ui_of(troubles, "--host", ELSEWHERE) as ui:
        ui.is_silent = False
        port = ui.origin.rpartition(":")[2]
        here, token = f"http://127.0.0.1:{port}", ui.address.rpartition("?token=")[2]
        assert len(token) >= 32

        for path in ("/daskflow", "/daskflow/api/runs", "/statics/css/base.css", "/daskflow?token=wrong"):
            status, body, headers = get(here + path)
            assert (status, "Set-Cookie" in headers) == (403, False)
            assert "Trouble" not in body
        local = Ui(f"{here}/daskflow", ui.process)
        assert opened(local, Origin=here) == 403

        status, _, headers = get(f"{here}/daskflow?flow=Trouble&run=1&token={token}")
        assert (status, headers["Location"]) == (302, "/daskflow?flow=Trouble&run=1")
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert get(f"{here}/daskflow", Cookie=cookie.partition(";")[0])[0] == 200
        assert get(f"{here}/daskflow/api/runs", Authorization=f"Bearer {token}")[0] == 200
        assert opened(local, Origin=here, Cookie=cookie.partition(";")[0]) == 101
        assert opened(local, Origin="http://evil.example", Cookie=cookie.partition(";")[0]) == 403


def test_whoever_has_the_token_may_come_by_any_name_of_the_machine(troubles: Path):
    with ui_of(troubles, "--host", ELSEWHERE) as ui:
        ui.is_silent = False
        port, token = ui.origin.rpartition(":")[2], ui.address.rpartition("?token=")[2]
        local, name = Ui(f"http://127.0.0.1:{port}/daskflow", ui.process), f"box.example:{port}"
        known = {"Host": name, "Cookie": f"daskflow-token-{port}={token}"}

        assert opened(local, Origin=f"http://{name}", Host=name) == 403
        assert get(local.address, **known)[0] == 200
        assert opened(local, Origin=f"http://{name}", **known) == 101
        assert opened(local, Origin=f"http://other.example:{port}", **known) == 403


def test_if_the_usual_port_is_taken_another_is_used(tmp_path: Path):
    with contextlib.ExitStack() as stack:
        usual = stack.enter_context(socket.socket())
        with contextlib.suppress(OSError):  # then somebody else has it
            usual.bind(("127.0.0.1", PORT))
            usual.listen()

        with ui_of(tmp_path, port=None) as ui:
            assert ui.origin.rpartition(":")[2] != str(PORT)
            assert get(ui.address)[0] == 200


def test_a_port_that_was_asked_for_and_is_taken_is_told(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with (
            pytest.raises(AssertionError, match=f"Nothing can listen at 127.0.0.1:{port}"),
            ui_of(tmp_path, "--port", str(port)),
        ):
            pass


def test_a_store_that_does_not_exist_yet_has_no_runs(tmp_path: Path):
    with ui_of(tmp_path / "nothing") as ui:
        assert asked(ui, "runs")["total"] == 0
        assert f"There are no runs in {tmp_path}/nothing yet." in get(ui.address)[1]
