"""One step as its source says it: its arguments and where its ``self.next`` leads."""

from __future__ import annotations

import ast
import inspect
import linecache
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import TYPE_CHECKING, Any

from daskflow.errors import LintWarn
from daskflow.flow.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Literal, TypeGuard

    NodeType = Literal["linear", "split", "foreach", "switch", "join", "end"]
    NextKind = Literal["linear", "split", "foreach", "switch"]
    Label = str | int | bool

KEYWORDS = ("foreach", "condition")
"""What ``self.next`` takes beside steps."""


@dataclass(frozen=True)
class Next:
    """The ``self.next`` of a step as it is written.

    ``problem`` says why it has none of the known shapes; the rest is empty then.
    """

    kind: NextKind = "linear"
    targets: tuple[str, ...] = ()
    foreach: str | None = None
    condition: str | None = None
    cases: tuple[tuple[Label, str], ...] = ()
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A step of the graph.

    Attributes
    ----------
    type
        How the step goes on; a step that takes ``inputs`` is a "join", the terminal step is the "end".
    targets
        The steps that may follow, in the order of declaration, each once.
    line, next_line
        Where its ``def`` is, and its ``self.next`` (the first one found if none is the last statement; 0 if there is none).
    foreach
        The attribute whose items become tasks.
    condition, cases
        The attribute that decides a switch, and (value, step) of each case.
    arguments
        Names of its arguments; one that is not plainly positional starts with ``*``.
    has_next, problem
        Whether its last statement is a ``self.next``; why that one can't be understood.
    decorators
        ``{"name": ..., "options": ...}`` of each step decorator.
    policy
        How its tasks are to be run; decorators put it together when a run starts.
    in_nodes
        The steps that may come before, in source order, for a join in the order of the split's branches; a recursive
        switch is among its own.
    branches
        The splits that are open when a task of this step runs, outermost first, each with the target that leads
        here. A split is not inside itself, and a join is no longer inside the split it closes.
    matching_join, matching_split
        Of a split or foreach the join that closes it; of a join the split or foreach it closes.
    """

    name: str
    type: NodeType = "linear"
    targets: tuple[str, ...] = ()
    line: int = 0
    next_line: int = 0
    source_file: str = ""
    doc: str = ""
    foreach: str | None = None
    condition: str | None = None
    cases: tuple[tuple[Label, str], ...] = ()
    arguments: tuple[str, ...] = ("self",)
    has_next: bool = False
    problem: str = ""
    marked_start: bool = False
    marked_end: bool = False
    decorators: tuple[dict[str, Any], ...] = ()
    policy: Policy = field(default_factory=Policy)
    node_info: dict[str, Any] = field(default_factory=dict)
    in_nodes: tuple[str, ...] = ()
    branches: tuple[tuple[str, str], ...] = ()
    matching_join: str | None = None
    matching_split: str | None = None

    @property
    def num_args(self) -> int:
        """How many arguments it takes, ``self`` included."""
        return len(self.arguments)

    @property
    def splits(self) -> bool:
        """Whether it opens what a join has to close."""
        return self.type in ("split", "foreach")

    @property
    def recursive(self) -> bool:
        """Whether it is a switch that may follow itself."""
        return self.type == "switch" and self.name in self.targets


def step_functions(flow_class: type) -> dict[str, Any]:
    """The steps of a flow class and of its bases, by name: bases first, each in the order of its source.

    What a subclass puts in the place of a step wins, also if it is no step.
    """
    found: dict[str, Any] = {}
    for cls in reversed(flow_class.__mro__):
        for name, value in vars(cls).items():
            if getattr(value, "is_step", False) is True:
                found[name] = value
            else:
                found.pop(name, None)
    return found


class Sources:
    """The source files of one flow, each read through ``linecache`` and parsed once."""

    def __init__(self) -> None:
        self._parsed: dict[str, dict[int, ast.FunctionDef | ast.AsyncFunctionDef]] = {}
        self._class_lines: dict[tuple[str, str], int] = {}

    def class_line(self, file: str, name: str) -> int:
        """The line of class ``name`` in a file that was parsed, else 0."""
        return self._class_lines.get((file, name), 0)

    def definition(self, step: str, function: FunctionType) -> ast.FunctionDef:
        """The definition of a step's function.

        Raises :class:`LintWarn` if its source can't be read, is not Python, or has something else at its place.
        """
        code = function.__code__
        file, line = code.co_filename, code.co_firstlineno
        if file not in self._parsed:
            self._parsed[file] = self._parse(step, function)
        found = self._parsed[file].get(line)
        if isinstance(found, ast.AsyncFunctionDef):
            raise LintWarn(
                f"Step '{step}' is an async function: define it with a plain 'def'.", found.lineno, file
            )
        if found is None or found.name != code.co_name:
            raise LintWarn(
                f"The definition of step '{step}' is not where it was when the flow was imported: "
                "the file has changed since, or the step is not written as a 'def'.",
                line,
                file,
            )
        return found

    def _parse(self, step: str, function: FunctionType) -> dict[int, ast.FunctionDef | ast.AsyncFunctionDef]:
        file = function.__code__.co_filename
        lines = linecache.getlines(file, function.__globals__)
        if not lines:
            raise LintWarn(
                f"The source of step '{step}' can't be read. The order of steps is taken from their source, "
                "so define the flow in a file or in a notebook.",
                function.__code__.co_firstlineno,
                file,
            )
        try:
            tree = ast.parse("".join(lines))
        except SyntaxError as error:
            raise LintWarn(
                f"The source of step '{step}' can't be parsed ({error.msg}): has the file changed since its import?",
                error.lineno,
                file,
            ) from error
        definitions: dict[int, ast.FunctionDef | ast.AsyncFunctionDef] = {}
        for item in ast.walk(tree):
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                # Code objects count from the first decorator, the syntax tree from the word "def".
                first = item.decorator_list[0].lineno if item.decorator_list else item.lineno
                definitions[first] = item
            elif isinstance(item, ast.ClassDef):
                self._class_lines[file, item.name] = item.lineno
        return definitions


def read_node(name: str, step: Any, sources: Sources) -> Node:
    """Read step ``name`` from the source of its function.

    What depends on other steps (type "end", ``in_nodes``, ``branches``, matching joins) is left for the graph.
    Raises :class:`LintWarn` if the source can't be read.
    """
    function = inspect.unwrap(step)
    if not isinstance(function, FunctionType):
        raise LintWarn(f"Step '{name}' is a {type(function).__name__}, not a method: define it with 'def'.")
    definition = sources.definition(name, function)
    arguments = _arguments(definition.args)
    self_name = arguments[0] if arguments else "self"
    options = getattr(step, "step_options", {})
    node = Node(
        name=name,
        type="join" if len(arguments) > 1 else "linear",
        line=definition.lineno,
        source_file=function.__code__.co_filename,
        doc=inspect.cleandoc(function.__doc__ or ""),
        arguments=arguments,
        marked_start=bool(options.get("start")),
        marked_end=bool(options.get("end")),
        decorators=tuple(
            {"name": decorator.name, "options": decorator.described()}
            for decorator in getattr(step, "decorators", ())
        ),
        node_info=dict(options.get("node_info") or {}),
    )
    last = definition.body[-1]
    call = last.value if isinstance(last, ast.Expr) else None
    if not _is_next(call, self_name):
        return replace(node, next_line=_first_next(definition, self_name))
    follow = read_next(call, self_name)
    return replace(
        node,
        type=node.type if follow.kind == "linear" else follow.kind,
        targets=follow.targets,
        next_line=call.lineno,
        foreach=follow.foreach,
        condition=follow.condition,
        cases=follow.cases,
        has_next=True,
        problem=follow.problem,
    )


def read_next(call: ast.Call, self_name: str = "self") -> Next:
    """Read a ``self.next(...)``. It never raises: what is wrong with the shape is the result's ``problem``."""
    try:
        return _shape(call, self_name)
    except ValueError as error:
        return Next(problem=str(error))


