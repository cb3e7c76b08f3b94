"""A task run again in this process, under a debugger; nothing of it is stored."""

from __future__ import annotations

import bdb
import os
import pdb
import tempfile
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING

from daskflow.errors import is_ours
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.layout import new_execution
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from daskflow.task.attempt import (
    Execution,
    build,
    call_step,
    report,
    save_artifacts,
    tell_current,
    what_follows,
)
from daskflow.task.hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from daskflow.flow.spec import FlowSpec
    from daskflow.task.spec import TaskSpec


@dataclass
class _Rehearsal(Execution):
    """An execution that reads from its run, and writes where it is thrown away."""

    folder: str = ""

    @property
    def writer(self) -> ArtifactWriter:
        """Into the folder."""
        store = RunStore(storage_at(self.folder), self.store.flow, self.store.run)
        return ArtifactWriter(store, self.spec.name, self.spec.execution)


def debug(
    spec: TaskSpec, flow_class: type[FlowSpec], store: RunStore, at_start: bool
) -> BaseException | None:
    """Run a step with a task's inputs; where it raises, the debugger opens.

    Parameters
    ----------
    spec, flow_class
        The task, and the flow as it is now.
    store
        The run; nothing is written to it.
    at_start
        Open the debugger at the step's first line too.

    Returns what made the task fail, :class:`bdb.BdbQuit` if the debugger was left before the step's end, None if the
    step came to its end.
    """
    os.environ.update(spec.node.policy.environment)
    tell_current(spec, store)
    with tempfile.TemporaryDirectory(prefix="daskflow-debug-") as folder:
        execution = _Rehearsal(store, replace(spec, execution=new_execution(spec.attempt)), folder=folder)
        try:
            _rehearse(execution, flow_class, at_start)
        except bdb.BdbQuit as quit_:
            return quit_
        except BaseException as error:  # noqa: BLE001 - whatever a step raises is what is looked for
            users = _users_frames(error)
            report(error.with_traceback(users))
            if users is not None:
                pdb.post_mortem(users)
            return error
    return None


def _rehearse(execution: _Rehearsal, flow_class: type[FlowSpec], at_start: bool) -> None:
    """All that an attempt does, up to its commit."""
    spec = execution.spec
    flow, view, arguments = build(execution, flow_class)
    hooks = Hooks(spec, flow_class, debugging=True)
    function = hooks.before(flow, getattr(flow, spec.name.step))
    call_step(_stopping(function) if at_start else function, arguments)
    hooks.after(flow)
    what_follows(flow, execution)
    _, refused = save_artifacts(flow, view, execution)
    if refused is not None:
        raise refused


def _stopping(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> None:
        debugger = _Debugger()
        debugger.runcall(function, *arguments)
        if debugger.left:
            raise bdb.BdbQuit

    return call


class _Debugger(pdb.Pdb):
    """Knows whether it was left by a command, of which ``runcall`` says nothing."""

    left = False

    def set_quit(self) -> None:
        """As called by the command."""
        super().set_quit()
        self.left = True


def _users_frames(error: BaseException) -> TracebackType | None:
    """The traceback without our own frames and the debugger's; None if nothing is left of it."""
    found = []
    traceback = error.__traceback__
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not is_ours(file) and file != bdb.__file__:
            found.append(traceback)
        traceback = traceback.tb_next
    users = None
    for each in reversed(found):
        users = TracebackType(users, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return users
