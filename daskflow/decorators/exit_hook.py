"""``@exit_hook``: functions that are called when a run has ended."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from daskflow.errors import BadFlowDecoratorException, HookFailed
from daskflow.flow.flow_decorator import FlowDecorator, decorators_of
from daskflow.task import child, wire, zygote
from daskflow.task.attempt import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.client import Run
    from daskflow.flow.flow_decorator import RunEnd
    from daskflow.flow.spec import FlowSpec

LISTS = ("on_success", "on_error")


class exit_hook(FlowDecorator):
    """Call functions when a run has ended, each in a process of its own, one after the other.

    A function that takes an argument gets the :class:`daskflow.Run`. The process loads the code that the run was started
    with. A function that fails is told of; the run, and the exit status of the command, stay as they are.

    Parameters
    ----------
    on_success
        Functions to call when the run has succeeded.
    on_error
        Functions to call when it has failed or was interrupted.
    options
        For where the functions are called. There is nothing to choose yet: anything but ``{}`` is an error.
    """

    name = "exit_hook"
    defaults = {"on_success": [], "on_error": [], "options": {}}
    allow_multiple = True

    def flow_init(self, flow_class: type[FlowSpec]) -> None:
        """Check the options."""
        for which in LISTS:
            given = self.options[which]
            if not isinstance(given, list | tuple) or not all(map(callable, given)):
                raise BadFlowDecoratorException(
                    f"@exit_hook has {which}={given!r}, which is not a list of functions."
                )
        if not any(self.options[which] for which in LISTS):
            raise BadFlowDecoratorException(
                "@exit_hook calls nothing: give functions in on_success or on_error."
            )
        if self.options["options"]:
            raise BadFlowDecoratorException(
                f"@exit_hook has options={self.options['options']!r}, but hooks are called beside the driver, where "
                "there is nothing to choose."
            )

    def described(self) -> dict[str, Any]:
        """The functions by their names."""
        return {name: _names(value) if name in LISTS else value for name, value in self.options.items()}

    def run_finished(self, flow_class: type[FlowSpec], end: RunEnd) -> None:
        """Call the functions. Raises :class:`HookFailed` in the end, if some of them failed."""
        which = LISTS[not end.successful]
        place = str(_hooks(flow_class).index(self))
        failed = []
        for number, function in enumerate(self.options[which]):
            status = _call(end, place, which, str(number))
            if status:
                how = f"signal {-status}" if status < 0 else f"exit status {status}"
                failed.append(f"'{_name(function)}' failed ({how})")
        if failed:
            raise HookFailed(f"{', '.join(failed)}; run {end.pathspec} stays as it is.")


def _hooks(flow_class: type[FlowSpec]) -> list[FlowDecorator]:
    return [each for each in decorators_of(flow_class) if isinstance(each, exit_hook)]


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", function))


def _names(functions: Any) -> Any:
    return [_name(each) for each in functions] if isinstance(functions, list | tuple) else functions


def _call(end: RunEnd, *which: str) -> int:
    """Call one function in a new process; the status it ended with."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    boot = {"store": end.store, "flow": end.flow, "run": end.run, "snapshot": end.snapshot}
    boot |= {"cwd": os.getcwd(), "decorators": []}
    command = zygote.command("in_subprocess", json.dumps(boot), *which, module=__name__)
    environment = os.environ | {"DASKFLOW_DATASTORE": end.store}
    return subprocess.run(command, stdin=subprocess.DEVNULL, env=environment, check=False).returncode


def in_subprocess(boot: str, place: str, which: str, number: str) -> NoReturn:
    """In the new process: load the flow and call function ``number`` of list ``which`` of the hook at ``place``."""
    wire.die_with_parent(signal.SIGKILL)
    run = json.loads(boot)
    try:
        with child.muted():  # the driver has printed it already
            flow_class = zygote.load_flow(run)
        function: Callable[..., Any] = _hooks(flow_class)[int(place)].options[which][int(number)]
        takes_run = bool(inspect.signature(function).parameters)
        function(*([_stored(run)] if takes_run else []))
    except Exception as error:  # noqa: BLE001 - whatever the user's function raises
        report(error)
        sys.exit(1)
    sys.exit(0)


def _stored(run: dict[str, Any]) -> Run:
    """The run, whoever it belongs to."""
    from daskflow import client

    client.namespace(None)
    found = client.Run(f"{run['flow']}/{run['run']}", run["store"])
    client.default_namespace()
    return found
