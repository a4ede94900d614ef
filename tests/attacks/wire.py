"""Bytes on the wire, to a gunicorn alone and to one behind nginx, and what its log tells."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.helpers.site import NAME, Site

# The second request, and how it would show: its id in the service's log.
SMUGGLED_ID = "smuggled-request"
SECOND = f"GET /docs HTTP/1.1\r\nHost: {NAME}\r\nX-Request-ID: {SMUGGLED_ID}\r\n\r\n".encode()

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


def raw(path: Path, sent: bytes) -> bytes:
    """Send bytes to a Unix socket, and return all that comes back.

    The server may close the connection before it has read all.
    """
    received = b""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT)
        connection.connect(str(path))
        with suppress(ConnectionError):
            connection.sendall(sent)
        with suppress(OSError):  # not connected any more
            connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while chunk := connection.recv(65536):
                received += chunk
    return received


@dataclass(frozen=True)
class Service:
    """A gunicorn on a Unix socket, alone or behind nginx, and its log."""

    socket: Path

    @property
    def log_file(self) -> Path:
        return self.socket.with_name("server.log")

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


@cache
def tls_context(site: Site, *protocols: str) -> ssl.SSLContext:
    """Return a TLS context for protocols of ALPN."""
    context = site.context()
    context.set_alpn_protocols([*protocols])
    return context


@dataclass(frozen=True)
class RawSite:
    """The service behind the nginx of deploy/, for raw bytes over TLS."""

    site: Site
    service: Service

    def connect(self, *protocols: str) -> ssl.SSLSocket:
        """Open a TLS connection that speaks one of the protocols of ALPN."""
        connection = self.site.connect(tls_context(self.site, *protocols))
        connection.settimeout(WAIT)
        return connection

    def raw(self, sent: bytes) -> bytes:
        """Send bytes as they are; returns all that comes until nginx closes, or waits."""
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
        """Check that nothing was left on the connection between nginx and the service."""
        before = self.service.size()
        received = self.raw(request(b"X-Request-ID: the-next-client", line=b"GET /docs HTTP/1.1"))
        assert statuses(received) == [200]
        assert b"x-request-id: the-next-client" in received.lower()
        assert received.endswith(b"</html>")
        assert len(self.service.answered_since(before)) == 1
