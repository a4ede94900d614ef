"""gunicorn's threaded worker with some methods overridden; each docstring gives the reason.

The main thread waits for all clients at once. A connection gets a thread when the head of a request
is complete, so that clients which send nothing, or slowly, keep none.

The overrides use gunicorn's internals. For another series than VERIFIED, read the changes of
gunicorn/workers/gthread.py, and run tests/server and the benchmark.
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
from struct import pack
from threading import BoundedSemaphore
from typing import Any, Final

from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import _DEFER, TConn, ThreadWorker

VERIFIED: Final = "27.0"
STAY_MILLISECONDS: Final = 5
CLOSING_THREADS: Final = 8
MAX_CLOSING: Final = 100  # clients at once that are given time to close their end

END_OF_HEAD: Final = b"\r\n\r\n"
MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and headers together: as much as nginx passes on (deploy/nginx.conf)."""
SMALL_HEAD_BYTES: Final = 4 * 1024
LARGE_HEADS: Final = BoundedSemaphore(32)
"""Incomplete heads over SMALL_HEAD_BYTES: a thousand of them would fill the memory."""
CLIENT_SECONDS: Final = 10
"""Time to send a request, from its first byte, and to read each part of the response."""
PAUSE_SECONDS: Final = 1
LOG_SECONDS: Final = 60


class Unreader(SocketUnreader):
    """Reads a request until its deadline: otherwise a slow client would keep a thread."""

    deadline = inf

    def chunk(self, size_hint: int | None = None) -> Any:
        """Return what the client sends next. Raises TimeoutError."""
        if time.monotonic() > self.deadline:
            raise TimeoutError
        return super().chunk(size_hint)  # type: ignore[no-untyped-call]  # gunicorn has no types


class Connection(TConn):
    """A connection that gathers the head of a request without waiting for it."""

    parser: Any
    is_large = False  # has one of LARGE_HEADS

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)  # type: ignore[no-untyped-call]  # as above
        self.head = bytearray()

    def init(self) -> None:
        """Limit the time of reads and writes; cheaper than with settimeout()."""
        if not self.initialized:
            super().init()  # type: ignore[no-untyped-call]  # as above
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self.sock.setsockopt(socket.SOL_SOCKET, option, pack("ll", CLIENT_SECONDS, 0))
            self.parser.unreader = Unreader(self.sock)  # type: ignore[no-untyped-call]  # as above

    def receive_head(self) -> bool:
        """Read what has arrived; return whether it is all that the parser needs.

        Raises LimitRequestHeaders, and OSError, also if the client has taken too long.
        """
        self.init()
        reader = self.parser.unreader
        if not self.head:
            reader.deadline = time.monotonic() + CLIENT_SECONDS
        self.head += reader.take_buffered()  # requests may be pipelined
        searched = 0
        while self.head.find(END_OF_HEAD, searched) < 0:
            if len(self.head) > MAX_HEAD_BYTES:
                raise LimitRequestHeaders("limit request head size")  # type: ignore[no-untyped-call]  # as above
            if self.head:
                self.sock.settimeout(0)
            try:
                data = reader.chunk()  # readable if it is the first
            except BlockingIOError:
                if len(self.head) > SMALL_HEAD_BYTES and not self.is_large:
                    self.is_large = LARGE_HEADS.acquire(blocking=False)
                    if not self.is_large:
                        raise
                return False
            if not data:  # the client has ended it
                break
            searched = max(len(self.head) - len(END_OF_HEAD), 0)
            self.head += data
        reader.unread(self.head)
        self.forget_head()
        return True

    def forget_head(self) -> None:
        """Free the memory of a head."""
        self.head = bytearray()
        if self.is_large:
            self.is_large = False
            LARGE_HEADS.release()

    def close(self, graceful: bool = False) -> None:  # noqa: FBT001, FBT002 - gunicorn's
        """Close the connection."""
        self.forget_head()
        super().close(graceful)  # type: ignore[no-untyped-call]  # as above


class Worker(ThreadWorker):
    """Serves requests in threads."""

    tpool: Any  # gunicorn's threads
    poller: Any
    closers = ThreadPoolExecutor(CLOSING_THREADS)  # its threads start after the fork
    accept_again_at = log_again_at = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # as above
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 < files < 2 * self.worker_connections:  # half of them are for the database and keys
            self.worker_connections = self.max_keepalived = files // 2

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
        """Accept a connection, and wait for a request as on a kept-alive one.

        gunicorn would give it a thread for five seconds, and end the worker if no file is left.
        """
        try:
            sock, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # mostly no more files
            self.accept_again_at = time.monotonic() + PAUSE_SECONDS
            self.set_accept_enabled(enabled=False)
            return
        self.nr_conns += 1
        conn = Connection(self.cfg, sock, address, listener.getsockname())
        conn.set_timeout()  # type: ignore[no-untyped-call]  # as above
        self.keepalived_conns.append(conn)
        self.poller.register(sock, EVENT_READ, partial(self.on_client_socket_readable, conn))

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001 - gunicorn's
        """Log, once a minute, that new clients wait; after an error, pause for a moment."""
        now = time.monotonic()
        if not enabled and self.alive and now >= self.log_again_at:
            self.log_again_at = now + LOG_SECONDS
            text = "New connections wait until some of %d close; see LimitNOFILE and WORKERS."
            self.log.warning(text, self.nr_conns)
        super().set_accept_enabled(enabled and now >= self.accept_again_at)  # type: ignore[no-untyped-call]  # as above

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Close a connection in another thread: the client may take two seconds to close its end,
        and gunicorn's main thread would wait.

        An incomplete head has one deadline, however often the client sends a part.
        """
        if fs.cancelled() or fs.exception() or fs.result() is not False:
            super().finish_request(conn, fs)  # type: ignore[no-untyped-call]  # as above
            if conn.head:
                conn.timeout = conn.parser.unreader.deadline
            return
        self.nr_conns -= 1
        with suppress(OSError):  # the client has disconnected
            conn.sock.shutdown(socket.SHUT_WR)  # now, even if all closing threads are busy
        if self.closers._work_queue.qsize() < MAX_CLOSING:
            self.closers.submit(conn.close, graceful=True)
        else:
            conn.close()

    def run(self) -> None:
        """Serve; at the end, don't wait for the clients that have not closed their end."""
        super().run()  # type: ignore[no-untyped-call]  # as above
        self.closers.shutdown(wait=False, cancel_futures=True)

    def handle(self, conn: Any) -> Any:
        """Wait for a connection's next request for a moment, if no other waits for a thread.

        gunicorn returns each idle connection to its main thread, at the cost of four thread
        switches per request.
        """
        poll = select.poll()
        others = self.tpool._work_queue
        while True:
            try:
                if not conn.receive_head():
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
            poll.register(conn.sock, select.POLLIN)
            if not poll.poll(STAY_MILLISECONDS) or not others.empty():
                return keep
