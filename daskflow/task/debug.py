"""A task run again in this process, under a debugger; nothing of it is stored."""

from __future__ import annotations

import bdb
import contextlib
import os
import pdb
from typing import TYPE_CHECKING

from daskflow.flow import transition
from daskflow.flow.spec import requested
from daskflow.task.attempt import Execution, build, call_step, report, tell_current
from daskflow.task.hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from daskflow.flow.spec import FlowSpec
    from daskflow.store.runs import RunStore
    from daskflow.task.spec import TaskSpec


def debug(spec: TaskSpec, flow_class: type[FlowSpec], store: RunStore, at_start: bool) -> BaseException | None:
    """Run a step with a task's inputs; where it raises, the debugger opens.

    Parameters
    ----------
    spec, flow_class
        The task, and the flow as it is now.
    store
        The run; nothing is written to it.
    at_start
        Open the debugger at the step's first line instead.

    Returns what the step raised, None if it came to its end.
    """
    os.environ.update(spec.node.policy.environment)
    tell_current(spec, store)
    flow, _, arguments = build(Execution(store, spec), flow_class)
    hooks = Hooks(spec, flow_class, debugging=True)
    try:
        function = hooks.before(flow, getattr(flow, spec.name.step))
        call_step(_stopping(function) if at_start else function, arguments)
        hooks.after(flow)
        _check_next(flow, spec)
    except BaseException as error:  # noqa: BLE001 - whatever a step raises is what is looked for
        report(error)
        if not at_start:
            pdb.post_mortem(_users_frames(error))
        return error
    return None


def _stopping(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> None:
        with contextlib.suppress(bdb.BdbQuit):
            pdb.Pdb().runcall(function, *arguments)

    return call


def _check_next(flow: FlowSpec, spec: TaskSpec) -> None:
    request = requested(flow)
    if request is not None:
        transition.check_static(spec.node, request)
    elif spec.node.type != "end":
        raise transition.missing(spec.node)


def _users_frames(error: BaseException) -> Any:
    """The traceback from the first frame that is not ours."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(here):
        traceback = traceback.tb_next
    return traceback or error.__traceback__
