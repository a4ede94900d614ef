"""A client's connection: what has arrived, and limits for a thread that waits for the client."""

import re
import select
import socket
import time
from collections.abc import Callable
from selectors import EVENT_READ
from typing import Any, Final

from gunicorn.http import RequestParser, message
from gunicorn.http.errors import LimitRequestHeaders, ParseException

from jwt_server.errors import MAX_BODY_BYTES

END_OF_HEAD: Final = b"\r\n\r\n"
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,5})[ \t]*\r")
FIRST_BYTES: Final = 8 * 1024
"""Nearly every request is shorter."""
MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and headers together: as much as nginx passes on (deploy/nginx.conf)."""
LONGEST_BODY: Final = MAX_BODY_BYTES + 1
"""The app refuses a longer body without reading it."""
CLIENT_SECONDS: Final = 10
"""Time to begin a request, to send it from its first byte, and to read a part of a response."""
SLOWEST_READER: Final = 50_000
"""Bytes a second: a long part of a response may take that much longer."""
MAX_UNREAD_BYTES: Final = 64 * 1024
"""Of a body, before the next request of its connection."""
CLOSING_SECONDS: Final = 2
"""Time for a client to close its end."""


class Socket(socket.socket):
    """A client's socket, which does not block. A thread waits for the client until a deadline."""

    deadline = 0.0
    """When the client must have sent what is expected of it, by time.monotonic()."""
    before_waiting: Callable[[], object] = staticmethod(lambda: None)
    """Called before a thread waits for the client."""

    def recv_now(self, size: int, flags: int = 0) -> bytes:
        """Return what has arrived, which may be nothing."""
        try:
            return super().recv(size, flags)
        except BlockingIOError:
            return b""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return what has arrived, or arrives before the deadline. Raises TimeoutError.

        With flags: look at what has arrived, as `client_disconnected` does.
        """
        if flags:
            return super().recv(size, flags)
        while True:
            try:
                return super().recv(size)
            except BlockingIOError:
                self._wait(select.POLLIN, self.deadline)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send all the data, which gunicorn does with `100 Continue`. Raises TimeoutError."""
        self.sendall(data)
        return len(data)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all the data. Raises TimeoutError if the client reads too slowly."""
        rest, end = memoryview(data), time.monotonic() + CLIENT_SECONDS
        while rest:
            try:
                sent = super().send(rest)
            except BlockingIOError:
                self._wait(select.POLLOUT, end)
            else:
                rest = rest[sent:]
                end += sent / SLOWEST_READER

    def _wait(self, event: int, end: float) -> None:
        """Wait until the socket is readable (POLLIN) or writable (POLLOUT). Raises TimeoutError."""
        self.before_waiting()
        poll, seconds = select.poll(), end - time.monotonic()
        poll.register(self, event)
        if seconds <= 0 or not poll.poll(seconds * 1000):
            raise TimeoutError


class Request(message.Request):
    """A request whose headers change neither its scheme nor its path.

    TRUSTED_PROXIES says what a proxy may set; gunicorn would parse the peer's address.
    """

    def _peer_trusted_for_forwarded(self) -> tuple[dict[str, str], list[str]]:
        return {}, []


class Parser(RequestParser):
    """gunicorn's parser of a connection's requests."""

    mesg_class = Request
    unreader: Any
    mesg: Any


class Connection:
    """A connection that looks whether a request is complete before a thread reads it."""

    seen_bytes = 0
    """Of an incomplete request."""
    is_closing = False
    events = EVENT_READ
    """Which the poller waits for."""

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any) -> None:
        self.sock = Socket(sock.family, sock.type, sock.proto, sock.detach())
        self.sock.settimeout(0)
        self.client = client if isinstance(client, tuple) else ""  # of a Unix socket, any path
        self.server = server
        self.parser = Parser(cfg, self.sock, self.client)  # type: ignore[no-untyped-call]  # gunicorn has no types
        self.expect(CLIENT_SECONDS)

    def expect(self, seconds: float) -> None:
        """Give the client time until its next request, or the rest of it."""
        self.waits_since = time.monotonic()
        self.sock.deadline = self.waits_since + seconds

    def finish(self) -> bool:
        """Skip what the app did not read of a request; return whether that was all of it."""
        is_read = getattr(self.parser.mesg.body.reader, "length", None) == 0
        try:
            if not is_read and not self.parser.finish_body(max_bytes=MAX_UNREAD_BYTES):  # type: ignore[no-untyped-call]  # as above
                return False
        except (ParseException, OSError):  # what is no body, or the client has left
            return False
        self.parser.mesg = None  # else the parser would do it, too
        return True

    def is_pipelined(self) -> bool:
        """Whether more requests were received than the last one."""
        received = self.parser.unreader.buf
        return bool(received.tell() and not self.seen_bytes and not self.is_closing)

    def receive(self) -> bool:
        """Receive the start of a request; return whether a thread should read it now.

        That is if the request is complete, the client has left, or a wake-up brought nothing new.
        The kernel keeps the rest of an incomplete request, and wakes the poller when the missing
        bytes have arrived (SO_RCVLOWAT); Unix sockets wake it at once. Raises LimitRequestHeaders,
        and OSError if the client has disconnected.
        """
        received, arrived = self.parser.unreader.buf, b""
        if not self.seen_bytes:
            self.expect(CLIENT_SECONDS)
            if not received.tell() or missing_bytes(received.getvalue()):
                received.write(self.sock.recv_now(FIRST_BYTES))
        if self.seen_bytes or received.tell() >= FIRST_BYTES:
            arrived = self.sock.recv_now(MAX_HEAD_BYTES + LONGEST_BODY, socket.MSG_PEEK)
        request = received.getvalue() + arrived
        missing = missing_bytes(request)
        is_waiting = missing > 0 and len(request) > self.seen_bytes
        if is_waiting or self.seen_bytes:
            low_water_mark = len(arrived) + missing if is_waiting else 1
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low_water_mark)
            self.seen_bytes = len(request) if is_waiting else 0
        return not is_waiting

    def begin_to_close(self) -> bool:
        """Send the end of the stream; return whether the client's end has to be waited for."""
        self.is_closing = True
        self.expect(CLOSING_SECONDS)
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:  # the client has disconnected
            return False
        return True

    def discard(self) -> bool:
        """Ignore what a client still sends; return whether its end is still open."""
        return bool(self.sock.recv(64 * 1024))


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
