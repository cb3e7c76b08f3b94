"""Nothing that the tests start listens where other machines could reach it, and what does is seen.

Here it does in a network of its own, which nobody else can reach.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

UNSHARE = [
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "sh",
    "-c",
    'ip link set lo up && exec "$@"',
    "sh",
]
TESTS = """
    import json, os, subprocess, sys
    from listeners import watcher

    child = '''if 1:
        import os, socket, sys
        if sys.argv[2] == "orphan" and os.fork():
            os._exit(0)
        with socket.create_server((sys.argv[1], 0)) as listens:
            print(listens.getsockname()[1], flush=True)
            sys.stdin.read()
    '''
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with watcher() as found:
        for address, kind in (("127.1.2.3", ""), ("0.0.0.0", ""), ("0.0.0.0", "orphan")):
            with subprocess.Popen([sys.executable, "-c", child, address, kind], **pipes) as process:
                port = int(process.stdout.readline())
                seen = found.seen()
                print(json.dumps([address, port, seen, found.seen()]))
"""


def test_whatever_listens_on_another_address_than_loopback_is_told_once_with_its_command():
    if subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("the system gives nobody a network namespace (unshare, ip)")
    done = subprocess.run(
        [*UNSHARE, sys.executable, "-c", textwrap.dedent(TESTS)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (_, _, at_home, _), *others = map(json.loads, done.stdout.splitlines())

    assert at_home == []
    assert len(others) == 2
    for address, port, [seen], again in others:
        assert f"{address} port {port}, by process " in seen
        assert "socket.create_server" in seen
        assert again == []
