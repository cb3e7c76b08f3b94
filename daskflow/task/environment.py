"""The environment of a run's requirements: made once on a machine, then used by all runs that ask for the same.

It stands in front of what the worker has: a virtual environment whose packages come first, and the worker's own behind
them. pip decides what is missing, with the worker's packages in view, and daskflow among what is asked for; so what it
makes can run tasks, or it makes nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import site
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from daskflow import settings
from daskflow.errors import RequirementsError
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from daskflow.task import requirements as asked
from daskflow.task.unpacked import make_room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from daskflow.task.requirements import Requirements
    from daskflow.task.spec import RunContext

_READY = "daskflow.json"
"""Written into an environment last: it is complete."""
_BEHIND = "_daskflow_behind.pth"
"""Tells the interpreter where the worker's own packages are."""
_CONFLICT = "The conflict is caused by:"
_OTHER_CONTENT = re.compile(r"DO NOT MATCH THE HASHES .*\n\s+(?P<what>\S+ from [^\s#]+[^\s#:])")
_PROGRAM = (
    "import ctypes, runpy, sys; ctypes.CDLL(None).prctl(1, 9); "  # it ends with who started it
    "module = sys.argv.pop(1); runpy.run_module(module, run_name='__main__', alter_sys=True)"
)


class _Calls:
    """Calls of pip, one after the other; another thread may end them.

    Parameters
    ----------
    stopped
        Nothing is to be called any more.
    """

    def __init__(self, stopped: bool = False) -> None:
        self._stopped = stopped
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None

    def call(self, command: Sequence[str], **options: Any) -> int:
        """Run a program; its exit status. If this thread is interrupted, nothing of it is left.

        Raises :class:`RequirementsError` if it was stopped.
        """
        with self._lock:
            self._check()
            self._running = subprocess.Popen(command, start_new_session=True, **options)
        try:
            status = self._running.wait()
        except BaseException:
            _end(self._running)
            self._running.wait()
            raise
        finally:
            with self._lock:
                self._running = None
        self._check()
        return status

    def stop(self) -> None:
        """End what runs, with all that it has started, and call nothing more."""
        with self._lock:
            self._stopped = True
            if self._running is not None:
                _end(self._running)

    def _check(self) -> None:
        if self._stopped:
            raise RequirementsError("The run was stopped, so its environment is not made.")


def _end(leader: subprocess.Popen[bytes]) -> None:
    """End a process with all that is in its group, such as what builds a package."""
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.killpg(leader.pid, signal.SIGKILL)


_of_runs: dict[str, tuple[Future[str], _Calls]] = {}
"""Interpreters of runs by their token, and what makes them: packages that come to the worker later don't change a run."""
_stopped: set[str] = set()
"""Tokens of runs that need none any more."""
_lock = threading.Lock()


def interpreter(run: RunContext, tell: Callable[[str], None] = lambda _: None) -> str:
    """The interpreter of the tasks of a run that has requirements, on this machine; its environment made if it is not there.

    Tasks that come meanwhile wait for it, and fail with it if it can't be made; the next one tries again.
    Raises :class:`RequirementsError`.
    """
    with _lock:
        ours = run.token not in _of_runs
        if ours:
            _of_runs[run.token] = Future(), _Calls(run.token in _stopped)
        found, calls = _of_runs[run.token]
    if ours:
        try:
            found.set_result(make(_of_run(run), run.pins, tell, calls))
        except BaseException as error:
            del _of_runs[run.token]
            found.set_exception(error)
            raise
    _note_use(found.result())
    return found.result()


def stop(run: RunContext) -> None:
    """End in this process what makes the environment of a run, now and later; who waits for it gets an error."""
    with _lock:
        _stopped.add(run.token)
        found = _of_runs.get(run.token)
    if found is not None:
        found[1].stop()


def is_there(run: RunContext) -> bool:
    """Whether the environment of a run need not be made."""
    return _Place.of(_of_run(run), run.pins).is_ready


