"""A real gunicorn for tests: started, asked, and stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.databases import create_database
from tests.helpers.factories import JWT_SECRET, SECRET_KEY, UNTHROTTLED
from tests.helpers.secrets import find_secrets

ROOT = Path(__file__).parent.parent.parent
GUNICORN: tuple[str, ...] = (sys.executable, "-m", "gunicorn")
START_SECONDS = 20

BASE_ENVIRONMENT = {"SECRET_KEY": SECRET_KEY.decode(), "JWT_SECRET": JWT_SECRET.decode()}

PASSED_ON = ("COVERAGE_PROCESS_CONFIG",)
"""Set where coverage is measured, in CI: what runs in other processes is measured, too."""


@dataclass(frozen=True)
class Server:
    """A running gunicorn."""

    host: str
    port: int
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def log(self) -> str:
        return self.log_file.read_text()

    def raw(self, data: bytes) -> bytes:
        """Send bytes as they are, say that there are no more, and read to the end."""
        with socket.create_connection((self.host, self.port), timeout=10) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            chunks = []
            while chunk := connection.recv(65536):
                chunks.append(chunk)
        return b"".join(chunks)

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]


def environment(folder: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """What a process of ours gets, and nothing of what the tests' own process has."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": f"sqlite:///{folder}/server.db",
        "SALT_ROUNDS": "4",
        "WORKERS": "2",
        **{name.upper(): str(most) for name, most in UNTHROTTLED.items()},
        "METRICS_PORT": "0",  # many run at once
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **extra,
    }


def flask(
    folder: Path, extra: Mapping[str, str], *command: str
) -> subprocess.CompletedProcess[str]:
    """Run `flask --app wsgi ...` as a user would."""
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "flask", "--app", "wsgi", *command],
        cwd=folder,
        env=environment(folder, extra),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def gunicorn(folder: Path, extra: Mapping[str, str], log_file: Path) -> subprocess.Popen[bytes]:
    """Start gunicorn with the house's own configuration."""
    with log_file.open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own command
            [*GUNICORN, "-c", str(ROOT / "gunicorn.conf.py"), "wsgi:app"],
            cwd=folder,
            env=environment(folder, extra),
            stdout=log,
            stderr=log,
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(folder: Path, extra: Mapping[str, str]) -> Iterator[Server]:
    """A server with a fresh database and the demo user, signed in as `token` says, for the length
    of a `with` block.
    """
    create_database(folder / "server.db")
    with started(folder, extra) as server:
        yield server


@contextmanager
def started(folder: Path, extra: Mapping[str, str]) -> Iterator[Server]:
    """A server with the database that is there."""
    port = free_port()
    log_file = folder / "server.log"
    process = gunicorn(folder, {**extra, "PORT": str(port)}, log_file)
    with answering(port, process, log_file, 60) as server:  # twice gunicorn's own patience
        yield server
    assert find_secrets(log_file.read_text()) == []


@contextmanager
def answering(
    port: int, process: subprocess.Popen[bytes], log_file: Path, patience: float
) -> Iterator[Server]:
    """A server that was just started, once it answers; its end may take so many seconds."""
    try:
        wait_for(port, process, log_file)
        yield Server("127.0.0.1", port, process, log_file)
    finally:
        process.terminate()
        process.wait(timeout=patience)


def until(true: Callable[[], bool], seconds: float) -> None:
    """Wait for something, no longer than so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_until_open(port: int, process: subprocess.Popen[bytes], log_file: Path) -> None:
    """Wait until somebody takes connections."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nothing has started:\n{log_file.read_text()}")


def wait_for(port: int, process: subprocess.Popen[bytes], log_file: Path) -> None:
    """Wait until a worker answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                if b"alive" in connection.recv(65536):
                    return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{log_file.read_text()}")


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
