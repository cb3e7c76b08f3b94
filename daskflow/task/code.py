"""The code of a run: found and stored when the run starts, loaded from the store by every process of its tasks.

A run executes this snapshot to its end, whatever is edited meanwhile.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib.machinery
import importlib.util
import linecache
import os
import sys
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from daskflow.errors import CommandException, StoreError
from daskflow.flow import spec as flow_spec
from daskflow.store import packages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from daskflow.flow.spec import FlowSpec
    from daskflow.store.packages import Package
    from daskflow.store.runs import RunStore

_NOT_LOCAL = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Code:
    """The source files of a flow.

    Attributes
    ----------
    root
        The folder that is ``sys.path[0]``.
    main
        The flow's file, relative to ``root``.
    module
        Its dotted name if it was started by ``python -m``, else None.
    files
        Source by path relative to ``root``; ``main`` is among them.
    package
        All that travels of ``root``, ``files`` among it; None if nothing does.
    """

    root: str
    main: str
    module: str | None
    files: Mapping[str, bytes]
    package: Package | None = None

    @property
    def hash(self) -> str:
        """Identity of all sources together."""
        digest = hashlib.sha256(f"{self.main}\n{self.module}\n".encode())
        for path in sorted(self.files):
            digest.update(f"{path}\n{hashlib.sha256(self.files[path]).hexdigest()}\n".encode())
        return digest.hexdigest()[:32]

    @property
    def main_path(self) -> str:
        """Absolute path of the flow's file as the driver had it."""
        return os.path.join(self.root, self.main)

    def describe(self) -> dict[str, Any]:
        """What goes into the run's record."""
        hashes = {path: hashlib.sha256(source).hexdigest() for path, source in sorted(self.files.items())}
        told = {
            "hash": self.hash,
            "root": self.root,
            "main": self.main,
            "module": self.module,
            "files": hashes,
        }
        return told if self.package is None else told | {"package": self.package.describe()}


def collect() -> Code:
    """The code of the flow that runs as ``__main__``: its file and the local modules it imports, also inside functions.

    Raises :class:`CommandException` if the flow is not in a file.
    """
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if path is None or not os.path.isfile(path):
        raise CommandException("The flow must be in a file: its code can't be found.")
    spec = getattr(main, "__spec__", None)
    # Of a script that is a link, the folder of the real file is sys.path[0].
    path = os.path.realpath(path) if spec is None else os.path.abspath(path)
    module = spec.name if spec is not None else None
    root = os.path.dirname(path)
    for _ in range(module.count(".") if module else 0):
        root = os.path.dirname(root)
    if module and os.path.basename(path) == "__main__.py" and not module.endswith("__main__"):
        root = os.path.dirname(root)
    files = dict(sources(root, path, module, _loaded_modules(root)))
    return Code(root, os.path.relpath(path, root), module, files)


def save(code: Code, store: RunStore, snapshot: int = 0) -> None:
    """Keep the code with which driver session ``snapshot`` starts or goes on: in the run's folder, or as a package."""
    if code.package is not None:
        packages.save(code.package, store.storage, store.layout)
        return
    for path, source in code.files.items():
        store.storage.create(store.layout.code(path, snapshot), source)


def load(store: RunStore, snapshot: int = 0, root: str | None = None) -> Code:
    """A snapshot of a run's code, to be run in the folder ``root`` that has all of it, else where it was.

    Raises :class:`StoreError` if a file is missing or is not what the run's record says.
    """
    told = store.code(snapshot)
    sources = store.sources(snapshot, told) if root is None else _Folder(root)
    files = {}
    for path, digest in told["files"].items():
        files[path] = sources[path]
        if hashlib.sha256(files[path]).hexdigest() != digest:
            place = (
                store.storage.locate(store.layout.code(path, snapshot)) if root is None else f"{root}/{path}"
            )
            raise StoreError(f"{place}, part of the run's code, was changed by hand.")
    return Code(root or told["root"], told["main"], told["module"], files)


class _Folder:
    """The files below a folder, by path."""

    def __init__(self, root: str) -> None:
        self._root = root

    def __getitem__(self, path: str) -> bytes:
        with open(os.path.join(self._root, path), "rb") as file:
            return file.read()


class FlowFound(SystemExit):
    """Ends the loading of a flow file where a run would start: at ``MyFlow()``."""

    def __init__(self, flow_class: type[FlowSpec]) -> None:
        super().__init__(0)
        self.flow_class = flow_class


def execute_as_main(code: Code) -> type[FlowSpec]:
    """Run the flow's file as ``__main__``, from the snapshot, up to ``MyFlow()``; gives ``MyFlow``.

    Raises :class:`CommandException` if the file never gets there; what the file itself raises passes through.
    """
    path = code.main_path
    if not sys.flags.safe_path:
        sys.path.insert(0, code.root)
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=path, __builtins__=builtins, __cached__=None)
    sys.modules["__main__"] = module
    use_snapshot(code)
    if code.module:
        module.__package__ = code.module.rpartition(".")[0]
        if module.__package__:
            importlib.import_module(module.__package__)
        module.__spec__ = importlib.util.find_spec(code.module)
    compiled = compile(code.files[code.main], path, "exec", dont_inherit=True)
    try:
        exec(compiled, module.__dict__)
    except FlowFound as found:
        return found.flow_class
    raise CommandException(f"{path} does not start a flow: it never calls a FlowSpec class.")


