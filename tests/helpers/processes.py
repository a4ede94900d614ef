"""Processes of the service, which start by a fork of one that has imported its modules."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

ROOT = Path(__file__).parent.parent.parent

PASSED_ON = ("COVERAGE_PROCESS_CONFIG",)
"""Set where coverage is measured, in CI: what runs in other processes is measured, too."""

LOCK = Lock()


@cache
def forker() -> subprocess.Popen[str]:
    """Return the process that all others are forked from."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.forker"],
        cwd=ROOT, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | passed_on(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def passed_on() -> dict[str, str]:
    """Return the variables of this process that others get, too."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def stop_forker() -> None:
    """End it if it runs, so that its CPU time counts as that of a child."""
    if forker.cache_info().currsize:
        forker().communicate()
        forker.cache_clear()


def ask(request: object) -> Any:
    """Send it a request; return the response."""
    process = forker()
    assert process.stdin
    assert process.stdout
    with LOCK:
        print(json.dumps(request), file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())


@dataclass
class Process:
    """A process that was forked, with methods of `subprocess.Popen`."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        if self.returncode is None:
            self.returncode = ask(self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Return the exit status once it has ended."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            assert time.monotonic() < deadline, f"process {self.pid} has not ended"
            time.sleep(0.01)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


AnyProcess = subprocess.Popen[bytes] | Process


def start(
    folder: Path,
    environment: Mapping[str, str],
    streams: Sequence[Path | None],
    *command: str,
) -> Process:
    """Start `python -m` and a command; standard input, output and error are files or closed."""
    paths = [path and str(path) for path in streams]
    module, *arguments = command
    return Process(ask([str(folder), dict(environment), paths, module, arguments]))


def run(
    folder: Path, environment: Mapping[str, str], *command: str, **redirected: Path | None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m` and a command until it ends.

    `stdin`, `stdout` and `stderr` are redirected to files, or closed by None.
    """
    with tempfile.TemporaryDirectory() as files:
        own = {name: Path(files, name) for name in ("stdin", "stdout", "stderr")}
        process = start(folder, environment, list((own | redirected).values()), *command)
        status = process.wait(timeout=60)
        _, *written = [path.read_text() if path.exists() else "" for path in own.values()]
    return subprocess.CompletedProcess(command, status, *written)
