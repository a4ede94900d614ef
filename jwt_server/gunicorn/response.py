"""A response: head and body in one packet, and errors in the service's format."""

import socket
import sys
import time
from collections.abc import Sequence
from email.utils import formatdate
from functools import lru_cache
from typing import Any, Final

from gunicorn import util
from gunicorn.http import wsgi

from jwt_server.web.middleware import DEFAULT_HEADERS, FIXED_HEADERS
from jwt_server.web.problems import HTTP_ERRORS

VALID_HEADERS: Final = frozenset(DEFAULT_HEADERS + FIXED_HEADERS)


class Response(wsgi.Response):
    """gunicorn's response, sent with fewer system calls."""

    sock: socket.socket
    headers: list[tuple[str, str]]
    headers_sent: bool
    chunked: bool
    _head = b""
    """The head, until a part of the body is sent with it."""

    def process_headers(self, headers: Sequence[tuple[str, str]]) -> None:
        """Check the headers, except those that nearly every response has."""
        others = [header for header in headers if header not in VALID_HEADERS]
        super().process_headers(others)  # type: ignore[no-untyped-call]  # gunicorn has no types
        self.headers += [header for header in headers if header in VALID_HEADERS]

    def send_headers(self) -> None:
        """Send the headers with the first part of the body, or at its end."""
        if not self.headers_sent:
            lines: list[str] = self.default_headers()  # type: ignore[no-untyped-call]  # as above
            lines += [f"{name}: {text}\r\n" for name, text in self.headers]
            self._head = "".join([*lines, "\r\n"]).encode("latin-1")
            self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        if self.chunked:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        head, self._head = self._head, b""
        self.sock.sendall(head + data)

    def close(self) -> None:
        """Send what is left: the head of a response without a body, the end of a chunked one."""
        self.send_headers()
        rest = self._head + (b"0\r\n\r\n" if self.chunked else b"")
        if rest:
            self.sock.sendall(rest)


def errors_stream(_cfg: Any) -> Any:
    """Return `wsgi.errors`; gunicorn's would look for the handlers of its log at each request."""
    return sys.stderr


def http_date(_timestamp: None = None) -> str:
    """Return the time of now for the Date header, formatted once a second."""
    return _http_date(int(time.time()))


@lru_cache(maxsize=1)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)


def write_error(client: socket.socket, status: int, reason: str, _cause: str) -> None:
    """Write an error like the app's: gunicorn's own is HTML with a part of the request."""
    _, text = HTTP_ERRORS.get(status, HTTP_ERRORS[400])
    headers = (
        ("Connection", "close"), ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", len(text)), ("Access-Control-Allow-Origin", "*"),
        *FIXED_HEADERS, *DEFAULT_HEADERS,
    )  # fmt: skip
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    client.sendall(f"HTTP/1.1 {status} {reason}\r\n{head}\r\n{text}".encode())


util.http_date = http_date
wsgi.WSGIErrorsWrapper = errors_stream  # type: ignore[assignment, misc]
util.write_error = write_error
