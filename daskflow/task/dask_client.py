"""A Dask client for a step that uses Dask itself, made when Dask first looks for one.

On a cluster of several processes it is a client of that cluster, and the task gives its slot back, or it would wait for
itself. On this machine's cores the slots have no processes that could compute a collection, so the task gets workers of its
own: they are its children, have the memory that the step asked for, and end with it.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any

from daskflow.task import wire
from daskflow.task.certificate import run_security

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterator, Sequence

    from distributed.security import Security

    from daskflow.task.spec import TaskSpec

MODULE = "distributed.client"
LOOPBACK = "127.0.0.1"
CLOSE_SECONDS = 5.0
START_SECONDS = 60
LOSING = {
    # Nobody starts a worker anew that is lost, for want of memory say: its step fails, and does not wait for ever.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.no-workers-timeout": "5s",
}


_slots = threading.local()


def give_back_slot() -> None:
    """On a worker, in the thread of a task: others may run in its place. Dask gives that thread no other task then."""
    from distributed import secede

    if not getattr(_slots, "given_back", False):  # tasks that come together take one slot
        _slots.given_back = True
        secede()


def remove_scratch(pid: int) -> None:
    """On a worker, after the end of a task's process: what its own Dask workers had put on disk."""
    shutil.rmtree(_scratch_of(pid), ignore_errors=True)


def _scratch_of(pid: int) -> str:
    return os.path.join(tempfile.gettempdir(), f"daskflow-{os.getuid()}-{pid}")


@contextlib.contextmanager
def offered(spec: TaskSpec, tell: Callable[[bytes], None]) -> Iterator[None]:
    """Let Dask find a client in this process meanwhile, unless the step makes one or names another scheduler."""
    offer = _Offer(spec, tell)
    if MODULE in sys.modules:
        offer.stand_in(sys.modules[MODULE])
    else:
        sys.meta_path.insert(0, _WhenImported(offer.stand_in))
    try:
        yield
    finally:
        offer.end()


class _Offer:
    def __init__(self, spec: TaskSpec, tell: Callable[[bytes], None]) -> None:
        self._spec = spec
        self._tell = tell
        self._owner = os.getpid()
        self._left = threading.Lock()
        self._waiting: set[threading.Thread] = set()
        self._made = threading.Event()
        self._workers: list[subprocess.Popen[bytes]] = []
        self._client: Any = None

    def stand_in(self, module: types.ModuleType) -> None:
        """Be asked where Dask looks for the client of this process."""
        look: Callable[[], Any] = module._get_global_client

        def look_or_make() -> Any:
            return look() or self._make()

        module._get_global_client = look_or_make  # type: ignore[attr-defined] # as above

    def _make(self) -> Any:
        import dask

        if os.getpid() != self._owner or dask.config.get("scheduler", None):
            return None
        if not self._left.acquire(blocking=False):
            return self._made_by_another()
        self._waiting = set(threading.enumerate()) - {threading.current_thread()}
        try:
            self._client = self._of_cluster() if self._spec.scheduler else self._of_own_workers()
        finally:
            self._made.set()
        return self._client

    def _made_by_another(self) -> Any:
        """What another thread of the step makes; None to the threads that Dask starts for that, and in the end."""
        if threading.current_thread() not in self._waiting:
            return None
        self._made.wait(START_SECONDS)
        return self._client

    def end(self) -> None:
        """Nothing is made any more, and what was made is gone."""
        if os.getpid() != self._owner:
            return
        self._left.acquire(blocking=False)
        for worker in self._workers:  # they hold nothing that anybody needs
            worker.kill()
        for worker in self._workers:
            worker.wait()
        if self._client is not None:
            self._client.close(CLOSE_SECONDS)
        remove_scratch(self._owner)

    def _of_cluster(self) -> Any:
        from distributed import Client

        self._tell(wire.DASK)
        return Client(self._spec.scheduler, set_as_default=True)

    def _of_own_workers(self) -> Any:
        import dask
        from distributed import Client, Scheduler, SpecCluster

        _silence()  # that its workers are lost is how it ends
        policy = self._spec.node.policy
        count = max(1, int(policy.cpu or len(os.sched_getaffinity(0))))
        limit = f"{int(policy.memory / count)}MB" if policy.memory else "auto"
        security = run_security()
        options = {"protocol": "tls://", "host": LOOPBACK, "security": security}
        options |= {"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}
        with dask.config.set(LOSING):
            cluster = SpecCluster(
                scheduler={"cls": Scheduler, "options": options}, workers={}, security=security
            )
        scratch = _scratch_of(self._owner)
        remove_scratch(self._owner)  # of a process that had its number long ago
        os.mkdir(scratch, 0o700)
        address = cluster.scheduler_address
        self._workers += [_start_worker(address, security, limit, scratch) for _ in range(count)]
        client = Client(cluster, set_as_default=False)
        client.wait_for_workers(count, START_SECONDS)
        _set_default(client)
        return client


def _set_default(client: Any) -> None:
    """Let it be the one that Dask finds, now that it has workers."""
    from distributed.client import _set_global_client

    _set_global_client(client)


def _silence() -> None:
    """No lines of Dask's loggers, each of which has a level of its own."""
    for name in logging.root.manager.loggerDict:
        if name.startswith("distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _start_worker(scheduler: str, security: Security, limit: str, scratch: str) -> subprocess.Popen[bytes]:
    """A process with one thread; what it needs to be let in comes in its environment, which nobody else can read."""
    import dask

    command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--no-nanny", "--no-dashboard"]
    command += ["--nthreads", "1", "--memory-limit", limit, "--death-timeout", str(START_SECONDS)]
    command += ["--host", LOOPBACK, "--dashboard-address", f"{LOOPBACK}:0", "--local-directory", scratch]
    tls = {"ca-file": security.tls_ca_file}
    tls |= {"worker": {"cert": security.tls_worker_cert, "key": security.tls_worker_key}}
    config = {
        "distributed": {
            "comm": {"tls": tls, "require-encryption": True},
            # One that has too much writes to disk what it can, and goes on: if all of them stood still, nothing would.
            "worker": {"memory": {"pause": False, "terminate": False}},
        },
        "logging": {"distributed": "critical"},
    }
    inherited = dask.config.merge(dask.config.config, config)
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        env=os.environ
        | {name: str(value) for name, value in dask.config.get("distributed.nanny.pre-spawn-environ").items()}
        | {
            "DASK_INTERNAL_INHERIT_CONFIG": dask.config.serialize(inherited),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
    )


class _WhenImported:
    """Sees that a module is imported and has its say once it is there."""

    def __init__(self, say: Callable[[types.ModuleType], None]) -> None:
        self._say = say

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's own, with a loader that calls back."""
        if fullname != MODULE:
            return None
        sys.meta_path.remove(self)
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if found is not None and found.loader is not None:
            run = found.loader.exec_module

            def run_and_say(module: types.ModuleType) -> None:
                run(module)
                self._say(module)

            found.loader.exec_module = run_and_say  # type: ignore[method-assign] # of this loader alone
        return found
