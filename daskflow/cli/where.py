"""Where a run's tasks are to run, and what is seen to for that before the run is made."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daskflow.cli.entry import end_in_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.cli.driving_options import Options
    from daskflow.cli.entry import Invocation
    from daskflow.clusters import Purpose
    from daskflow.store.runs import RunStore
    from daskflow.task.code import Code

LOCAL, INLINE = "local", "inline"


def is_watched(invocation: Invocation, options: Options) -> bool:
    """Whether a dashboard shows the run, if its cluster has one."""
    return not options.no_dashboard and cluster_of(invocation, options) != INLINE


def cluster_of(invocation: Invocation, options: Options) -> str:
    """As ``--cluster`` says it, else the settings."""
    return options.cluster or invocation.settings.default_cluster


def wanted(options: Options, earlier: RunStore | None = None) -> Options:
    """With the requirements that count: those of the option, else those of an earlier run. A file of nothing means none."""
    found = options.requirements
    if found is None and earlier is not None and (record := earlier.record()).get("requirements"):
        from daskflow.task.requirements import of_record

        found = of_record(record)
    return replace(options, requirements=found if found is not None and found.text else None)


def check_cluster(invocation: Invocation, options: Options) -> None:
    """See that there is such a kind of cluster, before a run is made for it. Raises :class:`ClusterError`."""
    cluster = cluster_of(invocation, options)
    if cluster not in (LOCAL, INLINE) or options.cluster_options:
        from daskflow.clusters import open_cluster

        open_cluster(
            cluster, None, options.cluster_options, purpose_of(invocation, invocation.store, click.echo)
        )


def packaged(invocation: Invocation, options: Options, code: Code) -> Code:
    """With what travels of the flow's folder, if its tasks may run elsewhere. Raises :class:`PackageError`."""
    if not _travels(invocation, options):
        return code
    from daskflow.task.package import Selection, pack

    settings = invocation.settings
    suffixes = (*settings.package_suffixes, *options.package_suffixes)
    chosen = Selection(suffixes, settings.max_package_size * 1_000_000, invocation.store)
    return replace(code, package=pack(code, chosen))


def folder_of(invocation: Invocation, options: Options, code: Code) -> dict[str, Any] | None:
    """By what workers know the flow's folder."""
    if not _travels(invocation, options):
        return None
    from daskflow.task.unpacked import identity

    return identity(code.root)


def _travels(invocation: Invocation, options: Options) -> bool:
    return cluster_of(invocation, options) not in (LOCAL, INLINE)


def check_requirements(invocation: Invocation, options: Options) -> None:
    """See that a run's requirements can be had, as far as that is known here, before a run is made for them.

    For tasks on this machine their environment is made, by which pip finds out; inline, this process goes on in it. Machines
    elsewhere may see other packages than this one, so there it is made once they have started. Raises
    :class:`RequirementsError`.
    """
    if options.requirements is None:
        return
    from daskflow.task import environment, requirements

    fixed = pins_of(options)
    requirements.check(options.requirements, fixed)
    end_in_order()
    cluster = cluster_of(invocation, options)
    if cluster == LOCAL:
        environment.make(options.requirements, fixed, tell)
    elif cluster == INLINE:
        environment.enter(options.requirements, fixed, tell)


def pins_of(options: Options) -> tuple[str, ...]:
    """What the environment of a run's requirements must have in the same version; nothing without requirements."""
    if options.requirements is None:
        return ()
    from daskflow.task.requirements import pins

    return pins()


def tell(text: str) -> None:
    """A line for the user, beside what the command is asked for."""
    click.echo(text, err=True)


def purpose_of(invocation: Invocation, store: str, tell: Callable[[str], None]) -> Purpose:
    """What the cluster of a run is for."""
    from daskflow.clusters import Purpose

    file = inspect.getsourcefile(invocation.flow_class)
    folder = Path(file).parent if file else Path.cwd()
    return Purpose(folder, store, invocation.settings.username(), tell)
