"""From the words of a command line to a command, and from an error to one line and an exit status."""

from __future__ import annotations

import contextlib
import io
import shlex
import signal
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from daskflow import __version__, settings
from daskflow.errors import DamagedRecordWarning, DaskflowException, InternalError, OverwrittenWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from daskflow.flow.graph import Graph
    from daskflow.flow.spec import FlowSpec
    from daskflow.store.runs import RunStore

COMMANDS = {
    "check": "daskflow.cli.check:check",
    "show": "daskflow.cli.check:show",
    "output-dot": "daskflow.cli.check:output_dot",
    "output-raw": "daskflow.cli.check:output_raw",
    "run": "daskflow.cli.run:run_command",
    "resume": "daskflow.cli.go_on:resume",
    "continue": "daskflow.cli.go_on:continue_",
    "debug": "daskflow.cli.debug:debug",
    "dump": "daskflow.cli.dump:dump",
    "logs": "daskflow.cli.logs:logs",
    "tag": "daskflow.cli.tag:tag",
    "help": "daskflow.cli.check:help_command",
    "version": "daskflow.cli.check:version",
}
"""Name of each command and where it is; nothing is imported but what is called."""


@dataclass
class Invocation:
    """What every command gets.

    Attributes
    ----------
    flow_class
        The flow.
    settings
        From the environment and the configuration files.
    store
        URL of the store.
    quiet
        No banner.
    decospecs
        What ``--with`` says before the command.
    """

    flow_class: type[FlowSpec]
    settings: settings.Settings
    store: str
    quiet: bool
    decospecs: tuple[str, ...] = ()

    def run_store(self, run: str) -> RunStore:
        """A run of the flow, which need not exist."""
        from daskflow.store.runs import RunStore
        from daskflow.store.storage import storage_at

        return RunStore(storage_at(self.store), self.flow_class.__name__, run)

    def graph(self, decorators: Sequence[str] | None = None) -> Graph:
        """The flow's graph, checked, with these decorators on every step that lacks them.

        By default those of the settings and of ``--with`` before the command.
        Raises :class:`LintWarn` or :class:`BadStepDecoratorException`.
        """
        from daskflow.flow import decorator, lint
        from daskflow.flow.graph import Graph

        chosen = self.decospecs if decorators is None else decorators
        decorator.attach(self.flow_class, chosen)
        graph = Graph.of(self.flow_class)
        lint.check(graph)
        return decorator.initialized(graph, self.flow_class)

    def banner(self) -> None:
        """Say what runs for whom, on stderr."""
        if not self.quiet:
            user = self.settings.user or "unknown user"
            with contextlib.suppress(OSError):  # whoever would read it has gone
                click.echo(
                    f"daskflow {__version__} executing {self.flow_class.__name__} for user:{user}", err=True
                )


class LazyCommands(click.Group):
    """Commands that are each loaded when they are called.

    Parameters
    ----------
    where
        ``module:name`` of each command, or of a function that makes it.
    made_for
        What such a function is called with.
    """

    def __init__(self, where: Mapping[str, str], *made_for: Any, **attributes: Any) -> None:
        super().__init__(**attributes)
        self._where = where
        self._made_for = made_for

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return list(self._where)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        import importlib

        if cmd_name not in self._where:
            return None
        module, _, name = self._where[cmd_name].partition(":")
        found = getattr(importlib.import_module(module), name)
        command: click.Command = found if isinstance(found, click.Command) else found(*self._made_for)
        return command


def commands_of(flow_class: type[FlowSpec]) -> click.Group:
    """The command line of a flow."""

    @click.pass_context
    def top(
        ctx: click.Context, quiet: bool | None, datastore: str | None, decospecs: tuple[str, ...]
    ) -> None:
        found = settings.load()
        for note in found.notes:
            click.echo(note, err=True)
        ctx.obj = Invocation(
            flow_class=flow_class,
            settings=found,
            store=settings.datastore_root(found, option=datastore),
            quiet=found.quiet if quiet is None else quiet,
            decospecs=(*found.default_decospecs, *decospecs),
        )
        if ctx.invoked_subcommand is None:
            from daskflow.cli.check import check

            ctx.invoke(check)

    return LazyCommands(
        COMMANDS,
        flow_class,
        callback=top,
        invoke_without_command=True,
        context_settings={"max_content_width": 110, "auto_envvar_prefix": "DASKFLOW"},
        help=f"Run the flow {flow_class.__name__} and look at what its runs left.",
        params=[
            click.Option(["--quiet/--not-quiet"], default=None, help="No banner."),
            click.Option(["--datastore", "--datastore-root"], metavar="DIR", help="Where results are kept."),
            click.Option(
                ["--with", "decospecs"],
                multiple=True,
                metavar="DECORATOR",
                help="Put a decorator on every step that lacks it: NAME or NAME:option=value,...; may be repeated.",
            ),
        ],
    )


def carry_out(make_commands: Callable[[], click.Group], program_name: str, arguments: Sequence[str]) -> int:
    """Carry out a command line; returns the exit status. ``make_commands`` may raise what a command may."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character of a step's that the encoding lacks must not end the output.
            stream.reconfigure(errors="backslashreplace")
    try:
        commands = make_commands()
        with _warned_in_a_line(), commands.make_context(program_name, list(arguments)) as ctx:
            result = commands.invoke(ctx)
            return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except DaskflowException as error:
        tell(error)
        return 1
    except BrokenPipeError:  # whoever read our output has gone
        return 1
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        return 130
    except OSError as error:  # such as a full disk under our output
        with contextlib.suppress(OSError):
            click.echo(f"Error: {error}", err=True)
        return 1
    except Exception as error:  # noqa: BLE001 - a defect of ours: all that helps to find it
        import traceback

        if was_interrupted(error):
            click.echo("Interrupted.", err=True)
            return 130
        click.echo("Internal error:", err=True)
        click.echo(traceback.format_exc(), err=True)
        return 1


@contextlib.contextmanager
def _warned_in_a_line() -> Iterator[None]:
    """Our own warnings are for the user: without the place in our code that Python shows."""
    others = warnings.showwarning

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, DamagedRecordWarning | OverwrittenWarning):
            click.echo(str(message), err=True)
        else:
            others(message, category, *where, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = others


def end_in_order() -> None:
    """From now on SIGTERM and the end of the terminal end this process as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: Python wraps one that comes while a class is being made."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # what others raise may be its own cause
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__
    return False


def tell(error: DaskflowException) -> None:
    """Print an error: its headline and place, then what happened and what to do."""
    place = ""
    if error.source_file:
        place += f" in file {error.source_file}"
    if error.line_no is not None and "line" not in error.headline:
        place += f" on line {error.line_no}"
    click.echo(f"{_bold(error.headline)}{place}:", err=True)
    for line in error.message.splitlines():
        click.echo(f"    {line}", err=True)
    if isinstance(error, InternalError):
        click.echo("    This is a defect of daskflow.", err=True)


def _bold(text: str) -> str:
    plain = settings.refuses_colour() or not sys.stderr.isatty()
    return text if plain else click.style(text, fg="red", bold=True)


def program() -> str:
    """How this command line started, up to its command, for messages that say what to type from the same place."""
    main: Any = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    start = f"python -m {spec.name}" if spec is not None else f"python {shlex.quote(sys.argv[0])}"
    ctx = click.get_current_context(silent=True)
    store = ctx.find_root().params.get("datastore") if ctx is not None else None
    return f"{start} --datastore {shlex.quote(store)}" if store else start
