"""One attempt of a task, in its own process: inputs, the user's code, what it set."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from types import MethodType
from typing import TYPE_CHECKING, Any

from daskflow._current import tell
from daskflow.errors import (
    DaskflowException,
    DataException,
    ExceptionWrapper,
    TimeoutException,
    UnpicklableArtifactException,
    is_ours,
)
from daskflow.flow import transition
from daskflow.flow.parameters import Parameter
from daskflow.flow.spec import FlowSpec, in_task, requested
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.records import ArtifactRef, timestamp
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from daskflow.task import wire
from daskflow.task.hooks import Hooks
from daskflow.task.inputs import Inputs, parent_record
from daskflow.task.spec import record_of
from daskflow.task.view import Place, View

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.store.shared_tables import SharedTables
    from daskflow.task.spec import TaskSpec

MOST_TEXT, MOST_TRACEBACK = 10_000, 100_000
"""Characters of an exception's text and of its traceback that are kept."""


@dataclass
class Execution:
    """One execution of an attempt, the run it is part of, and where its tables go if it shares files with others."""

    store: RunStore
    spec: TaskSpec
    tables: SharedTables | None = None

    @property
    def writer(self) -> ArtifactWriter:
        """Where it puts its artifacts."""
        return ArtifactWriter(self.store, self.spec.name, self.spec.execution, self.tables)


def run(
    spec: TaskSpec,
    flow_class: type[FlowSpec],
    tell: Callable[[bytes], None] = lambda _: None,
    store: RunStore | None = None,
    tables: SharedTables | None = None,
) -> tuple[dict[str, Any], int]:
    """Run one attempt.

    ``tell`` is called with :data:`wire.BEGINS` and :data:`wire.ENDS` around the step, if its time is limited. ``store`` is
    the run's, if there is one that has been read from; ``tables`` where tables go of an attempt that shares files.
    Returns the outcome, a :class:`TaskRecord` as JSON that still lacks what only the worker knows, and the status to
    exit with.
    """
    execution = Execution(store or own_store(spec), spec, tables)
    tell_current(spec, execution.store)
    known: dict[str, Any] = {"status": "ok", "started": timestamp()}
    status = 0
    try:
        flow, view, arguments = build(execution, flow_class)
    except DaskflowException as error:
        report(error)
        return record_of(spec, **known | failure(error)).to_json(), 1
    hooks = Hooks(spec, flow_class)
    timed = spec.node.policy.timeout is not None
    try:
        if timed:
            tell(wire.BEGINS)
        call_step(hooks.before(flow, getattr(flow, spec.name.step)), arguments)
        hooks.after(flow)
        if timed:
            tell(wire.ENDS)
        known |= what_follows(flow, execution)
    except BaseException as error:  # noqa: BLE001 - whatever a step raises is that attempt's failure
        after, status = after_error(error, hooks, flow, spec)
        known |= after
        if timed:
            tell(wire.ENDS)
    if tables is not None and "error" in known:
        # It will be tried alone; nothing of it may be in files that others share.
        return record_of(spec, **known).to_json(), status
    known["artifacts"], refused = save_artifacts(flow, view, execution)
    if refused is not None:
        report(refused)
        if known["status"] == "ok":
            known |= failure(refused)
    outcome = record_of(spec, **known)
    try:
        hooks.finished(flow, outcome.ok)
    except Exception as error:  # noqa: BLE001 - it comes too late to change how the attempt went
        report(error)
    return outcome.to_json(), status if outcome.ok or status else 1


def own_store(spec: TaskSpec) -> RunStore:
    """The store of a task's run, which knows the records that the task was given."""
    store = RunStore(storage_at(spec.run.store), spec.run.flow, spec.run.run)
    for record in spec.known:
        store.remember(record)
    return store


def after_error(
    error: BaseException, hooks: Hooks, flow: FlowSpec, spec: TaskSpec
) -> tuple[dict[str, Any], int]:
    """What the record says of an attempt whose step raised ``error``, and the status to exit with.

    A decorator may have dealt with the error; then the flow goes on as its source says.
    """
    try:
        handled = hooks.handled(error, flow)
    except BaseException as another:  # noqa: BLE001 - a hook's failure is the attempt's, like the step's own
        error, handled = another, False
    if handled:
        follows = transition.of_node(spec.node).to_json()
        return {"transition": follows, "error": vars_of(error)}, 0
    report(error, not_here(error, spec.run.folder is not None))
    return failure(error), exit_status(error)


