"""The service under torture: a gunicorn that is killed in several ways."""

from __future__ import annotations

import http.client
import os
import random
import signal
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from tests.helpers import processes
from tests.helpers.factories import JWT_SECRET, SECRET_KEY
from tests.helpers.server import GUNICORN, environment
from tests.helpers.waiting import free_port
from tests.torture.databases import UnderTorture

GRACE: Final = 10
"""REFRESH_GRACE, in seconds."""

SETTINGS: Final = {
    "SECRET_KEY": SECRET_KEY.decode(),
    "JWT_SECRET": JWT_SECRET.decode(),
    "SIGNUP": "open",
    "TRUSTED_PROXIES": "1",  # each client has its own address
    "REFRESH_GRACE": str(GRACE),
    "ACCESS_TOKEN_TTL": "86400",  # what is refused is revoked, not expired
    "LOG_FORMAT": "json",
}

WORKERS: Final = 2
WORKER, ALL_WORKERS = "one worker", "all workers"
TREE, ARBITER_FIRST, WORKERS_FIRST, ARBITER = (
    "the whole tree", "the arbiter, then the workers", "the workers, then the arbiter",
    "the arbiter alone",
)  # fmt: skip
WHOLE: Final = frozenset({TREE, ARBITER_FIRST, WORKERS_FIRST, ARBITER})
"""After these kills it must be started again."""

AGAIN: Final = "the whole tree, while it starts"
KINDS: Final = (WORKER, ALL_WORKERS, TREE, ARBITER_FIRST, WORKERS_FIRST, ARBITER)

START_SECONDS: Final = 60


class Target:
    """The service under torture."""

    def __init__(self, folder: Path, database: UnderTorture) -> None:
        self.folder = folder
        self.port = free_port()
        self.database = database
        self.log_file = folder / "server.log"
        self.process: processes.Process | None = None

    def start(self) -> None:
        """Start gunicorn, in a process group of its own."""
        own = {"PORT": str(self.port), "WORKERS": str(WORKERS), "DATABASE_URL": self.database.url}
        variables = environment(self.folder, SETTINGS | own)
        streams = (Path(os.devnull), self.log_file, self.log_file)
        self.process = processes.start(self.folder, variables, streams, *GUNICORN)

    def workers(self) -> list[int]:
        """Return the process IDs of the workers; none if there is no arbiter."""
        pid = self._running().pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return []
        return [int(child) for child in children.split()]

    def kill(self, kind: str, rng: random.Random) -> None:
        """Kill in this way, and wait until the processes have ended."""
        process, workers = self._running(), self.workers()
        if kind == WORKER:
            _kill(*rng.sample(workers, min(1, len(workers))))
        elif kind == ALL_WORKERS:
            _kill(*workers)
        elif kind in {TREE, AGAIN}:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            halves = ([process.pid], workers)
            for pids in halves[::-1] if kind == WORKERS_FIRST else halves:
                if pids is not workers or kind != ARBITER:
                    _kill(*pids)
                time.sleep(rng.uniform(0, 0.03))
        if kind in WHOLE or kind == AGAIN:
            process.wait(timeout=10)
            if kind != ARBITER:
                with suppress(ProcessLookupError):  # a worker that was forked meanwhile
                    os.killpg(process.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait until all workers run and it is ready."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._running().poll() is not None:
                break
            if len(self.workers()) == WORKERS and self._ready():
                return
            time.sleep(0.01)
        raise RuntimeError(f"it did not start again:\n{self.log()[-3000:]}")

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/readyz", headers={"X-Forwarded-For": "127.0.0.1"})
            return connection.getresponse().status == 200
        return False

    def stop(self) -> None:
        """Stop it as an operator would; kill it and raise if it does not stop."""
        process = self._running()
        process.terminate()
        try:
            process.wait(timeout=60)
        except AssertionError:
            os.killpg(process.pid, signal.SIGKILL)
            raise

    def log(self) -> str:
        """Return the log."""
        return self.log_file.read_text()

    def _running(self) -> processes.Process:
        if self.process is None:
            raise RuntimeError("nothing was started")
        return self.process


def _kill(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
