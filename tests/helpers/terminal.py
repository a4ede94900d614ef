"""Run a command as if at a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import threading
from pathlib import Path

from tests.helpers.server import BASE_ENVIRONMENT, environment


def run_at_terminal(
    folder: Path, typed: list[str], *command: str, prompt: str = ":"
) -> tuple[int, str]:
    """Run a command at a terminal.

    Each text that ends as `prompt` gets the next line of `typed`. Returns the exit code and what
    was displayed.
    """
    controller, terminal = pty.openpty()
    with subprocess.Popen(  # noqa: S603 - a fixed command
        command,
        cwd=folder, env=environment(folder, BASE_ENVIRONMENT),
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(terminal)
        timeout = threading.Timer(60, process.kill)
        timeout.start()
        displayed = ""
        while True:
            try:
                displayed += os.read(controller, 4096).decode()
            except OSError:  # Linux raises EIO when the other side is closed
                break
            if displayed.rstrip(" ").endswith(prompt) and typed:
                os.write(controller, f"{typed.pop(0)}\n".encode())
        timeout.cancel()
    os.close(controller)
    return process.returncode, displayed
