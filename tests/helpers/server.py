"""A real gunicorn for tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from gunicorn.config import Config

from tests.helpers import processes
from tests.helpers.databases import create_database, database_in, url_of
from tests.helpers.factories import JWT_SECRET, SECRET_KEY, UNTHROTTLED
from tests.helpers.processes import AnyProcess
from tests.helpers.secrets import find_secrets
from tests.helpers.waiting import free_port

ROOT = processes.ROOT
GUNICORN: tuple[str, ...] = ("gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), "wsgi:app")
"""The arguments of `python -m`."""

UNSHARED = ("env",)
"""A launcher for servers whose memory is measured: it is not shared with other forks."""

START_SECONDS = 60

BASE_ENVIRONMENT = {"SECRET_KEY": SECRET_KEY.decode(), "JWT_SECRET": JWT_SECRET.decode()}


@dataclass(frozen=True)
class Server:
    """A running gunicorn."""

    host: str
    port: int
    process: AnyProcess
    log_file: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def log(self) -> str:
        return self.log_file.read_text()

    def raw(self, data: bytes) -> bytes:
        """Send bytes as they are, close the sending side, and return all that comes back."""
        with socket.create_connection((self.host, self.port), timeout=10) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            chunks = []
            while chunk := connection.recv(65536):
                chunks.append(chunk)
        return b"".join(chunks)

    def workers(self) -> list[int]:
        """Return the process IDs of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]


def environment(folder: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process of the service, without that of the tests' process."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": extra.get("DATABASE_URL") or url_of(database_in(folder)),
        "SALT_ROUNDS": "4",
        "WORKERS": "1",
        **{name.upper(): str(limit) for name, limit in UNTHROTTLED.items()},
        "METRICS_PORT": "0",  # many servers run at once
        **processes.passed_on(),
        **extra,
    }


def flask(
    folder: Path, extra: Mapping[str, str], *command: str, **redirected: Path | None
) -> subprocess.CompletedProcess[str]:
    """Run `flask --app wsgi ...` as a user would, with its streams redirected as by `run`."""
    arguments = ("flask", "--app", "wsgi", *command)
    return processes.run(folder, environment(folder, extra), *arguments, **redirected)


def gunicorn(
    folder: Path, extra: Mapping[str, str], log_file: Path, launcher: Sequence[str] = ()
) -> AnyProcess:
    """Start gunicorn with the configuration of the checkout, by a command that is its launcher."""
    variables = environment(folder, extra)
    log_file.write_bytes(b"")
    if not launcher:
        streams = (Path(os.devnull), log_file, log_file)
        return processes.start(folder, variables, streams, *GUNICORN)
    with log_file.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own command
            [*launcher, sys.executable, "-m", *GUNICORN],
            cwd=folder, env=variables, stdout=log, stderr=log,
        )  # fmt: skip


@contextmanager
def running(
    folder: Path, extra: Mapping[str, str], launcher: Sequence[str] = ()
) -> Iterator[Server]:
    """Run a server with a fresh database and the demo user, signed in with the session of
    `token()`.
    """
    create_database(database_in(folder))
    with started(folder, extra, launcher) as server:
        yield server


@contextmanager
def started(
    folder: Path, extra: Mapping[str, str], launcher: Sequence[str] = ()
) -> Iterator[Server]:
    """Run a server with the database of the folder."""
    port = free_port()
    log_file = folder / "server.log"
    process = gunicorn(folder, {**extra, "PORT": str(port)}, log_file, launcher)
    with answering(port, process, log_file) as server:
        yield server
    assert find_secrets(log_file.read_text()) == []


@contextmanager
def answering(
    port: int, process: AnyProcess, log_file: Path, stop_seconds: float = 60
) -> Iterator[Server]:
    """Yield a server once it answers; stop it within `stop_seconds` afterwards."""
    try:
        wait_for(port, process, log_file)
        yield Server("127.0.0.1", port, process, log_file)
    finally:
        process.terminate()
        process.wait(timeout=stop_seconds)


def wait_until_open(port: int, process: AnyProcess, log_file: Path) -> None:
    """Wait until a process accepts connections."""

    def is_open() -> bool:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return True
        return False

    _wait(is_open, process, log_file)


PROXY_PATH = f"{os.environ['PATH']}:/usr/sbin"
"""Where proxies are installed."""


@contextmanager
def running_proxy(folder: Path, port: int, *command: str) -> Iterator[Server]:
    """Run a proxy that listens on a port of 127.0.0.1, in a folder for its files."""
    log_file = folder / "proxy.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - a test's own command
            command, cwd=folder, env={"PATH": PROXY_PATH, "HOME": str(folder)},
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until_open(port, process, log_file)
        yield Server("127.0.0.1", port, process, log_file)
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_for(port: int, process: AnyProcess, log_file: Path) -> None:
    """Wait until a worker of the service answers."""

    def answers() -> bool:
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
        ):
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return b"alive" in connection.recv(65536)
        return False

    _wait(answers, process, log_file)


def _wait(condition: Callable[[], bool], process: AnyProcess, log_file: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert process.poll() is None, f"it has ended:\n{log_file.read_text()}"
        assert time.monotonic() < deadline, f"it did not start:\n{log_file.read_text()}"
        time.sleep(0.05)


def wait_for_workers(server: Server, count: int, gone: Sequence[int] = ()) -> list[int]:
    """Return the workers, once there are `count`, each pinned to a core, and none is of `gone`."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        workers = server.workers()
        try:
            pinned = all(len(os.sched_getaffinity(worker)) == 1 for worker in workers)
        except ProcessLookupError:  # it has just ended
            pinned = False
        if len(workers) == count and pinned and not set(workers) & set(gone):
            return workers
        time.sleep(0.02)
    raise AssertionError("the workers did not start")


def failed_start(folder: Path, extra: Mapping[str, str]) -> list[str]:
    """Start gunicorn, which must fail, and return its lines but for the first."""
    log = folder / "failed.log"
    process = gunicorn(folder, {**extra, "PORT": str(free_port())}, log)
    assert process.wait(timeout=START_SECONDS) != 0
    return [line for line in log.read_text().splitlines() if "Starting gunicorn" not in line]


def arbiter(conf: ModuleType) -> SimpleNamespace:
    """Return gunicorn's main process, as far as the configuration uses it."""
    cfg: Any = Config
    made = cfg()
    for name in conf.OWN_OPTIONS:
        made.set(name, getattr(conf, name))
    return SimpleNamespace(cfg=made)