def use_snapshot(code: Code) -> None:
    """From now on local modules and source lines come from the snapshot, and ``MyFlow()`` starts no run."""
    sys.argv = [code.main_path]
    sys.modules["__main__"].__dict__["__daskflow_code__"] = code.hash
    place = sys.meta_path.index(importlib.machinery.PathFinder)  # built-in modules go before, as ever
    sys.meta_path.insert(place, _SnapshotFinder(code))
    for name, source in code.files.items():
        full = os.path.join(code.root, name)
        text = source.decode("utf-8", "replace")
        linecache.cache[full] = (len(text), None, text.splitlines(keepends=True), full)
    flow_spec.on_instance = _found


def _found(flow_class: type[FlowSpec]) -> None:
    raise FlowFound(flow_class)


class _SnapshotFinder:
    """Finds the run's local modules in its snapshot, under the paths they had."""

    def __init__(self, code: Code) -> None:
        self._root = code.root
        self._by_name: dict[str, str] = {}
        self._sources: dict[str, bytes] = {}
        self._folders: set[str] = set()
        for path, source in code.files.items():
            name, place = _module_name(path), os.path.join(code.root, path)
            self._by_name[name] = place
            self._sources[place] = source
            while name := name.rpartition(".")[0]:
                self._folders.add(name)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module in the snapshot, by its name or by the place where it would be found otherwise."""
        if fullname in self._by_name:
            return self._spec(fullname, self._by_name[fullname])
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if found is not None and found.origin in self._sources:  # through another entry of sys.path
            return self._spec(fullname, found.origin)
        if fullname not in self._folders:
            return None
        return found if found is not None and found.loader is not None else self._namespace(fullname, found)

    def _spec(self, name: str, place: str) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_file_location(
            name,
            place,
            loader=_SnapshotLoader(name, place, self._sources[place]),
            submodule_search_locations=[os.path.dirname(place)] if _is_package(place) else None,
        )

    def _namespace(
        self, name: str, found: importlib.machinery.ModuleSpec | None
    ) -> importlib.machinery.ModuleSpec:
        """A package without a file of its own; others may have parts of it elsewhere."""
        here = os.path.join(self._root, *name.split("."))
        elsewhere = list(found.submodule_search_locations or ()) if found is not None else []
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [here, *(place for place in elsewhere if place != here)]
        return spec


class _SnapshotLoader(importlib.machinery.SourceFileLoader):
    """Loads one module from its snapshot; data files beside it are read from where it was."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_data(self, path: str | bytes) -> bytes:
        """The snapshot for the module's own path."""
        return self._source if path == self.path else super().get_data(os.fsdecode(path))

    def path_stats(self, path: str | bytes) -> NoReturn:
        """None: compiled files beside the module may be of another version."""
        raise OSError(f"The snapshot of {os.fsdecode(path)} has no compiled file.")


def _is_package(path: str) -> bool:
    return os.path.basename(path) == "__init__.py"


def _module_name(path: str) -> str:
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(
    root: str, main: str, module: str | None, loaded: Iterable[tuple[str, str]] = ()
) -> Iterator[tuple[str, bytes]]:
    """The flow's file and, by their imports, the modules below ``root`` that it needs.

    Parameters
    ----------
    root, main
        Absolute paths of the folder that is ``sys.path[0]``, and of the flow's file.
    module
        Dotted name of the flow's file if it is started by ``python -m``.
    loaded
        Names and files of modules that it has imported, however it did that.
    """
    waiting = [(main, module or "__main__")]
    waiting += [(path, name) for name, path in loaded]
    seen: set[str] = set()
    while waiting:
        path, name = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            with open(path, "rb") as file:
                source = file.read()
        except FileNotFoundError:  # the flow's file made it, imported it and removed it
            if path == main:
                raise
            continue
        yield os.path.relpath(path, root), source
        package = name if _is_package(path) else name.rpartition(".")[0]
        for imported in _imports(source, package):
            waiting += _module_files(root, imported)


def _loaded_modules(root: str) -> Iterator[tuple[str, str]]:
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if (
            name not in ("__main__", "__mp_main__")
            and path
            and path.endswith(".py")
            and _is_local(root, path)
        ):
            yield name, path


def _is_local(root: str, path: str) -> bool:
    if not path.startswith(root + os.sep):
        return False
    relative = path[len(root) + 1 :].split(os.sep)
    hidden = any(part in _NOT_LOCAL or part.startswith(".") for part in relative)
    return not hidden and relative[0] != "daskflow"


def _imports(source: bytes, package: str) -> Iterator[str]:
    """Dotted names that a module may import, wherever the statement stands."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # the interpreter will say so if the module is ever imported
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1] if package else []
                base = ".".join([*above, base] if base else above)
            if base:
                yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def _module_files(root: str, dotted: str) -> Iterator[tuple[str, str]]:
    """Local files that make up a module: its own and the ``__init__`` of each package above it."""
    parts = dotted.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        base = os.path.join(root, *parts[:depth])
        for path in (base + ".py", os.path.join(base, "__init__.py")):
            if os.path.isfile(path) and _is_local(root, path):
                yield path, name
