"""Whether a cluster can run a run's tasks: its workers see the store, and all have versions that go together."""

from __future__ import annotations

import importlib.metadata
import socket
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from daskflow.errors import ClusterError, DaskflowException
from daskflow.store.storage import storage_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MUST_BE_EQUAL = ("Python", "daskflow", "dask", "distributed")
"""What is sent between processes has another form in another version of these."""
SHOULD_BE_EQUAL = ("cloudpickle", "numpy", "pandas", "polars", "pyarrow")
"""Pickles and tables of one version may not be read by another."""
Versions = dict[str, str]


def versions() -> Versions:
    """Those of this process that matter, by name; what is not installed is left out. Of Python no third number."""
    found = {"Python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in (*MUST_BE_EQUAL[1:], *SHOULD_BE_EQUAL):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def look(url: str, path: str) -> tuple[str, Versions, str]:
    """On a worker: its host, its versions, and why it can't see a file of a store, if so."""
    try:
        why = "" if storage_at(url).exists(path) else "it is not there"
    except DaskflowException as error:
        why = error.message
    return socket.gethostname(), versions(), why


def check(client: Any, url: str, path: str, tell: Callable[[str], None]) -> None:
    """Ask the scheduler and the workers that are there.

    Parameters
    ----------
    client
        A Dask client.
    url, path
        A store, and a file of it that is there.
    tell
        Called with a warning.

    Raises :class:`ClusterError` if one can't see the file, or has a version that does not go with ours.
    """
    try:
        answers: Mapping[str, Any] = client.run(look, url, path, on_error="return")
    except ModuleNotFoundError as error:  # the scheduler or a worker can't even read the question
        raise ClusterError(f"The workers can't run tasks: {error}. Install daskflow there.") from error
    ours = versions()
    asked: list[tuple[str, Versions]] = [("the scheduler", _of_scheduler(client))]
    for worker, answer in answers.items():
        if isinstance(answer, BaseException):
            raise ClusterError(
                f"Worker {worker} can't run tasks: {answer}. It needs daskflow {ours['daskflow']}."
            )
        host, theirs, why = answer
        if why:
            raise ClusterError(_unseen(f"Worker {worker} on {host}", url, why))
        asked.append((f"worker {worker}", theirs))
    for words, is_fatal in differences(ours, asked):
        if is_fatal:
            raise ClusterError(f"{words} Install the same version there and here.")
        tell(f"{words} What one writes the other may not be able to read.")


def _of_scheduler(client: Any) -> Versions:
    """Of what has to be equal; it is Dask that answers, since a scheduler may lack daskflow."""
    found = client.sync(client.scheduler.versions, packages=["daskflow"])["packages"]
    python = ".".join(str(found["python"]).split(".")[:2])
    return {"Python": python} | {name: found[name] for name in MUST_BE_EQUAL[1:] if found.get(name)}


def _unseen(worker: str, url: str, why: str) -> str:
    if "://" in url:
        return f"{worker} can't read the store {url}: {why}."
    return (
        f"{worker} does not see the store {url}: {why}. Use a directory that all machines share, or a bucket: "
        "--datastore s3://bucket/prefix."
    )


def differences(ours: Versions, theirs: Iterable[tuple[str, Versions]]) -> list[tuple[str, bool]]:
    """What versions differ, in words, and whether that can't go well. What one side lacks is no difference."""
    where: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for who, found in theirs:
        for name, version in found.items():
            if name in ours and version != ours[name]:
                where[name, version].append(who)
    return [
        (f"{name} is {version} on {_words(all_of_them)}, {ours[name]} here.", name in MUST_BE_EQUAL)
        for (name, version), all_of_them in sorted(
            where.items(), key=lambda item: item[0][0] not in MUST_BE_EQUAL
        )
    ]


def _words(who: list[str]) -> str:
    others = len(who) - 1
    return who[0] if not others else f"{who[0]} and {others} other{'s' if others > 1 else ''}"
