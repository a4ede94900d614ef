"""gunicorn's threaded worker with some methods overridden; each docstring gives the reason.

The main thread waits for all clients at once. A connection gets a thread when the head of a request
is complete, so that clients which send nothing, or slowly, keep no thread.

The overrides use gunicorn's internals, so tests/server/test_worker.py fails with a gunicorn that is
not of the series VERIFIED: then read the changes of gunicorn/workers/gthread.py, run tests/server
and the benchmark, and change it.
"""

import resource
import select
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from math import inf
from selectors import EVENT_READ
from typing import Any, Final

from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import _DEFER, TConn, ThreadWorker

VERIFIED: Final = "27.0"
"""The series of gunicorn's releases that the overrides were verified with."""

STAY_MILLISECONDS: Final = 5
CLOSING_THREADS: Final = 8

END_OF_HEAD: Final = b"\r\n\r\n"
MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and headers together: as much as nginx passes on (deploy/nginx.conf)."""

READ_SECONDS: Final = 10
"""Time for a client to send the rest of a request's head, and then the body."""
SEND_SECONDS: Final = 30
"""Time that a response waits for a client which does not read it."""

PAUSE_SECONDS: Final = 1
LOG_SECONDS: Final = 60


class Unreader(SocketUnreader):
    """Reads the body until a deadline: otherwise a slow client would keep a thread."""

    deadline = inf

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Return what the client sends next. Raises TimeoutError."""
        self.sock.settimeout(max(self.deadline - time.monotonic(), 0.001))
        try:
            return bytes(super().chunk(size_hint))  # type: ignore[no-untyped-call]  # gunicorn has no types
        finally:
            self.sock.settimeout(SEND_SECONDS)


class Connection(TConn):
    """A connection that gathers the head of a request without waiting for it."""

    parser: Any

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)  # type: ignore[no-untyped-call]  # as above
        self.head = bytearray()
        self.head_deadline = inf
        """When the head must be complete; inf if nothing of it has arrived."""

    def init(self) -> None:
        """Limit the time to read a request and to send the response."""
        super().init()  # type: ignore[no-untyped-call]  # as above
        if not isinstance(self.parser.unreader, Unreader):
            self.parser.unreader = Unreader(self.sock)  # type: ignore[no-untyped-call]  # as above
        self.parser.unreader.deadline = time.monotonic() + READ_SECONDS
        self.sock.settimeout(SEND_SECONDS)

    def receive_head(self) -> bool:
        """Read what has arrived; return whether it is all that the parser needs.

        Raises LimitRequestHeaders, and OSError, also if the client has taken too long.
        """
        self.init()
        searched = max(len(self.head) - len(END_OF_HEAD), 0)
        self.head += self.parser.unreader.take_buffered()  # the requests may be pipelined
        self.sock.settimeout(0)
        while self.head.find(END_OF_HEAD, searched) < 0:
            if len(self.head) > MAX_HEAD_BYTES:
                raise LimitRequestHeaders("limit request head size")  # type: ignore[no-untyped-call]  # as above
            searched = max(len(self.head) - len(END_OF_HEAD), 0)
            try:
                data = self.sock.recv(8192)
            except BlockingIOError:
                now = time.monotonic()
                if now > self.head_deadline:
                    raise TimeoutError from None
                self.head_deadline = min(self.head_deadline, now + READ_SECONDS)
                return False
            if not data:  # the client has ended it
                break
            self.head += data
        self.parser.unreader.unread(bytes(self.head))
        self.head.clear()
        self.head_deadline = inf
        return True


class Worker(ThreadWorker):
    """Serves requests in threads."""

    tpool: Any  # made once the worker is a process of its own
    poller: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # as above
        self.closers = ThreadPoolExecutor(CLOSING_THREADS)
        # Half of the files are for the database, the keys, and the log.
        self.worker_connections = min(
            self.worker_connections, allow_files(2 * self.worker_connections) // 2
        )
        self.max_keepalived = max(
            self.worker_connections - self.cfg.threads, self.worker_connections // 2
        )
        self.accept_again_at = self.log_again_at = 0.0

    def init_signals(self) -> None:
        """Ignore SIGHUP, which `systemctl kill` and a closed terminal send to the workers, too."""
        super().init_signals()  # type: ignore[no-untyped-call]  # as above
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def is_parent_alive(self) -> bool:
        """Stop as on SIGTERM if the arbiter was killed.

        gunicorn would serve kept-alive connections on, and so keep the port from the next arbiter.
        """
        self.alive = self.alive and super().is_parent_alive()  # type: ignore[no-untyped-call]  # as above
        return bool(self.alive)

    def accept(self, listener: Any) -> None:
        """Accept a connection, and wait for a request as on a kept-alive one.

        gunicorn would give it a thread for five seconds, and end the worker if no file is left.
        """
        try:
            sock, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            self.accept_again_at = time.monotonic() + PAUSE_SECONDS
            self._log_full(error.strerror)
            self.set_accept_enabled(enabled=False)
            return
        self.nr_conns += 1
        conn = Connection(self.cfg, sock, address, listener.getsockname())
        conn.set_timeout()  # type: ignore[no-untyped-call]  # as above
        self.keepalived_conns.append(conn)
        readable = partial(self.on_client_socket_readable, conn)
        self.poller.register(sock, EVENT_READ, readable)

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001 - gunicorn's
        """Log when the limit of connections is reached; after an error, wait a moment."""
        if not enabled and self.alive:
            self._log_full("as many as a worker may have")
        super().set_accept_enabled(enabled and time.monotonic() >= self.accept_again_at)  # type: ignore[no-untyped-call]  # as above

    def _log_full(self, reason: str | None) -> None:
        """Log, once a minute, that new clients wait."""
        if time.monotonic() >= self.log_again_at:
            self.log_again_at = time.monotonic() + LOG_SECONDS
            text = "No more connections are accepted until some of %d close (%s)."
            self.log.warning(text, self.nr_conns, reason)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Close a connection in a thread kept for that.

        The client may take two seconds to close its end, and gunicorn's main thread would wait for
        each. An incomplete head has a deadline, however often something arrives.
        """
        if fs.cancelled() or fs.exception() or fs.result() is not False:
            super().finish_request(conn, fs)  # type: ignore[no-untyped-call]  # as above
            conn.timeout = min(conn.timeout, conn.head_deadline)
            return
        self.nr_conns -= 1
        with suppress(OSError):  # the client has disconnected
            conn.sock.shutdown(socket.SHUT_WR)  # at once, as all threads may wait for clients
        self.closers.submit(conn.close, graceful=True)

    def run(self) -> None:
        """Serve; at the end, don't wait for clients that take their time to close."""
        super().run()  # type: ignore[no-untyped-call]  # as above
        self.closers.shutdown(wait=False, cancel_futures=True)

    def handle(self, conn: Any) -> Any:
        """Stay with a connection for a moment after a response, if no other waits for a thread.

        gunicorn hands each idle connection back to its main thread, which costs four changes of
        threads per request. A client that has more to send mostly does so at once.
        """
        poll = select.poll()
        while True:
            try:
                if not conn.receive_head():
                    return _DEFER
            except LimitRequestHeaders as error:
                self.handle_error(None, conn.sock, conn.client, error)  # type: ignore[no-untyped-call]  # as above
                return False
            except OSError:
                return False
            keep = super().handle(conn)  # type: ignore[no-untyped-call]  # as above
            if keep is not True or not self.alive or self._has_waiting_requests():
                return keep
            poll.register(conn.sock, select.POLLIN)
            if not poll.poll(STAY_MILLISECONDS) or self._has_waiting_requests():
                return keep

    def _has_waiting_requests(self) -> bool:
        return not self.tpool._work_queue.empty()


def allow_files(wanted: int) -> int:
    """Raise the limit of open files to `wanted`, or as near as allowed; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft
