"""gunicorn's threaded worker with some methods overridden; each docstring gives the reason.

The main thread waits for all clients at once. A connection gets a thread when a request is
complete, so that clients which send nothing, or slowly, keep none.

The overrides use gunicorn's internals. For another series than VERIFIED, read the changes of
gunicorn/workers/gthread.py, and run tests/server and the benchmark.
"""

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
from operator import attrgetter
from selectors import EVENT_READ
from typing import Any, Final

from gunicorn import util
from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.workers.gthread import _DEFER, ThreadWorker

from jwt_server.gunicorn.connection import CLIENT_SECONDS, Connection, Socket, wait
from jwt_server.web.middleware import DEFAULT_HEADERS, FIXED_HEADERS
from jwt_server.web.problems import HTTP_ERRORS

VERIFIED: Final = "27.0"
STAY_SECONDS: Final = 0.005  # a thread waits for the next request of its connection
CLOSING_SECONDS: Final = 2  # a client has to close its end
IDLE_SECONDS: Final = 1  # after which a full worker may close a connection
PAUSE_SECONDS: Final = 0.1  # before accepting again, without files
LOG_SECONDS: Final = 60  # between two warnings of a full worker


class Worker(ThreadWorker):
    """Serves requests in threads."""

    tpool: Any  # gunicorn's threads
    poller: Any
    log_again_at = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # gunicorn has no types
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 < files < 2 * self.worker_connections:  # half of them are for the database and keys
            self.worker_connections = files // 2

    def init_signals(self) -> None:
        """Ignore SIGHUP, which `systemctl kill` and a closed terminal send to the workers, too."""
        super().init_signals()  # type: ignore[no-untyped-call]  # as above
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
            time.sleep(PAUSE_SECONDS)
            return
        self.nr_conns += 1
        conn = Connection(self.cfg, sock, address, listener.getsockname())
        self.wait_for(conn, self.on_pending_socket_readable)

    def murder_keepalived(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 - gunicorn's
        """Close the connections that were idle too long.

        If the worker is full, also make room: close those that have been idle longest, if they have
        for over a second, and log, once a minute, that there are too many.
        """
        super().murder_keepalived(force)  # type: ignore[no-untyped-call]  # as above
        if not self.alive or self.nr_conns < self.worker_connections:
            return
        now = time.monotonic()
        if now >= self.log_again_at:
            self.log_again_at = now + LOG_SECONDS
            text = "New connections wait until some of %d close; see LimitNOFILE and WORKERS."
            self.log.warning(text, self.nr_conns)
        queues = (self.keepalived_conns, self.cfg.keepalive), (self.pending_conns, CLIENT_SECONDS)
        for waiting, limit in queues:
            if waiting and waiting[0].timeout - limit <= now - IDLE_SECONDS:
                self.close(waiting[0], waiting)

    def wait_for(self, conn: Connection, callback: Callable[..., None]) -> None:
        """Call back when the client has sent something; close the connection at its deadline."""
        conn.timeout = conn.sock.deadline
        self.poller.register(conn.sock, EVENT_READ, partial(callback, conn))
        insort(self.pending_conns, conn, key=attrgetter("timeout"))

    def close(self, conn: Any, waiting: deque[Any]) -> None:
        """Close one of the connections that wait for their client."""
        waiting.remove(conn)
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Wait, without a thread, for the rest of a request, or for the client to close its end.

        For the latter gunicorn's main thread would wait.
        """
        result = not fs.cancelled() and not fs.exception() and fs.result()
        if result is _DEFER:
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
            if sock.recv(65536, socket.MSG_DONTWAIT):
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
                if not conn.should_read():
                    return _DEFER
            except LimitRequestHeaders as error:
                self.handle_error(None, conn.sock, conn.client, error)  # type: ignore[no-untyped-call]  # as above
                return False
            keep = super().handle(conn)  # type: ignore[no-untyped-call]  # as above
            if keep is not True or not self.alive or not others.empty():
                return keep
            pipelined = conn.parser.unreader.buf.getvalue()
            if not pipelined and not wait(conn.sock, select.POLLIN, STAY_SECONDS):
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
