"""Makes the golden store of this version: ``python tests/golden/make.py FOLDER``.

It is made once for each format of the store and then kept for ever: what was written by any version must stay readable. Names
of machines and folders are replaced by those of nobody.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
FLOW = HERE / "flow.py"


def main(folder: Path) -> None:
    """Run the flow twice, the first time so that it fails and goes on."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        shutil.copy(FLOW, home / "flow.py")
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        environment = kept | {"USER": "ada", "HOME": str(home), "DASKFLOW_DATASTORE": str(home / "store")}

        def call(*words: str, status: int = 0) -> None:
            command = [sys.executable, "flow.py", *words]
            done = subprocess.run(command, cwd=home, env=environment, check=False)
            assert done.returncode == status

        call("run", "--alpha", "0.5", "--chunk", "4", "--tag", "golden", status=1)
        (home / "mended").touch()
        call("continue", "1")
        call("tag", "add", "--run-id", "1", "later")
        call("resume", "--origin-run-id", "1")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(home / "store", folder)
        names = {
            str(home): "/home/ada/flows",
            socket.gethostname(): "laptop",
            sys.executable: "/usr/bin/python3",
        }
        for file in folder.rglob("*.json"):
            text = file.read_text()
            for real, nobody in names.items():
                text = text.replace(real, nobody)
            file.write_text(re.sub(r'"(boot|namespace)": "[^"]*"', r'"\1": ""', text))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
