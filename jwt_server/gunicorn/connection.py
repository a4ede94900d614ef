"""A client's connection: it gathers a request without waiting, and limits all waits of a thread."""

import re
import select
import socket
import time
from contextlib import suppress
from typing import Any, Final

from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.workers.gthread import TConn

END_OF_HEAD: Final = b"\r\n\r\n"
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,5})[ \t]*\r", re.IGNORECASE)
MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and headers together: as much as nginx passes on (deploy/nginx.conf)."""
MAX_BODY_BYTES: Final = 64 * 1024
"""The app refuses a longer body without reading it."""
CLIENT_SECONDS: Final = 10
"""Time to send a request, from its first byte, and to begin with one."""
SLOWEST_READER: Final = 50_000
"""Bytes a second. Waits for a client may last CLIENT_SECONDS more than its bytes take."""


class Socket(socket.socket):
    """A client's socket, with limits for all the time that a thread waits for the client."""

    deadline = 0.0  # of the request
    patience: float = CLIENT_SECONDS  # for the responses

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - as the method it replaces
        """Do nothing: whether to wait depends on the method. So gunicorn makes no system call."""

    def settimeout(self, value: float | None) -> None:
        """Do nothing, likewise."""

    def wait(self, event: int, seconds: float) -> bool:
        """Return whether the socket is readable, or writable, in time."""
        poll = select.poll()
        poll.register(self, event)
        return seconds > 0 and bool(poll.poll(seconds * 1000))

    def receive(self, size: int) -> bytes:
        """Return what has arrived. Raises BlockingIOError and TimeoutError."""
        if time.monotonic() > self.deadline:
            raise TimeoutError
        return super().recv(size, socket.MSG_DONTWAIT)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return what arrives before the deadline. Raises TimeoutError.

        With flags: look at what has arrived, as `client_disconnected` does.
        """
        if flags:
            return super().recv(size, flags | socket.MSG_DONTWAIT)
        while True:
            with suppress(BlockingIOError):
                return self.receive(size)
            self.wait(select.POLLIN, self.deadline - time.monotonic())

    def send(self, data: Any, flags: int = 0) -> int:
        """Send some of the data. Raises TimeoutError if the client reads too slowly."""
        while True:
            try:
                sent = super().send(data, socket.MSG_DONTWAIT)
            except BlockingIOError:
                start = time.monotonic()
                if not self.wait(select.POLLOUT, self.patience):
                    raise TimeoutError from None
                self.patience -= time.monotonic() - start
            else:
                self.patience = min(self.patience + sent / SLOWEST_READER, CLIENT_SECONDS)
                return sent

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send the data. Raises TimeoutError if the client reads too slowly."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.send(rest) :]


class Connection(TConn):
    """A connection that gathers a request without waiting for it."""

    parser: Any

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any) -> None:
        timed = Socket(sock.family, sock.type, sock.proto, sock.detach())
        timed.deadline = time.monotonic() + CLIENT_SECONDS
        super().__init__(cfg, timed, client, server)  # type: ignore[no-untyped-call]  # gunicorn has no types
        self.gathered = bytearray()
        self.needed = 0  # bytes of the request, once its head is complete

    def receive(self) -> bool:
        """Read what has arrived; return whether it is all that the parser needs.

        Raises LimitRequestHeaders, and OSError, also if the client has taken too long.
        """
        self.init()  # type: ignore[no-untyped-call]  # as above
        if not self.gathered:
            self.sock.deadline = time.monotonic() + CLIENT_SECONDS
        self.gathered += self.parser.unreader.take_buffered()  # requests may be pipelined
        while not self.is_complete():
            try:
                data = self.sock.receive(8192)
            except BlockingIOError:
                return False
            if not data:  # the client has ended it
                break
            self.gathered += data
        self.parser.unreader.unread(self.gathered)
        self.gathered, self.needed = bytearray(), 0
        return True

    def is_complete(self) -> bool:
        """Return whether a thread need not wait for more of the request.

        The length is a guess, for most bodies: the parser decides.
        """
        if not self.needed:
            end = self.gathered.find(END_OF_HEAD)
            if end < 0:
                if len(self.gathered) > MAX_HEAD_BYTES:
                    raise LimitRequestHeaders("limit request head size")  # type: ignore[no-untyped-call]  # as above
                return False
            self.needed = end + len(END_OF_HEAD)
            found = CONTENT_LENGTH.search(self.gathered, 0, self.needed)
            length = int(found[1]) if found else 0
            if length <= MAX_BODY_BYTES and b"\r\nexpect:" not in self.gathered[:end].lower():
                self.needed += length
        return len(self.gathered) >= self.needed
