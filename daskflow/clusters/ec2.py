"""Machines in EC2: started for a run, ended with it, whatever happens."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
from typing import TYPE_CHECKING, Any

from daskflow.clusters import ec2_shared
from daskflow.clusters.address import client_of, silence
from daskflow.clusters.demand import Demand
from daskflow.clusters.ec2_account import Account
from daskflow.clusters.ec2_fleet import Fleet
from daskflow.clusters.tunnel import dashboard_of
from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daskflow.clusters import Purpose
    from daskflow.clusters.profiles import Ec2Profile


def check(profile: Ec2Profile, purpose: Purpose) -> None:
    """See that machines elsewhere can be had and used, before anything starts. Raises :class:`ClusterError`."""
    if importlib.util.find_spec("dask_cloudprovider") is None:
        raise ClusterError(f"Profile '{profile.name}' needs dask-cloudprovider: pip install 'daskflow[ec2]'.")
    if "://" not in purpose.store:
        raise ClusterError(
            f"Machines in EC2 can't see the store {purpose.store}, a directory of this machine. Use a bucket: --datastore "
            "s3://bucket/prefix."
        )


@contextlib.contextmanager
def ec2_cluster(profile: Ec2Profile, purpose: Purpose) -> Iterator[Any]:
    """A client of the cluster of that name that is up, else of one that is started and ended.

    Raises :class:`ClusterError` if it can't be had; what was started until then has ended when it is raised.
    """
    account = Account(profile.region)
    there = ec2_shared.find(account, profile.name)
    with (
        ec2_shared.joined(account, profile, there, purpose.tell)
        if there
        else _own(account, profile, purpose) as client
    ):
        yield client


@contextlib.contextmanager
def _own(account: Account, profile: Ec2Profile, purpose: Purpose) -> Iterator[Any]:
    import dask

    fleet = Fleet(account, profile, purpose.user, ec2_shared.CONFIGURATION)
    workers = max(profile.min_workers, 1)  # one shows whether the image can run tasks
    with contextlib.ExitStack() as opened:
        opened.callback(fleet.end)
        # dask-cloudprovider writes the certificate into the configuration of this process
        before = copy.deepcopy(dask.config.get("distributed.comm"))
        opened.enter_context(dask.config.set({"distributed.comm": before}))
        opened.enter_context(silence())
        fleet.prepare(workers)
        purpose.tell(fleet.beginning(workers))
        cluster = _started(fleet, workers, purpose)
        opened.callback(cluster.close)
        client = opened.enter_context(client_of(cluster))
        ec2_shared.wait_for_a_worker(client, fleet)
        cluster.link = opened.enter_context(dashboard_of(client))
        client.register_plugin(Demand())
        cluster.begun(workers)
        yield client


def _started(fleet: Fleet, workers: int, purpose: Purpose) -> Any:
    from daskflow.clusters.ec2_dask import Cluster

    try:
        return Cluster(fleet, workers, purpose.tell)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ClusterError):
            cause = cause.__cause__  # Dask wraps what a machine's start raises
        if cause is None:
            raise ClusterError(f"The cluster did not start: {error}") from error
        raise cause from cause.__cause__  # from the error it would be its own cause