def failure(error: BaseException) -> dict[str, Any]:
    """What the record of a failed attempt says of it."""
    return {"status": "failed", "error": vars_of(error)}


def build(execution: Execution, flow_class: type[FlowSpec]) -> tuple[FlowSpec, View, list[Any]]:
    """The flow object as the step sees it, its view, and the step's arguments: ``inputs`` for a join."""
    spec, store = execution.spec, execution.store
    if spec.node.type == "join":
        view = View(Place.of(spec), store, {})
        return in_task(flow_class, view), view, [Inputs(flow_class, store, spec.parents)]
    parent = parent_record(store, spec.parents[0])
    refs = {name: ref.inherited(parent.name) for name, ref in parent.artifacts.items()}
    if parent.step == "_parameters":
        refs = {}  # every task has them anyway
    view = View(Place.of(spec), store, refs)
    return in_task(flow_class, view), view, []


def call_step(function: Callable[..., Any], arguments: list[Any]) -> None:
    """The user's code. ``sys.exit(0)`` ends a step as ``return`` does.

    A fork that the step made and did not end comes to an end here: the task is its parent's.
    """
    own = os.getpid()
    try:
        function(*arguments)
    except SystemExit as stop:
        if os.getpid() == own and stop.code not in (None, 0):
            raise
    except BaseException as error:
        if os.getpid() == own:
            raise
        report(error)
    if os.getpid() != own:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # the step may have closed it
                stream.flush()
        os._exit(0)


def what_follows(flow: FlowSpec, execution: Execution) -> dict[str, Any]:
    """The transition the step asked for, and the items of a foreach.

    Raises :class:`InvalidNextException` if it asked for none, or for one that the flow's source does not show.
    """
    node = execution.spec.node
    request = requested(flow)
    if request is None:
        if node.type == "end":
            return {"transition": transition.END.to_json()}
        raise transition.missing(node)
    transition.check_static(node, request)
    if request.kind == "switch":
        return {"transition": transition.choose(request, _variable(flow, request)).to_json()}
    follows: dict[str, Any] = {"transition": request.transition().to_json()}
    if request.kind == "foreach":
        items = _items(flow, request, execution.spec.run.max_num_splits)
        try:
            follows["foreach"] = execution.writer.save_items(items)
        except DataException as error:
            raise type(error)(
                f"Cannot store an item of foreach='{request.variable}': {error.message}"
            ) from error
    return follows


def _variable(flow: FlowSpec, request: transition.Request) -> Any:
    assert request.variable is not None
    try:
        return getattr(flow, request.variable)
    except AttributeError:
        raise transition.missing_variable(request) from None


def _items(flow: FlowSpec, request: transition.Request, most: int | None) -> list[Any]:
    value = _variable(flow, request)
    try:
        iterator = iter(value)
    except TypeError as error:
        raise transition.not_iterable(request, value) from error
    spent = iterator is value  # a generator, which may have no end
    items = list(islice(iterator, most + 1) if spent and most is not None else iterator)
    if spent and most is not None and len(items) > most:
        raise transition.too_many_splits(request, most)
    if not items:
        raise transition.zero_splits(request, value)
    if spent:  # what it gave is what later steps can have
        setattr(flow, str(request.variable), items)
    return items


def save_artifacts(
    flow: FlowSpec, view: View, execution: Execution
) -> tuple[dict[str, ArtifactRef], DataException | None]:
    """Store what the step set or changed; refer to the rest.

    What can't be stored does not keep the rest from being stored; the error returned names all of it.
    """
    refs = dict(view.refs)
    refused: dict[str, Exception] = {}
    for name, value in list(vars(flow).items()):
        if name.startswith("__") or _belongs_to_the_flow(flow, name, value) or view.unchanged(name, value):
            continue
        refs.pop(name, None)
        try:
            refs[name] = execution.writer.save(name, value)
        except Exception as error:  # noqa: BLE001 - what is lazy is computed here, and may raise whatever a step may
            refused[name] = error
    return refs, _refusal(refused)


def _belongs_to_the_flow(flow: FlowSpec, name: str, value: Any) -> bool:
    """Whether every task has it with the flow's class: a parameter, a bound method, the value of a cached property."""
    if isinstance(value, MethodType):
        return isinstance(value.__self__, FlowSpec)
    return isinstance(value, Parameter) or isinstance(getattr(type(flow), name, None), cached_property)


