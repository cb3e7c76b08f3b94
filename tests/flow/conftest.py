"""A flow from its source, without a file and without the FlowSpec of the package."""

from __future__ import annotations

import itertools
import linecache
import textwrap

import pytest


def step(function=None, *, start=False, end=False, node_info=None):
    def mark(function):
        function.is_step = True
        function.step_options = {"start": start, "end": end, "node_info": node_info or {}}
        function.decorators = []
        return function

    return mark if function is None else mark(function)


@pytest.fixture(scope="session")
def flow_of():
    """A function: source of a module, or of a class body, to its last class. ``step`` is there to be used."""
    numbers = itertools.count()
    files = []

    def make(source, **names):
        source = textwrap.dedent(source).strip("\n") + "\n"
        if not source.lstrip().startswith(("class", "import", "from", "def")) or source.startswith("def"):
            source = "class Flow:\n" + textwrap.indent(source, "    ")
        file = f"<flow {next(numbers)}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        files.append(file)
        namespace = {"step": step, "__name__": "flow_module", **names}
        exec(compile(source, file, "exec"), namespace)  # our own source, written in a test
        return [value for value in namespace.values() if isinstance(value, type)][-1]

    yield make
    for file in files:
        linecache.cache.pop(file, None)
