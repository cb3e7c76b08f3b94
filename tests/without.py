"""Mechanisms taken out, one at a time: a pytest plugin that ``tests/test_promises.py`` loads with ``-p tests.without``.

The environment variable ``WITHOUT`` names the mechanism; fork servers of tests inherit it, so that those in other
processes are taken out as well (see ``sitecustomize`` of the test).
"""

from __future__ import annotations

import os
from typing import Any


def replacing_create() -> None:
    """A commit that replaces what is there."""
    from daskflow.store import storage

    def publish(temporary: str, final: str) -> bool:
        os.replace(temporary, final)
        return True

    storage.publish = publish


def bare_write() -> None:
    """A commit that is written in place."""
    from daskflow.store import storage

    def create(self: Any, path: str, data: bytes) -> bool:
        final = self.locate(path)
        os.makedirs(os.path.dirname(final), exist_ok=True)
        try:
            descriptor = os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return False
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            os.write(descriptor, part)
        os.close(descriptor)
        return True

    storage.LocalStorage.create = create  # type: ignore[method-assign]


def no_folder_sync() -> None:
    """A commit whose name may not survive a crash of the machine."""
    from daskflow.store import storage

    storage.sync_folder = lambda folder: None


def no_content_sync() -> None:
    """A commit whose content may not survive a crash of the machine."""
    from daskflow.store import storage

    def write(path: str, data: bytes) -> None:
        with open(path, "xb") as file:
            file.write(data)

    storage.write_durably = write


def replacing_rename() -> None:
    """Where there are no hard links, a rename that replaces what is there."""
    from daskflow.store import storage

    storage._RENAME_NOREPLACE = 0


def no_probe() -> None:
    """A store is believed to keep create-only promises."""
    from daskflow.store import flows

    real = flows.new_run

    def new_run(storage: Any, flow: str, record: Any) -> Any:
        create, created = storage.create, set()

        def believed(path: str, data: bytes) -> bool:
            if path in created:
                return False
            made: bool = create(path, data)
            created.update({path} if made else ())
            return made

        storage.create = believed
        try:
            return real(storage, flow, record)
        finally:
            storage.create = create

    flows.new_run = new_run


def numbers_that_are_only_looked_up() -> None:
    """A run number that is taken because nobody seemed to have it."""
    from daskflow.store import flows, records

    def new_run(storage: Any, flow: str, record: Any) -> Any:
        number = str(max(flows.run_numbers(storage, flow), default=0) + 1)
        storage.create(f"{flow}/{number}/run.json", records.encode({"format": 1} | record(number)))
        return flows.RunStore(storage, flow, number)

    flows.new_run = new_run


def unpickled_items() -> None:
    """Plain items of a foreach that are pickles."""
    from daskflow.store import items

    items._json_text = lambda item: None


def silent_damage() -> None:
    """A damaged record that is taken for one that is not there."""
    from daskflow.errors import StoreError
    from daskflow.store import runs

    real = runs.RunStore.read

    def read(self: Any, path: str) -> Any:
        try:
            return real(self, path)
        except StoreError:
            return None

    runs.RunStore.read = read  # type: ignore[method-assign]


def own_record_counts() -> None:
    """An execution that takes its own record for the one that counts."""
    from daskflow.store import chunks, records, runs

    def commit(self: Any, record: Any) -> Any:
        self.storage.create(self.layout.commit(record.name), records.encode(record.to_json()))
        return record

    def commit_chunk(self: Any, chunk: Any, content: bytes) -> Any:
        self._storage.create(self._layout.chunk(chunk.tasks), content)
        return chunk

    runs.RunStore.commit = commit  # type: ignore[method-assign]
    chunks.Chunks.commit = commit_chunk  # type: ignore[method-assign]


def no_look_before_running() -> None:
    """A task that is run again though it is committed."""
    from daskflow.task import execute as module

    real = module.run_store

    def blind(*where: str) -> Any:
        store = real(*where)
        if "committed_alone" not in vars(store):
            seen = store.committed_alone
            store.committed_alone = lambda name: seen(name) if name.step.startswith("_") else None  # type: ignore[method-assign]
            store.chunks.read = lambda tasks: None  # type: ignore[method-assign]
        return store

    module.run_store = blind  # type: ignore[assignment]


def shared_execution_names() -> None:
    """Two executions that write under one name."""
    from daskflow.task import execute, sharing

    execute.new_execution = sharing.new_execution = lambda attempt: f"{attempt}.same"


def copied_randomness() -> None:
    """Forks that draw the same numbers."""
    from daskflow.task import randomness

    randomness.freshen = lambda: None


def orphans_are_left() -> None:
    """A fork server that does not care for what tasks leave running."""
    from daskflow.task import server

    server.Server._adopt = lambda self, ended: None  # type: ignore[method-assign]


def server_outlives_its_worker() -> None:
    """A guard that ends the fork server and nothing else."""
    from daskflow.task import guard, wire

    guard.end_descendants = lambda grace, keep=0: None
    wire.die_with_parent = lambda signal: None


def everything_is_forked() -> None:
    """A flow whose import started threads is forked all the same."""
    from daskflow.task import hazards

    hazards.why_not_fork = lambda: None


def failures_leave_no_record() -> None:
    """A failed attempt that leaves nothing to read."""
    from daskflow.store import runs

    runs.RunStore.save_attempt = lambda self, record: None  # type: ignore[method-assign]


def ids_of_launch_order() -> None:
    """Task ids that depend on the order of events."""
    import itertools

    from daskflow.engine import frontier

    count = itertools.count()
    frontier.task_id = lambda indices, iteration=0: str(next(count))


def code_is_read_again() -> None:
    """Tasks that run whatever the flow's files hold by now."""
    from daskflow.task import code

    real = code.load

    def load(store: Any, *which: Any) -> code.Code:
        found = real(store, *which)
        now = {name: open(os.path.join(found.root, name), "rb").read() for name in found.files}  # noqa: SIM115
        return code.Code(found.root, found.main, found.module, now)

    code.load = load


def pickles_are_loaded_for_types() -> None:
    """A listing that loads values."""
    from daskflow.client import artifacts

    artifacts.DataArtifact.type = property(lambda self: type(self.data).__name__)  # type: ignore[assignment,misc]


def open_to_the_network() -> None:
    """A cluster that listens on every interface."""
    from daskflow.clusters import local

    local.LOOPBACK = "0.0.0.0"


def no_encryption() -> None:
    """A port for tasks that anyone on the machine may use."""
    from daskflow.clusters import local

    async def listen(scheduler: Any) -> None:
        await scheduler.listen(f"tcp://{local.LOOPBACK}:0")

    local._listen_to_tasks = listen


if "WITHOUT" in os.environ:
    globals()[os.environ["WITHOUT"]]()