def check_keywords(given: Collection[str]) -> None:
    """Raise ``ValueError`` if ``self.next`` does not take these keywords; the message ends a sentence about the call."""
    if "num_parallel" in given:
        raise ValueError("num_parallel is not supported yet, use foreach with a list of as many items")
    for unknown in sorted(set(given) - set(KEYWORDS)):
        raise ValueError(f"it has no keyword '{unknown}', only {', '.join(KEYWORDS)}")
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other")


def check_targets(targets: Sequence[str], keyword: str | None = None) -> None:
    """Raise ``ValueError`` if ``self.next`` can't lead to these steps, given that keyword; as above."""
    if not targets:
        raise ValueError("it names no step")
    for target in targets:
        if targets.count(target) > 1:
            raise ValueError(f"it names step '{target}' more than once")
    if keyword and len(targets) != 1:
        raise ValueError(f"{keyword} leads to exactly one step, not to {len(targets)}")


def _arguments(args: ast.arguments) -> tuple[str, ...]:
    plain = [arg.arg for arg in (*args.posonlyargs, *args.args)]
    special = [arg.arg for arg in (args.vararg, *args.kwonlyargs, args.kwarg) if arg is not None]
    return (*plain, *(f"*{name}" for name in special))


def _is_next(call: ast.AST | None, self_name: str) -> TypeGuard[ast.Call]:
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "next"
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == self_name
    )


