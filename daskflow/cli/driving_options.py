"""The options of ``run``, ``resume`` and ``continue`` that say how a run is driven."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import click

from daskflow.settings import SUFFIXES_EXPECTED, suffixes

if TYPE_CHECKING:
    from daskflow.task.requirements import Requirements


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says about how to run; each command has some of these."""

    cluster: str | None = None
    cluster_options: dict[str, Any] = field(default_factory=dict)
    max_workers: int | None = None
    max_num_splits: int | None = None
    max_log_size: float = 10.0
    grace: float = 5.0
    chunk: int | None = None
    isolate: bool = False
    no_dashboard: bool = False
    tags: tuple[str, ...] = ()
    decospecs: tuple[str, ...] = ()
    run_id_file: str | None = None
    namespace: str | None = None
    package_suffixes: tuple[str, ...] = ()
    requirements: Requirements | None = None

    @classmethod
    def taken_from(cls, given: dict[str, Any]) -> Options:
        """Take the options out of what click parsed; what remains is the command's own."""
        options = cls(**{each.name: given.pop(each.name) for each in fields(cls) if each.name in given})
        if options.isolate and (options.chunk or 1) > 1:
            raise click.UsageError("--chunk and --isolate exclude one another.")
        return options


def _cluster_options(
    _context: click.Context, _option: click.Parameter, given: tuple[str, ...]
) -> dict[str, Any]:
    """``n_workers=2`` and the like, by name."""
    found: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"'{each}' is not NAME=VALUE.")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _package_suffixes(
    _context: click.Context, _option: click.Parameter, given: str | None
) -> tuple[str, ...]:
    try:
        return suffixes(given) if given else ()
    except ValueError:
        raise click.BadParameter(f"'{given}' are not {SUFFIXES_EXPECTED}.") from None


def driving_options() -> list[click.Option]:
    """The options of every command that drives a run."""
    return [
        click.Option(
            ["--cluster"],
            metavar="NAME|ADDRESS|CLASS",
            help="Where tasks run: 'local', 'inline' (this process, for debugging), 'ec2' or another profile of daskflow.toml, the "
            "address of a scheduler (tcp://host:port), or a class that starts a cluster (dask_jobqueue.SLURMCluster).  "
            "[default: local]",
        ),
        click.Option(
            ["--cluster-option", "cluster_options"],
            metavar="NAME=VALUE",
            multiple=True,
            callback=_cluster_options,
            help="What the class is called with, or a key of the profile; JSON, else a text. Any number of times.",
        ),
        click.Option(
            ["--package-suffixes"],
            metavar="SUFFIXES",
            callback=_package_suffixes,
            help="Which files beside the flow workers elsewhere get too, such as .parquet,.sh, or * for all; .py, .sql, .json and the like "
            "they get anyway.",
        ),
        click.Option(
            ["--max-workers"],
            type=click.IntRange(min=1),
            help="Tasks that may run at once.  [default: one a core]",
        ),
        click.Option(
            ["--max-num-splits"], type=click.IntRange(min=1), help="Widest foreach that is allowed."
        ),
        click.Option(
            ["--chunk"],
            type=click.IntRange(min=1),
            help="Items of a foreach that run in one process.  [default: as many as take one to two seconds]",
        ),
        click.Option(["--isolate"], is_flag=True, help="A process of its own for each item of a foreach."),
        click.Option(
            ["--no-dashboard"], is_flag=True, help="Don't show the run in the dashboard of its cluster."
        ),
        click.Option(
            ["--max-log-size"],
            type=click.FloatRange(min=0, min_open=True),
            default=10.0,
            show_default=True,
            help="Megabytes that are kept of each log.",
        ),
        click.Option(
            ["--grace"],
            type=click.FloatRange(min=0),
            default=5.0,
            show_default=True,
            help="Seconds that running tasks get to end when the run fails or is stopped.",
        ),
    ]