def _of_run(run: RunContext) -> Requirements:
    record = RunStore(storage_at(run.store), run.flow, run.run).record()
    found = asked.of_record(record)
    assert found is not None
    return found


def enter(requirements: Requirements, fixed: Sequence[str], tell: Callable[[str], None]) -> None:
    """Go on in the environment: replaces this process by one of its interpreter, or returns if it is one.

    Raises :class:`RequirementsError`.
    """
    if os.path.exists(os.path.join(sys.prefix, _READY)):
        return
    python = make(requirements, fixed, tell)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(python, [python, *sys.orig_argv[1:]])


def make(
    requirements: Requirements,
    fixed: Sequence[str],
    tell: Callable[[str], None],
    calls: _Calls | None = None,
) -> str:
    """The interpreter of an environment; if it is there, without a call of pip.

    Parameters
    ----------
    requirements
        What it is to have.
    fixed
        What must be of one version, such as ``dask==2025.9.1``.
    tell
        Called with lines for the user if it has to be made.
    calls
        What calls pip, so that it can be stopped.

    Raises :class:`RequirementsError` if it can't be made; what there is of it is removed.
    """
    place = _Place.of(requirements, fixed)
    _note_use(place.python)
    if place.is_ready:
        return place.python
    try:
        with _only_one(place, requirements, tell) as lock:
            if not place.is_ready:
                tell(f"An environment is made of {requirements.file}, once; what pip says is in {place.log}.")
                began = time.monotonic()
                try:
                    _make(place, requirements, fixed, lock, calls or _Calls())
                except BaseException:
                    shutil.rmtree(place.folder, ignore_errors=True)
                    raise
                make_room(place.folder.parent)
                tell(f"The environment of {requirements.file} took {time.monotonic() - began:.1f} s.")
    except OSError as error:
        raise RequirementsError(
            f"The environment of {requirements.file} can't be made on {socket.gethostname()} in {place.folder}: {error.strerror or error}."
        ) from error
    return place.python


def _note_use(python: str) -> None:
    """Let the environment of an interpreter not make room for others."""
    with contextlib.suppress(OSError):  # it is not there
        os.utime(os.path.dirname(os.path.dirname(python)))


@dataclass(frozen=True)
class _Place:
    """Where an environment is.

    Attributes
    ----------
    folder
        The environment.
    log
        What pip said when it was made, or was to be.
    lock
        Held by who makes it.
    """

    folder: Path
    log: Path
    lock: Path

    @classmethod
    def of(cls, requirements: Requirements, fixed: Sequence[str]) -> _Place:
        """Another one for each difference in what is asked for, or in what the worker itself is and has."""
        machine = [
            sysconfig.get_platform(),
            *platform.libc_ver(),
        ]  # not its kernel, which is updated now and then
        ours = [sys.version, *machine, sys.executable, sys.prefix, *_installed()]
        digest = hashlib.sha256("\n".join([requirements.hash, *fixed, *ours]).encode()).hexdigest()[:24]
        folder = settings.cache_folder() / "environments"
        return cls(folder / digest, folder / f"{digest}.log", folder / f"{digest}.lock")

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def is_ready(self) -> bool:
        return os.path.exists(self.folder / _READY) and os.path.exists(self.python)


def _own_folders() -> list[str]:
    """Where this interpreter's packages are."""
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return [folder for folder in (*site.getsitepackages(), *user) if os.path.isdir(folder)]


def _installed() -> list[str]:
    """Names and versions of this interpreter's packages, as the names of the folders that describe them."""
    names = [name for folder in _own_folders() for name in os.listdir(folder)]
    return sorted(name for name in names if name.endswith((".dist-info", ".egg-info")))