def _first_next(definition: ast.FunctionDef, self_name: str) -> int:
    return min((item.lineno for item in ast.walk(definition) if _is_next(item, self_name)), default=0)


def _shape(call: ast.Call, self_name: str) -> Next:
    keywords = {keyword.arg or "**": keyword.value for keyword in call.keywords}
    check_keywords(keywords)
    if "condition" in keywords or any(isinstance(arg, ast.Dict) for arg in call.args):
        return _switch(call, keywords.get("condition"), self_name)
    targets = tuple(_target(arg, self_name) for arg in call.args)
    check_targets(targets, next(iter(keywords), None))
    if keywords:
        return Next(kind="foreach", targets=targets, foreach=_name("foreach", keywords["foreach"]))
    return Next(kind="linear" if len(targets) == 1 else "split", targets=targets)


def _switch(call: ast.Call, condition: ast.expr | None, self_name: str) -> Next:
    variable = None if condition is None else _name("condition", condition)
    dicts = [arg for arg in call.args if isinstance(arg, ast.Dict)]
    if dicts and len(call.args) > 1:
        raise ValueError("a switch takes one dict of cases and no other step")
    if not dicts:
        targets = tuple(_target(arg, self_name) for arg in call.args)
        check_targets(targets)
        return Next(kind="switch", targets=targets, condition=variable)
    cases: dict[Label, str] = {}
    for key, value in zip(dicts[0].keys, dicts[0].values, strict=True):
        label = _label(key)
        if label in cases:
            raise ValueError(f"the case {label!r} occurs twice (True and 1 are one case, so are False and 0)")
        cases[label] = _target(value, self_name)
    return Next(
        kind="switch",
        targets=tuple(dict.fromkeys(cases.values())),
        condition=variable,
        cases=tuple(cases.items()),
    )


def _target(arg: ast.expr, self_name: str) -> str:
    if isinstance(arg, ast.Attribute) and isinstance(arg.value, ast.Name) and arg.value.id == self_name:
        return arg.attr
    raise ValueError(f"'{ast.unparse(arg)}' is not a step such as {self_name}.train")


def _name(keyword: str, value: ast.expr) -> str:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return value.value
    raise ValueError(f"{keyword}={ast.unparse(value)} has to be the name of an attribute, in quotes")


def _label(key: ast.expr | None) -> Label:
    text = "**" if key is None else ast.unparse(key)
    try:
        label = None if key is None else ast.literal_eval(key)
    except ValueError:
        label = None
    if isinstance(label, str | int):
        return label
    raise ValueError(f"the case '{text}' is not a literal string, integer or boolean")
