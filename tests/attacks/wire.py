"""Bytes on the wire, to a gunicorn alone and to one behind nginx, and what its log tells."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.databases import create_database
from tests.helpers.nginx import nginx
from tests.helpers.server import BASE_ENVIRONMENT, free_port, gunicorn
from tests.server.test_site import NAME, configured, trusting

# The second request, and how it would show: its id in the service's log.
SMUGGLED_ID = "smuggled-request"
SECOND = f"GET /healthz HTTP/1.1\r\nHost: {NAME}\r\nX-Request-ID: {SMUGGLED_ID}\r\n\r\n".encode()

# nginx and gunicorn say 501 of a transfer coding that they do not know (RFC 9112 section 6.1),
# nginx says 505 of an HTTP version. No other is taken.
ALLOWED_5XX = {501, 505}

WAIT = 10
"""Seconds after which the test gives up; all that is sent here is answered, or cut off, at once."""


def request(
    *headers: bytes, body: bytes = b"", line: bytes = b"POST /pets HTTP/1.1", end: bytes = b"\r\n"
) -> bytes:
    """A request that says that it is the last one on its connection."""
    fixed = [line, b"Host: " + NAME.encode(), b"Connection: close"]
    return end.join([*fixed, *headers, b"", b""]) + body


def length(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


def statuses(received: bytes) -> list[int]:
    """Those of all answers: the next one starts behind a body without a line end."""
    return [int(code) for code in re.findall(rb"HTTP/\d\.\d (\d{3})", received)]


@dataclass(frozen=True)
class Service:
    """A gunicorn, however it is reached, by its log."""

    log_file: Path

    def size(self) -> int:
        return self.log_file.stat().st_size

    def answered_since(self, before: int) -> list[str]:
        """The lines of the requests that it has answered."""
        with self.log_file.open() as log:
            log.seek(before)
            lines = log.read().splitlines()
        assert not any("Traceback" in line for line in lines)
        return [line for line in lines if "jwt_server.access" in line]

    def ran_no_second(self, before: int, found: list[int]) -> None:
        """See that one request was answered at the most, and no smuggled one.

        Behind an answer that came before the body was read there may be the 400 for the body.
        """
        answered = self.answered_since(before)
        assert not [line for line in answered if SMUGGLED_ID in line]
        assert len(answered) <= 1, answered
        assert found[1:] in ([], [400]), found
        assert all(status < 500 or status in ALLOWED_5XX for status in found), found


@dataclass(frozen=True)
class Site:
    """The service behind the nginx of deploy/, as people reach it."""

    folder: Path
    port: int
    service: Service

    def connect(self, *protocols: str) -> ssl.SSLSocket:
        context = trusting(self.folder)
        context.set_alpn_protocols([*protocols])
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection = context.wrap_socket(raw, server_hostname=NAME)
        connection.settimeout(WAIT)
        return connection

    def raw(self, sent: bytes) -> bytes:
        """Send bytes as they are over TLS; all that comes back until nginx closes, or waits."""
        received = b""
        with closing(self.connect("http/1.1")) as connection:
            connection.sendall(sent)
            try:
                while chunk := connection.recv(65536):
                    received += chunk
            except (TimeoutError, ssl.SSLError, ConnectionError):
                pass
        return received

    def next_client_gets_its_own(self) -> None:
        """See that nothing was left on the connection between nginx and the service."""
        before = self.service.size()
        asked = request(b"X-Request-ID: the-next-client", line=b"GET /healthz HTTP/1.1")
        received = self.raw(asked)
        assert statuses(received) == [200]
        assert b"x-request-id: the-next-client" in received.lower()
        assert received.endswith(b"alive")
        assert len(self.service.answered_since(before)) == 1


@contextmanager
def behind_nginx(folder: Path) -> Iterator[Site]:
    """The service on a Unix socket, as the systemd unit has it, with one worker, behind the nginx
    of deploy/ but for its limits: a test sends more than a client may.
    """
    path = folder / "http.sock"
    create_database(folder / "server.db")
    settings = BASE_ENVIRONMENT | {"HOST": f"unix:{path}", "TRUSTED_PROXIES": "1", "WORKERS": "1"}
    log_file = folder / "server.log"
    process = gunicorn(folder, settings, log_file)
    try:
        deadline = time.monotonic() + 20
        while not path.exists():
            assert time.monotonic() < deadline, log_file.read_text()
            time.sleep(0.05)
        port = free_port()
        site = re.sub(r" *limit_req zone=.*\n", "", configured(folder, path, port, free_port()))
        assert "limit_req zone" not in site
        with nginx(folder, site, port):
            yield Site(folder, port, Service(log_file))
    finally:
        process.terminate()
        process.wait(timeout=60)
