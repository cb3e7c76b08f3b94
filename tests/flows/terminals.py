"""A person at a terminal: waits for a prompt, types, reads on."""

from __future__ import annotations

import os
import pty
import re
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Workspace

PROMPT = "(Pdb) "
PATIENCE = 60


def at_terminal(place: Workspace, command: Sequence[str], typed: Sequence[str]) -> tuple[int, str]:
    """Run a command on a terminal and answer each prompt; its exit status, and what could be read."""
    ours, theirs = pty.openpty()
    answers = list(typed)
    seen, fresh = b"", b""
    with place.start(
        *command, stdin=theirs, stdout=theirs, stderr=theirs, env={"TERM": "xterm", "COLUMNS": "200"}
    ) as process:
        os.close(theirs)
        try:
            while select.select([ours], [], [], PATIENCE)[0]:
                try:
                    part = os.read(ours, 1 << 16)
                except OSError:  # the process has ended
                    break
                seen, fresh = seen + part, fresh + part
                if plain(fresh).endswith(PROMPT):
                    assert answers, plain(seen)
                    os.write(ours, f"{answers.pop(0)}\n".encode())
                    fresh = b""
            else:
                process.kill()
                raise AssertionError(f"nothing comes any more: {plain(seen)}")
        finally:
            os.close(ours)
            if answers:
                process.kill()
    assert not answers, f"no prompt for {answers}: {plain(seen)}"
    return process.returncode, plain(seen)


def plain(data: bytes) -> str:
    """Without colours, and with moves of the cursor as ``<up>``."""
    text = data.decode(errors="replace").replace("\r", "").replace("\x1b[1A", "<up>")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
