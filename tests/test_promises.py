"""Each mechanism behind a promise is taken out once, and the tests that speak for it must go red."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]

MECHANISMS = {
    # promise, mechanism: where the tests are that must notice
    "P1 replacing_create": "tests/store/test_storage.py",
    "P1 bare_write": "tests/store/test_storage.py",
    "P1 no_folder_sync": "tests/store/test_storage.py",
    "P1 no_content_sync": "tests/store/test_storage.py",
    "P1 replacing_rename": "tests/store/test_storage.py",
    "P1 no_probe": "tests/store/test_runs.py",
    "P1 own_record_counts": "tests/store/test_runs.py",
    "P1 no_look_before_running": "tests/task/test_commit.py",
    "P1 shared_execution_names": "tests/task/test_commit.py",
    "P2 copied_randomness": "tests/task/test_surroundings.py",
    "P2 orphans_are_left": "tests/task/test_left_running.py",
    "P2 server_outlives_its_worker": "tests/task/test_guard.py",
    "P2 everything_is_forked": "tests/task/test_hazards.py",
    "P3 numbers_that_are_only_looked_up": "tests/store/test_runs.py",
    "P3 ids_of_launch_order": "tests/engine/test_frontier.py",
    "P3 code_is_read_again": "tests/task/test_code.py",
    "P4 pickles_are_loaded_for_types": "tests/client/test_client.py",
    "P4 unpickled_items": "tests/store/test_items.py",
    "P5 silent_damage": "tests/store/test_runs.py",
    "P5 failures_leave_no_record": "tests/task/test_exit.py",
    "P6 open_to_the_network": "tests/clusters/test_local.py",
    "P6 no_encryption": "tests/clusters/test_local.py",
}


def run_tests(where: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    # An interpreter that starts without us (a fork server, a fresh one) imports `sitecustomize` first.
    (folder / "sitecustomize.py").write_text(
        "import os\nif 'WITHOUT' in os.environ:\n    import tests.without\n"
    )
    path = os.pathsep.join([str(folder), str(ROOT)])
    try:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", where],
            cwd=ROOT,
            env=os.environ | environment | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    finally:
        end_what_was_left(path)


def end_what_was_left(path: str) -> None:
    """Without its mechanism a promise not to leave anything running is broken; these tests keep it."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("PYTHONPATH") == path:
                process.kill()


OPEN = pytest.param("P6 open_to_the_network", marks=pytest.mark.open_to_others)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mechanism", [OPEN if each == OPEN.values[0] else each for each in MECHANISMS])
def test_without_its_mechanism_a_promise_is_seen_to_break(mechanism: str, tmp_path: Path):
    name = mechanism.split()[1]

    done = run_tests(MECHANISMS[mechanism], tmp_path, WITHOUT=name)

    assert done.returncode == 1, (
        f"nothing went red without {name}:\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    )
    assert " failed" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", sorted(set(MECHANISMS.values())))
def test_with_every_mechanism_in_place_the_same_tests_pass(where: str, tmp_path: Path):
    done = run_tests(where, tmp_path)

    assert done.returncode == 0, done.stdout[-3000:]
