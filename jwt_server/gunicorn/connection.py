"""A client's connection: whether a request has arrived, and limits for a thread that waits."""

import re
import select
import socket
import time
from contextlib import suppress
from typing import Any, Final

from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.workers.gthread import TConn

from jwt_server.errors import MAX_BODY_BYTES

END_OF_HEAD: Final = b"\r\n\r\n"
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,5})[ \t]*\r")
PEEK_BYTES: Final = 8 * 1024
"""Nearly every request is shorter."""
MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and headers together: as much as nginx passes on (deploy/nginx.conf)."""
LONGEST_BODY: Final = MAX_BODY_BYTES + 1
"""The app refuses a longer body without reading it."""
CLIENT_SECONDS: Final = 10
"""Time to begin a request, to send it from its first byte, and to read a part of a response."""
SLOWEST_READER: Final = 50_000
"""Bytes a second: a long part of a response may take that much longer."""


def wait(sock: socket.socket, event: int, seconds: float) -> bool:
    """Return whether the socket is readable (POLLIN) or writable (POLLOUT) in time."""
    poll = select.poll()
    poll.register(sock, event)
    return seconds > 0 and bool(poll.poll(seconds * 1000))


class Socket(socket.socket):
    """A client's socket. A thread waits for the client until a deadline."""

    deadline = 0.0
    """When the request must be complete, by time.monotonic()."""

    def peek(self, size: int) -> bytes:
        """Return what has arrived, which may be nothing, and leave it to be received."""
        with suppress(BlockingIOError):
            return self.recv(size, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return b""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return what has arrived, or arrives before the deadline. Raises TimeoutError.

        With flags: look at what has arrived, as `client_disconnected` does.
        """
        if flags:
            return super().recv(size, flags)
        while True:
            with suppress(BlockingIOError):
                return super().recv(size, socket.MSG_DONTWAIT)
            if not wait(self, select.POLLIN, self.deadline - time.monotonic()):
                raise TimeoutError

    def send(self, data: Any, flags: int = 0) -> int:
        """Send all the data, which gunicorn does with `100 Continue`. Raises TimeoutError."""
        self.sendall(data)
        return len(data)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all the data. Raises TimeoutError if the client reads too slowly."""
        rest, end = memoryview(data), time.monotonic() + CLIENT_SECONDS
        while rest:
            try:
                sent = super().send(rest, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not wait(self, select.POLLOUT, end - time.monotonic()):
                    raise TimeoutError from None
            else:
                rest = rest[sent:]
                end += sent / SLOWEST_READER


class Connection(TConn):
    """A connection that looks whether a request is complete before a thread reads it."""

    parser: Any
    seen_bytes = 0
    """Of an incomplete request."""

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any) -> None:
        limited = Socket(sock.family, sock.type, sock.proto, sock.detach())
        limited.deadline = time.monotonic() + CLIENT_SECONDS
        super().__init__(cfg, limited, client, server)  # type: ignore[no-untyped-call]  # gunicorn has no types

    def should_read(self) -> bool:
        """Return whether a thread should read now.

        That is if the request is complete, the client has left, or a wake-up brought nothing new.
        The kernel keeps an incomplete request, and wakes the poller when the missing bytes have
        arrived (SO_RCVLOWAT); Unix sockets wake it at once. Raises LimitRequestHeaders, and OSError
        if the client has disconnected.
        """
        self.init()  # type: ignore[no-untyped-call]  # as above
        if not self.seen_bytes:
            self.sock.deadline = time.monotonic() + CLIENT_SECONDS
        arrived = self.sock.peek(PEEK_BYTES)
        if len(arrived) == PEEK_BYTES:
            arrived = self.sock.peek(MAX_HEAD_BYTES + LONGEST_BODY)
        request = self.parser.unreader.buf.getvalue() + arrived  # it may have been pipelined
        missing = missing_bytes(request)
        is_waiting = missing > 0 and len(request) > self.seen_bytes
        if is_waiting or self.seen_bytes:
            low_water_mark = len(arrived) + missing if is_waiting else 1
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low_water_mark)
            self.seen_bytes = len(request) if is_waiting else 0
        return not is_waiting


def missing_bytes(request: bytes) -> int:
    """Return how many bytes of a request have yet to come, at least. Raises LimitRequestHeaders.

    The length of the body is a guess, for most: the parser decides.
    """
    end = request.find(END_OF_HEAD, 0, MAX_HEAD_BYTES) + len(END_OF_HEAD)
    if end < len(END_OF_HEAD):  # not found
        if len(request) >= MAX_HEAD_BYTES:
            raise LimitRequestHeaders("limit request head size")  # type: ignore[no-untyped-call]  # as above
        return int(request.count(b"\n") == request.count(b"\r\n"))  # else the parser refuses it
    head = request[:end].lower()
    found = b"\r\ncontent-length:" in head and CONTENT_LENGTH.search(head)  # the first is fast
    length = int(found[1]) if found else 0
    if length > LONGEST_BODY or b"\r\nexpect:" in head:
        length = 0
    return max(0, end + length - len(request))
