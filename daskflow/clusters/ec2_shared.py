"""Clusters in EC2 that stay: started by one command, used by many runs and people, ended by another.

What is known of them stands in EC2, in their machines' tags and user data.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from daskflow.clusters import ec2_account, ec2_clusters
from daskflow.clusters.address import client_of, silence
from daskflow.clusters.by_class import DAEMONS
from daskflow.clusters.ec2_account import MARK, PORT, Place, tags_of
from daskflow.clusters.ec2_fleet import Fleet
from daskflow.clusters.local import SCHEDULING
from daskflow.clusters.tunnel import dashboard_of
from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daskflow.clusters.ec2_account import Account
    from daskflow.clusters.ec2_clusters import Cluster
    from daskflow.clusters.profiles import Ec2Profile

AT_ONCE = 16
"""Machines that are asked for at once."""
WAIT_SECONDS = 5
CONFIGURATION = SCHEDULING | DAEMONS


def find(account: Account, name: str) -> Cluster | None:
    """The shared cluster of that name, whoever started it; None if there is none."""
    return next(
        iter(ec2_clusters.clusters(account, cluster=name, shared="yes", role=ec2_clusters.SCHEDULER)), None
    )


def named(account: Account, name: str) -> Cluster:
    """The shared cluster of that name with its workers. Raises :class:`ClusterError` if there is none."""
    for cluster in ec2_clusters.clusters(account, cluster=name, shared="yes"):
        if cluster.scheduler is not None:
            return cluster
    raise ClusterError(
        f"No cluster '{name}' is up in {account.region}. 'daskflow cluster up {name}' starts it."
    )


def start(
    account: Account, profile: Ec2Profile, owner: str, workers: int, tell: Callable[[str], None]
) -> None:
    """Start a cluster that stays. Raises :class:`ClusterError`, with nothing left."""
    if there := find(account, profile.name):
        raise ClusterError(
            f"The cluster '{profile.name}' of {there.owner} is up already, since {there.created}."
        )
    fleet = Fleet(account, profile, owner, CONFIGURATION, shared=True)
    try:
        fleet.prepare(workers)
        tell(fleet.beginning(workers))
        inner, outer = fleet.start_scheduler()
        first = find(account, profile.name)
        if first is not None and first.id != fleet.id:
            raise ClusterError(
                f"{first.owner} started a cluster '{profile.name}' a moment before; this one is not needed."
            )
        fleet.wait_for_scheduler(outer)
        _start_workers(fleet, inner, workers)
        with client_at(outer, fleet.credentials.security()) as client:
            wait_for_a_worker(client, fleet)
    except BaseException:
        fleet.end()
        raise


def wait_for_a_worker(client: Any, fleet: Fleet) -> None:
    """Return once a worker is there. Raises :class:`ClusterError` if none comes, or no machine is left that could become one."""
    deadline = time.monotonic() + fleet.profile.start_timeout
    while time.monotonic() < deadline:
        try:
            client.wait_for_workers(1, timeout=WAIT_SECONDS)
        except TimeoutError:
            fleet.see_that_workers_live()
        else:
            return
    raise ClusterError(
        f"No worker joined the scheduler within {fleet.profile.start_timeout} seconds (start_timeout). Do the machines of the "
        f"security group reach each other{', and the registry that has the image' if fleet.profile.image else ''}?"
    )


def scale(account: Account, profile: Ec2Profile, workers: int) -> tuple[int, int]:
    """Let the shared cluster of a profile have so many workers; returns how many it had, and how many it gets.

    Idle workers go first; what the others hold goes to those that stay. Whoever adds workers, they are its owner's, as the
    others are. Raises :class:`ClusterError`.
    """
    cluster = named(account, profile.name)
    have = len(cluster.workers)
    if workers > have:
        fleet = Fleet(account, profile, cluster.owner, CONFIGURATION, there=cluster, shared=True)
        fleet.prepare_more(workers - have)
        assert cluster.scheduler is not None
        _start_workers(fleet, cluster.scheduler["PrivateIpAddress"], workers - have)
    elif workers < have:
        _retire(account, profile, cluster, have - workers)
    return have, workers


def _start_workers(fleet: Fleet, scheduler: str, workers: int) -> None:
    """Start machines that join the scheduler; if one can't be started, none of them is left."""
    address = f"tls://{scheduler}:{PORT}"
    with ThreadPoolExecutor(AT_ONCE) as threads:
        names = [f"{fleet.id}-worker-{secrets.token_hex(3)}" for _ in range(workers)]
        started = [threads.submit(fleet.start_worker, name, address) for name in names]
    if failed := [each.exception() for each in started if each.exception()]:
        ec2_account.terminate(fleet.account, [each.result() for each in started if not each.exception()])
        raise failed[0] or AssertionError


def _retire(account: Account, profile: Ec2Profile, cluster: Cluster, workers: int) -> None:
    with connected(account, profile, cluster) as client:
        there = {tags_of(each)[f"{MARK}:name"]: each["InstanceId"] for each in cluster.workers}
        names: list[str] = list(client.sync(client.scheduler.workers_to_close, n=workers, attribute="name"))
        absent = [name for name in there if name not in _names(client)]
        going = [*absent, *(name for name in names if name in there)][:workers]
        client.retire_workers(names=[name for name in going if name not in absent])
    ec2_account.terminate(account, [there[name] for name in going])


def _names(client: Any) -> set[str]:
    return {each["name"] for each in client.scheduler_info(n_workers=-1)["workers"].values()}


@contextlib.contextmanager
def client_at(host: str, security: Any) -> Iterator[Any]:
    """A client of the scheduler on a host."""
    try:
        client = client_of(f"tls://{host}:{PORT}", security=security, timeout=10)
    except OSError as error:
        raise ClusterError(
            f"The scheduler at {host} does not answer: does the security group, or a firewall, let you in? ({error})"
        ) from error
    with silence(), client:
        yield client


@contextlib.contextmanager
def connected(account: Account, profile: Ec2Profile, cluster: Cluster) -> Iterator[Any]:
    """A client of a cluster, which lets in whom the profile lets in."""
    host = cluster.host()
    for block in ec2_account.allowed(profile, Place("", "", f"{host}/32")):
        ec2_clusters.admit(account, cluster, block)
    with client_at(host, cluster.credentials(account).security()) as client:
        yield client


@contextlib.contextmanager
def joined(
    account: Account, profile: Ec2Profile, cluster: Cluster, tell: Callable[[str], None]
) -> Iterator[Any]:
    """A client for a run on a cluster that stays; its dashboard is on this machine."""
    tell(f"The cluster '{cluster.name}' of {cluster.owner} is up, since {cluster.created}.")
    with connected(account, profile, cluster) as client, dashboard_of(client) as link:
        client.cluster = Link(link)
        if not client.nthreads():
            tell(f"It has no worker: 'daskflow cluster scale {cluster.name} N' adds some.")
        yield client
        client.cluster = None


class Link:
    """Stands for a cluster that others own: all that a client may know of it is that it is there, and where its dashboard is."""

    def __init__(self, dashboard_link: str) -> None:
        from distributed.core import Status

        self.dashboard_link = dashboard_link
        self.status = Status.running


def logs(client: Any) -> Iterator[tuple[str, str]]:
    """Who wrote, and a line, of what scheduler and workers remember to have written."""
    for line in reversed(client.get_scheduler_logs()):
        yield "scheduler", line[1]
    names = {
        address: each["name"] for address, each in client.scheduler_info(n_workers=-1)["workers"].items()
    }
    for address, lines in client.get_worker_logs().items():
        for line in reversed(lines):
            yield names.get(address, address), line[1]