@contextlib.contextmanager
def _only_one(place: _Place, requirements: Requirements, tell: Callable[[str], None]) -> Iterator[int]:
    """Held by one process, or thread, of those that share the folder; yields the lock's descriptor."""
    os.makedirs(place.folder.parent, mode=0o700, exist_ok=True)
    lock = os.open(place.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"Another process makes the environment of {requirements.file}; this one waits for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def _make(place: _Place, requirements: Requirements, fixed: Sequence[str], lock: int, calls: _Calls) -> None:
    _make_empty(place, requirements)
    (place.folder / "requirements.txt").write_text(requirements.text, "utf-8")
    constraints = "".join(f"{pin}\n" for pin in fixed) + requirements.constraints
    (place.folder / "constraints.txt").write_text(constraints, "utf-8")
    with open(place.log, "w", encoding="utf-8") as log:
        call = partial(_call, place, calls, log.fileno(), lock)
        if importlib.util.find_spec("pip") is None and call("ensurepip"):
            raise RequirementsError(
                f"{socket.gethostname()} has no pip for {sys.executable}, and Python brings none (see {place.log}): install pip there."
            )
        options = ["--no-input", "--disable-pip-version-check", "--no-color", "--progress-bar", "off"]
        files = ["-r", str(place.folder / "requirements.txt"), "-c", str(place.folder / "constraints.txt")]
        # What the worker has of these is asked for by name, so that what they need counts as well.
        needed = [pin for pin in fixed if _is_installed(pin.partition("==")[0])]
        if "--hash" in requirements.text:  # then pip wants a hash of everything that is named
            needed = []
        failed = call("pip", "install", *options, *files, *needed)
    if failed:
        said = place.log.read_text("utf-8", "replace")
        raise RequirementsError(
            f"pip on {socket.gethostname()} can't install {requirements.file}: {why(said, fixed)}. What it said is in {place.log}."
        )
    (place.folder / _READY).write_text(json.dumps(requirements.describe() | {"pins": list(fixed)}), "utf-8")


def _make_empty(place: _Place, requirements: Requirements) -> None:
    """An environment without packages of its own, behind which are this interpreter's."""
    try:
        import venv
    except ImportError as error:
        raise RequirementsError(
            f"Python on {socket.gethostname()} has no module venv, which {requirements.file} needs: install it there."
        ) from error
    shutil.rmtree(place.folder, ignore_errors=True)
    venv.EnvBuilder(symlinks=True, with_pip=False).create(place.folder)
    packages = next(place.folder.glob("lib/python*/site-packages"))
    behind = (f"import site; site.addsitedir({folder!r})\n" for folder in _own_folders())
    (packages / _BEHIND).write_text("".join(behind), "utf-8")


def _call(place: _Place, calls: _Calls, log: int, lock: int, *words: str) -> int:
    """Run a module's program, ``words``, in an environment; its exit status.

    It holds the lock too: if this process is killed, nobody else begins before it has gone.
    """
    variables = os.environ | {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_DRY_RUN"):  # it would go elsewhere
        variables.pop(name, None)
    return calls.call(
        [place.python, "-I", "-c", _PROGRAM, *words],
        env=variables,
        pass_fds=[lock],
        cwd=place.folder,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def why(said: str, fixed: Sequence[str] = ()) -> str:
    """The reason in what pip said, without a full stop."""
    if _CONFLICT in said:
        block = said.partition(_CONFLICT)[2].strip().partition("\n\n")[0]
        return "; ".join(dict.fromkeys(_clause(line.strip(), fixed) for line in block.splitlines()))
    if found := _OTHER_CONTENT.search(said):
        return f"{found['what']} has another content than the requirements say"
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it ended without a word"]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = (errors or lines)[-1]
    if "Retrying (" in said:
        reason = f"the package index does not answer; {reason}"
    return reason.rstrip(".")


def _clause(line: str, fixed: Sequence[str]) -> str:
    """A line of a conflict in the words of who reads it here."""
    what = line.removeprefix("The user requested ")
    if what == line:
        return line
    wanted = what.removeprefix("(constraint) ")
    if wanted in fixed:
        return f"tasks must have {wanted}, as the command that starts the run has it"
    return f"a constraint is {wanted}" if wanted != what else f"the file asks for {wanted}"