def _refusal(refused: dict[str, Exception]) -> DataException | None:
    if not refused:
        return None
    first = next(iter(refused.values()))
    reasons = "; ".join(f"artifact '{name}': {_words(error)}" for name, error in refused.items())
    if isinstance(first, UnpicklableArtifactException):
        return UnpicklableArtifactException(f"Cannot pickle {reasons}")
    return DataException(f"Cannot store {reasons}")


def _words(error: Exception) -> str:
    own = isinstance(error, (DaskflowException, MemoryError))
    return str(error) or type(error).__name__ if own else f"{type(error).__name__}: {error}"


def exit_status(error: BaseException) -> int:
    """The status a process ends with after this error: what ``sys.exit`` asked for, but never success."""
    if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code:
        return error.code & 0xFF or 1
    return 1


def vars_of(error: BaseException) -> dict[str, str]:
    """An error as a record holds it."""
    wrapped = ExceptionWrapper.of(error)
    return {
        "type": wrapped.type,
        "exception": _cut(wrapped.exception, MOST_TEXT),
        "stacktrace": without_ours(error),
    }


def _cut(text: str, most: int) -> str:
    """A text that may be the content of a whole file, without its middle."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]} [... {len(text) - most} characters left out ...] {text[-most // 2 :]}"


def not_here(error: BaseException, elsewhere: bool) -> str:
    """A line about a module that is not found where tasks may run ``elsewhere`` than on the driver's machine, else nothing."""
    missing = next((each for each in (error, error.__cause__) if isinstance(each, ModuleNotFoundError)), None)
    if not elsewhere or missing is None:
        return ""
    name = missing.name or "the module"
    if name in sys.modules:  # this process has it, so another one said so: one of Dask's own
        return (
            f"The Dask of the cluster has no module {name}: its processes know no modules beside the flow. What a step hands to Dask has to be "
            "defined in the flow's file.\n"
        )
    return (
        "Tasks of a cluster have the modules of the flow's folder and what is installed where they run; what else the driver's PYTHONPATH leads to "
        f"stays behind. Put {name} beside the flow, or have it installed there, as by --requirements.\n"
    )


def report(error: BaseException, advice: str = "") -> None:
    """Print an error to the task's log: the user's with its traceback, ours in one line; and what can be done about it."""
    if isinstance(error, DaskflowException) and not isinstance(error, TimeoutException):
        users = _users_frames(traceback.TracebackException.from_exception(error))
        place = f" on line {error.line_no}" if error.line_no and "line" not in error.headline else ""
        if users and not error.line_no:
            place = f" in {os.path.basename(users[-1].filename)} on line {users[-1].lineno}"
        text = f"{error.headline}{place}: {error.message}\n"
    else:
        text = without_ours(error)
    if type(error).__name__ == "BdbQuit":
        text += "A debugger needs the terminal: use run --cluster inline, or debug RUN/STEP/TASK.\n"
    text += advice
    with contextlib.suppress(OSError, ValueError):  # the step may have closed its streams
        sys.stdout.flush()
        print(text, end="", file=sys.stderr, flush=True)  # noqa: T201 - this is the task's log


def without_ours(error: BaseException) -> str:
    """The traceback without our own frames; none are left if the error was not of the user's code."""
    shown = traceback.TracebackException.from_exception(error)
    users = _users_frames(shown)
    if not users:
        return _cut("".join(shown.format_exception_only()), MOST_TRACEBACK)
    shown.stack = traceback.StackSummary.from_list(users)
    return _cut("".join(shown.format()), MOST_TRACEBACK)


def _users_frames(shown: traceback.TracebackException) -> list[traceback.FrameSummary]:
    return [frame for frame in shown.stack if not is_ours(frame.filename)]


def _client() -> Any:
    from daskflow import client

    return client


def tell_current(spec: TaskSpec, store: RunStore) -> None:
    """Let ``current`` know this task."""
    facts = {
        "flow_name": spec.run.flow,
        "run_id": spec.run.run,
        "step_name": spec.name.step,
        "task_id": spec.name.task_id,
        "pathspec": spec.pathspec,
        "retry_count": spec.attempt,
        "is_running_flow": True,
    }
    run_path = f"{spec.run.flow}/{spec.run.run}"
    shared = spec.run.facts | {"tags": set(spec.run.facts.get("tags", ()))}
    tell(
        facts | shared,
        late={
            "graph": store.graph_info,
            "graph_info": store.graph_info,
            "task": lambda: _client().Task(spec.pathspec, store=spec.run.store),
            "run": lambda: _client().Run(run_path, store=spec.run.store),
        },
    )
