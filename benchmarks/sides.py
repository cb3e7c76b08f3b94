"""The two sides of a comparison: how each runs a flow file, and where it keeps what the flow stores.

A flow is written once, for daskflow. The other side runs the same file with the import changed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".venv-peers"
METAFLOW = "metaflow==2.19.39"

# A run sees none of the user's settings; these say how the machine is set up, not what to measure.
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TMPDIR", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
COMPARED = ("pandas", "pyarrow", "numpy")


@dataclass(frozen=True)
class Side:
    """One framework: the interpreter that has it and the name it is imported by."""

    name: str
    python: Path

    def flow_source(self, source: str) -> str:
        """The flow's source, importing this framework."""
        return source.replace("from daskflow import", f"from {self.name} import")

    def command(self, flow: Path, store: Path, words: tuple[str, ...]) -> list[str]:
        """The command line that gives a flow file a command and its options."""
        raise NotImplementedError

    def environment(self, home: Path, store: Path) -> dict[str, str]:
        """All variables that a run sees: few, and none that points at settings of the user."""
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        return {**kept, "HOME": str(home), "USER": "benchmark", "USERNAME": "benchmark"}

    def versions(self) -> dict[str, str]:
        """The versions of Python, of the framework and of the libraries that both sides use."""
        ask = (
            "import json, platform; from importlib.metadata import version; "
            f"print(json.dumps({{'python': platform.python_version(), "
            f"**{{name: version(name) for name in {(self.name, *COMPARED)!r}}}}}))"
        )
        answer = subprocess.run(
            [str(self.python), "-c", ask], check=True, capture_output=True, text=True, cwd=ROOT
        )
        return dict(json.loads(answer.stdout))


class Daskflow(Side):
    """This project, in the interpreter that runs the benchmark."""

    def command(self, flow: Path, store: Path, words: tuple[str, ...]) -> list[str]:
        return [str(self.python), str(flow), "--datastore", str(store), *words]

    def environment(self, home: Path, store: Path) -> dict[str, str]:
        # Without an installation the package may come from PYTHONPATH, as it did for this process.
        folders = [
            str(Path(folder).resolve())
            for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep)
            if folder
        ]
        extra = {"PYTHONPATH": os.pathsep.join(folders)} if folders else {}
        return {**super().environment(home, store), **extra}


class Metaflow(Side):
    """The peer, in a virtual environment of its own."""

    def command(self, flow: Path, store: Path, words: tuple[str, ...]) -> list[str]:
        return [str(self.python), str(flow), *words]

    def environment(self, home: Path, store: Path) -> dict[str, str]:
        extra = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(store), "METAFLOW_USER": "benchmark"}
        return {**super().environment(home, store), **extra}


def daskflow() -> Side:
    """This project, as the running interpreter sees it."""
    return Daskflow("daskflow", Path(sys.executable))


def metaflow(python: Path | None = None) -> Side:
    """The peer: in the given interpreter, else in an environment that is made on first use.

    It gets the same versions of pandas, pyarrow and numpy as the running interpreter has.

    Raises:
        subprocess.CalledProcessError: pip could not install it; pip's own message is on stderr.
    """
    if python is not None:
        return Metaflow("metaflow", python)
    wanted = (METAFLOW, *(f"{name}=={version(name)}" for name in COMPARED))
    return Metaflow("metaflow", environment_with("metaflow", wanted))


def environment_with(name: str, requirements: tuple[str, ...]) -> Path:
    """The interpreter of a virtual environment that has exactly these requirements, made on first use.

    Raises:
        subprocess.CalledProcessError: pip could not install them; pip's own message is on stderr.
    """
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    stamp = folder / "installed.txt"  # written last: without it an environment is incomplete
    wanted = "\n".join((sys.version, *requirements))
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"making {folder} with {', '.join(requirements)}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
            check=True,
            stdout=sys.stderr,
        )
        stamp.write_text(wanted)
    return python
