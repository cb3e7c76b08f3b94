"""Commands that look at the flow's source only: ``check``, ``show``, ``output-dot``, ``output-raw``, ``help``, ``version``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from daskflow import __version__

if TYPE_CHECKING:
    from daskflow.cli.entry import Invocation


@click.command()
@click.pass_obj
def check(invocation: Invocation) -> None:
    """Check that the flow is valid."""
    invocation.banner()
    invocation.graph()
    click.echo("The graph looks good!", err=True)


@click.command()
@click.pass_obj
def show(invocation: Invocation) -> None:
    """Show the flow's steps and what each says of itself."""
    from daskflow.flow.graph import Graph

    graph = Graph.of(invocation.flow_class)
    if graph.doc:
        click.echo(f"{graph.doc}\n", err=True)
    for node in graph:
        click.echo(f"Step {node.name}")
        for line in (node.doc or "?").splitlines():
            click.echo(f"    {line}" if line else "")
        if node.targets:
            click.echo(f"    => {', '.join(node.targets)}")
        click.echo()


@click.command("output-dot")
@click.pass_obj
def output_dot(invocation: Invocation) -> None:
    """Write the flow's graph in the DOT language."""
    click.echo(invocation.graph().to_dot())


@click.command("output-raw")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def output_raw(invocation: Invocation, as_json: bool) -> None:
    """Write all that is known of the flow's steps."""
    import json
    import pprint

    info = invocation.graph().info()
    click.echo(json.dumps(info, indent=2) if as_json else pprint.pformat(info, sort_dicts=False))


@click.command("help")
@click.pass_context
def help_command(ctx: click.Context) -> None:
    """Show what commands there are."""
    assert ctx.parent is not None
    click.echo(ctx.parent.get_help())


@click.command()
def version() -> None:
    """Show the version."""
    click.echo(__version__, err=True)
