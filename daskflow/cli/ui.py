"""``daskflow ui``: a page that shows the runs of a store."""

from __future__ import annotations

import importlib.util
import os
import sys

import click

from daskflow import settings


@click.command()
@click.option("--datastore", "--datastore-root", metavar="DIR", help="Where results are kept.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Where to listen.  [default: 8788, or any if that is taken]",
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Where to listen; elsewhere the link has a token."
)
def ui(datastore: str | None, port: int | None, host: str) -> None:
    """Show the runs of a store in a browser, those that are going on included; until Ctrl-C.

    The same page as /daskflow in the dashboard of a run's cluster. It reads, and changes nothing.
    """
    if importlib.util.find_spec("bokeh") is None:
        raise click.ClickException("The page needs Bokeh: pip install 'bokeh>=3.4'.")
    from daskflow.dashboard.server import serve

    store = settings.datastore_root(settings.load(), option=datastore)
    if os.path.exists(store) and not os.path.isdir(store):
        raise click.ClickException(f"{store} is a file, no store.")

    def tell(address: str) -> None:
        place = store if "://" in store or os.path.exists(store) else f"{store} (no such folder yet)"
        click.echo(f"The runs in {place}: {address}\nCtrl-C ends it.")

    serve(store, host, port, tell)
    sys.stdout.flush()
    os._exit(0)  # whatever a thread still reads, it reads for nobody
