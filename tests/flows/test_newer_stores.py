"""A store that a later version of daskflow wrote: every command and the client say so in a sentence, and touch nothing."""

from __future__ import annotations

import json

import pytest

from daskflow import Flow, Run, Task
from daskflow.errors import DamagedRecordWarning, StoreError
from daskflow.store.records import FORMAT

FLOW = """
    from daskflow import FlowSpec, step

    class Later(FlowSpec):
        @step
        def start(self):
            print("hello")
            self.x = 1
            self.next(self.end)

        @step
        def end(self):
            assert self.x == 2

    if __name__ == "__main__":
        Later()
"""
SAYS = f"has format {FORMAT + 1}; this version of daskflow reads up to {FORMAT}. Nothing was changed; install a newer"


def contents(place):
    return {path: place.store.read(path) for path in place.store.all()}


@pytest.fixture(scope="module")
def later(workspace):
    """A run that has failed, all records of which are of a later format."""
    place = workspace()
    place.write(FLOW)
    assert place.call("flow.py", "run", "--tag", "t").returncode == 1
    for path in place.store.all("Later"):
        if path.endswith(".json"):
            place.store.write(path, json.dumps(place.store.json(path) | {"format": FORMAT + 1}).encode())
    return place


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "continue 1",
        "continue",
        "resume",
        "resume --origin-run-id 1",
        "debug 1/end/0",
        "dump 1",
        "dump 1/start/0",
        "dump --json 1",
        "logs 1",
        "logs 1/start",
        "logs 1/end/0",
        "tag add --run-id 1 x",
        "tag remove --run-id 1 t",
        "tag list --run-id 1",
    ],
)
def test_commands_say_so_in_a_sentence_and_touch_nothing(later, command):
    before = contents(later)

    result = later.call("flow.py", "--quiet", *command.split())

    assert result.returncode == 1, result.text
    assert SAYS in result.stderr
    assert result.stderr.count(SAYS) == 1
    assert len(result.stderr.strip().splitlines()) <= 2, result.stderr
    assert "Traceback" not in result.text
    assert contents(later) == before


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: Run("Later/1", store=store).status,
        lambda store: Run("Later/1", store=store).tags,
        lambda store: Run("Later/1", store=store).successful,
        lambda store: Run("Later/1", store=store)["start"].task.data.x,
        lambda store: Task("Later/1/start/0", store=store).stdout,
    ],
)
def test_the_client_says_so_in_a_sentence(later, ask):
    before = contents(later)

    with pytest.raises(StoreError, match=SAYS):
        ask(later.store.url)

    assert contents(later) == before


def test_a_later_run_beside_it_does_not_disturb_it_and_listings_leave_it_out_with_a_line(workspace):
    later = workspace()
    later.write(FLOW)
    later.write(FLOW.replace("== 2", "== 1"), "good.py")
    later.call("flow.py", "run", flow="Later")
    later.call("good.py", "run", flow="Later")
    for path in later.store.all("Later/1"):
        if path.endswith(".json"):
            later.store.write(path, json.dumps(later.store.json(path) | {"format": FORMAT + 1}).encode())
    before = contents(later)

    result = later.call("good.py", "run", flow="Later")
    listed = later.call("flow.py", "--quiet", "tag", "list", "--all")
    with pytest.warns(DamagedRecordWarning, match=SAYS):
        found = [run.id for run in Flow("Later", store=later.store.url)]

    assert result.returncode == listed.returncode == 0, result.text + listed.text
    assert found == ["3", "2"]
    assert (
        listed.stderr.splitlines()[0] == f"{later.store.storage.locate('Later/1/run.json')} {SAYS} daskflow."
    )
    assert "Warning" not in listed.stderr
    assert {path: content for path, content in contents(later).items() if path in before} == before
