"""Restarts, stops and SIGHUP, as clients notice them."""

from __future__ import annotations

import http.client
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from tests.helpers.databases import create_database, database_in
from tests.helpers.factories import bearer, token
from tests.helpers.http import send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, GUNICORN, Server, environment, running
from tests.helpers.waiting import until

SECONDS = 60

wait_until = partial(until, seconds=SECONDS)

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}

# No successful sign-ins: the 51st would end the session of the token. NAME is another each time,
# because a network gets ten wrong passwords an hour for each.
REQUESTS: tuple[tuple[str, str, dict[str, str], str | None, int], ...] = (
    ("POST", "/auth", FORM, "username=NAME&password=wrong", 401),
    ("GET", "/my-pets", {}, None, 200),
    ("POST", "/pets", JSON, '{"name": "Rex"}', 201),
)

SITES = count(1)
"""Each request comes from another network, so that no limit on passwords applies."""

ONE_WORKER = {"WORKERS": "1", "TRUSTED_PROXIES": "1"}

# What systemd does: the socket is file 3, and the variables name the process that is to take it.
ACTIVATE = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass
class Client:
    """Sends requests in turn, on one kept-alive connection or each on a fresh one."""

    address: tuple[str, int]
    keep_alive: bool
    travis: dict[str, str] = field(default_factory=lambda: bearer(token()))
    completed: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    connection: http.client.HTTPConnection | None = None

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(0.03):
            for request in REQUESTS:
                self.send(*request)
        self.close()

    def close(self) -> None:
        if self.connection:
            self.connection.close()
        self.connection = None

    def send(
        self, method: str, path: str, headers: dict[str, str], body: str | None, status: int
    ) -> None:
        if self.connection and select.select([self.connection.sock], [], [], 0)[0]:
            self.close()  # the server has closed the idle connection
        if self.connection is None:
            self.connection = http.client.HTTPConnection(*self.address, timeout=SECONDS)
        headers = headers | self.travis | {"X-Forwarded-For": f"2001:db8:{next(SITES):x}::1"}
        if not self.keep_alive:
            headers |= {"Connection": "close"}
        try:
            sent = body and body.replace("NAME", secrets.token_hex(8))
            self.connection.request(method, path, sent, headers)
            response = self.connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(f"{method} {path}: {error!r}")
            self.close()
            return
        if response.status != status:
            self.failures.append(f"{method} {path}: {response.status} {text!r}")
        if response.will_close:
            self.close()
        self.completed[path] += 1


@contextmanager
def load(address: tuple[str, int]) -> Iterator[list[Client]]:
    """Run a client that keeps its connection, and one that does not."""
    stop = threading.Event()
    clients = [Client(address, keep_alive) for keep_alive in (True, False)]
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def activated(folder: Path, listener: socket.socket) -> subprocess.Popen[bytes]:
    """Start gunicorn as systemd does, on a listening socket of this process."""
    with (folder / "server.log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own command
            [
                sys.executable, "-S", "-c", ACTIVATE, str(listener.fileno()),
                sys.executable, "-m", *GUNICORN,
            ],
            cwd=folder, env=environment(folder, BASE_ENVIRONMENT | ONE_WORKER),
            stdout=log, stderr=log, pass_fds=[listener.fileno()],
        )  # fmt: skip


@pytest.mark.slow
def test_a_restart_under_socket_activation_fails_no_request(tmp_path: Path) -> None:
    create_database(database_in(tmp_path))
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        process = activated(tmp_path, listener)
        try:
            with load(listener.getsockname()) as clients:
                wait_for_all(clients)
                process.terminate()
                assert process.wait(timeout=SECONDS) == 0
                process = activated(tmp_path, listener)
                wait_for_all(clients)
        finally:
            process.terminate()
            process.wait(timeout=SECONDS)

    assert [failure for client in clients for failure in client.failures] == []
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def wait_for_all(clients: list[Client]) -> None:
    """Wait until each client has had each of its requests answered a few more times."""
    before = [client.completed.copy() for client in clients]
    wait_until(
        lambda: all(
            client.completed[path] > counts[path] + 3
            for client, counts in zip(clients, before, strict=True)
            for _, path, *_ in REQUESTS
        )
    )


def test_sighup_changes_nothing(server: Server) -> None:
    workers = server.workers()
    for pid in (server.process.pid, *workers):
        os.kill(pid, signal.SIGHUP)

    wait_until(lambda: "SIGHUP is ignored" in server.log())
    assert send_to_server(server, "GET", "/my-pets", bearer(token())).status == 200
    assert server.workers() == workers


SIGN_IN = b"""\
POST /auth HTTP/1.0\r
Content-Type: application/x-www-form-urlencoded\r
Content-Length: 35\r
X-Forwarded-For: 192.0.2.%d\r
\r
username=travis&password=mypassword"""


def test_a_stop_completes_the_requests_that_hash_or_are_queued(tmp_path: Path) -> None:
    one = {"HASH_CONCURRENCY": "1", "HASH_QUEUE": "8", "SALT_ROUNDS": "10"}

    with running(tmp_path, BASE_ENVIRONMENT | ONE_WORKER | one) as server, ExitStack() as stack:
        address = server.host, server.port
        clients = [
            stack.enter_context(socket.create_connection(address, timeout=SECONDS))
            for _ in range(6)
        ]
        for number, client in enumerate(clients):
            client.sendall(SIGN_IN % number)
        wait_until(lambda: unread(server) == 0)
        server.process.terminate()
        statuses = [client.recv(65536).split()[1] for client in clients]

    assert statuses == [b"200"] * 6


def test_a_stop_refuses_new_connections_while_it_completes_requests(tmp_path: Path) -> None:
    """They would wait for nobody, and be reset at the end: a proxy could not repeat their POST."""
    with running(tmp_path, BASE_ENVIRONMENT | ONE_WORKER) as server:
        address = server.host, server.port
        with socket.create_connection(address, timeout=SECONDS) as client:
            client.sendall(b"GET /healthz HTTP/1.0\r\n")
            wait_until(lambda: unread(server) == 0)
            server.process.terminate()
            wait_until(lambda: not is_listening(server))
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, timeout=SECONDS)
            client.sendall(b"\r\n")
            assert client.recv(65536).split()[1] == b"200"


def is_listening(server: Server) -> bool:
    """Whether a process listens on the server's port."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(fields[1].endswith(f":{server.port:04X}") and fields[3] == "0A" for fields in lines)


def unread(server: Server) -> int:
    """Count what the worker has not read of requests, and not accepted of connections."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    queues = [fields[4] for fields in lines if fields[1].endswith(f":{server.port:04X}")]
    return sum(int(queue.partition(":")[2], 16) for queue in queues)
