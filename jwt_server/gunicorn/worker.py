"""gunicorn's threaded worker with some methods overridden; each docstring gives the reason.

The main thread waits for all clients at once. A connection gets a thread when a request is
complete, so that clients which send nothing, or slowly, keep none.

The overrides use gunicorn's internals. For another series than VERIFIED, read the changes of
gunicorn/workers/gthread.py, and run tests/server and the benchmark.
"""

import re
import resource
import select
import signal
import socket
import time
from bisect import insort
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from operator import attrgetter, itemgetter
from selectors import EVENT_READ
from typing import Any, Final

from gunicorn import util
from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.workers.gthread import _DEFER, TConn, ThreadWorker

from jwt_server.web.middleware import DEFAULT_HEADERS, FIXED_HEADERS
from jwt_server.web.problems import HTTP_ERRORS

VERIFIED: Final = "27.0"
STAY_SECONDS: Final = 0.005

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
CLOSING_SECONDS: Final = 2
PAUSE_SECONDS: Final = 1
LOG_SECONDS: Final = 60


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
        """Return what arrives before the deadline. Raises TimeoutError."""
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


class Worker(ThreadWorker):
    """Serves requests in threads."""

    tpool: Any  # gunicorn's threads
    poller: Any
    accept_again_at = log_again_at = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # as above
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 < files < 2 * self.worker_connections:  # half of them are for the database and keys
            self.worker_connections = files // 2
        self.max_keepalived = self.worker_connections

    def init_signals(self) -> None:
        """Ignore SIGHUP, which `systemctl kill` and a closed terminal send to the workers, too."""
        super().init_signals()  # type: ignore[no-untyped-call]  # gunicorn has no types
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def is_parent_alive(self) -> bool:
        """Stop as on SIGTERM if the arbiter was killed.

        gunicorn would go on with kept-alive connections, and the next arbiter could not have the
        port.
        """
        self.alive = self.alive and super().is_parent_alive()  # type: ignore[no-untyped-call]  # as above
        return bool(self.alive)

    def accept(self, listener: Any) -> None:
        """Accept a connection, and wait for its request without a thread.

        gunicorn would give it a thread for five seconds, and end the worker if no file is left.
        """
        try:
            sock, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # mostly no more files
            if not self.close_idle():
                self.accept_again_at = time.monotonic() + PAUSE_SECONDS
                self.set_accept_enabled(enabled=False)
            return
        self.nr_conns += 1
        conn = Connection(self.cfg, sock, address, listener.getsockname())
        self.wait_for(conn, self.on_pending_socket_readable)

    def wait_for(self, conn: Connection, callback: Callable[..., None]) -> None:
        """Call back when the client has sent something; close the connection at its deadline."""
        conn.timeout = conn.sock.deadline
        insort(self.pending_conns, conn, key=attrgetter("timeout"))
        self.poller.register(conn.sock, EVENT_READ, partial(callback, conn))

    def close(self, conn: Any, waiting: deque[Any]) -> None:
        """Close one of the connections that wait for their client."""
        waiting.remove(conn)
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def close_idle(self) -> bool:
        """Close the connection that has been idle longest, if not just for a moment."""
        queues = (self.keepalived_conns, self.cfg.keepalive), (self.pending_conns, CLIENT_SECONDS)
        idle = [(waiting[0].timeout - limit, waiting) for waiting, limit in queues if waiting]
        since, waiting = min(idle, key=itemgetter(0), default=(inf, deque()))
        if since > time.monotonic() - PAUSE_SECONDS:
            return False
        self.close(waiting[0], waiting)
        return True

    def murder_keepalived(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 - gunicorn's
        """Close the connections that were idle too long, and make room if the worker is full."""
        super().murder_keepalived(force)  # type: ignore[no-untyped-call]  # as above
        if self.nr_conns >= self.worker_connections:
            self.close_idle()

    def _cap_keepalive(self, deadline: float) -> None:
        """Let a stop wait for the incomplete requests no longer than for idle connections."""
        super()._cap_keepalive(deadline)  # type: ignore[no-untyped-call]  # as above
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001 - gunicorn's
        """Log, once a minute, that new clients wait; after an error, pause for a moment."""
        now = time.monotonic()
        if not enabled and self.alive and now >= self.log_again_at:
            self.log_again_at = now + LOG_SECONDS
            text = "New connections wait until some of %d close; see LimitNOFILE and WORKERS."
            self.log.warning(text, self.nr_conns)
        super().set_accept_enabled(enabled and now >= self.accept_again_at)  # type: ignore[no-untyped-call]  # as above

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Wait, without a thread, for the rest of a request, or for the client to close its end.

        For the latter gunicorn's main thread would wait.
        """
        result = not fs.cancelled() and not fs.exception() and fs.result()
        if result is _DEFER and self.alive:
            self.wait_for(conn, self.on_pending_socket_readable)
        elif result:
            super().finish_request(conn, fs)  # type: ignore[no-untyped-call]  # as above
        else:
            try:
                conn.sock.shutdown(socket.SHUT_WR)
                conn.sock.deadline = time.monotonic() + CLOSING_SECONDS
                self.wait_for(conn, self.on_closing_socket_readable)
            except OSError:  # the client has disconnected
                self.nr_conns -= 1
                conn.close()

    def on_closing_socket_readable(self, conn: Any, sock: Socket) -> None:
        """Ignore what the client still sends; close the connection if it has closed its end."""
        with suppress(OSError):
            if sock.receive(65536):
                return
        self.close(conn, self.pending_conns)

    def handle(self, conn: Any) -> Any:
        """Wait for a connection's next request for a moment, if no other waits for a thread.

        gunicorn returns each idle connection to its main thread, at the cost of four thread
        switches per request.
        """
        others = self.tpool._work_queue
        while True:
            try:
                if not conn.receive():
                    return _DEFER
            except LimitRequestHeaders as error:
                self.handle_error(None, conn.sock, conn.client, error)  # type: ignore[no-untyped-call]  # as above
                return False
            except OSError:
                conn.close()
                return False
            keep = super().handle(conn)  # type: ignore[no-untyped-call]  # as above
            if keep is not True or not self.alive or not others.empty():
                return keep
            pipelined = conn.parser.unreader.buf.getvalue()
            if not pipelined and not conn.sock.wait(select.POLLIN, STAY_SECONDS):
                return keep
            if not others.empty():
                return keep


def write_error(client: socket.socket, status: int, reason: str, _cause: str) -> None:
    """Write an error like the app's: gunicorn's own is HTML with a part of the request."""
    _, text = HTTP_ERRORS.get(status, HTTP_ERRORS[400])
    headers = (
        ("Connection", "close"), ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", len(text)), ("Access-Control-Allow-Origin", "*"),
        *FIXED_HEADERS, *DEFAULT_HEADERS,
    )  # fmt: skip
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    response = f"HTTP/1.1 {status} {reason}\r\n{head}\r\n{text}".encode()
    util.write_nonblock(client, response)  # type: ignore[no-untyped-call]  # as above


util.write_error = write_error
