"""gunicorn's threaded worker and its log, as the service wants them.

The worker stays with a connection for a moment after an answer. As it comes, it hands each
kept-alive connection back to its main thread, which waits for the next request and hands it to a
thread again: some 40 µs and four changes of threads a request. A client that has more to ask mostly
does so at once, so the thread waits for it a moment itself.

It hangs up in two steps, and nobody waits for it: it says that nothing more comes, and stays until
the client has read that. As it comes, its main thread waits for the client, up to two seconds each;
and a request that crosses the end of an idle connection meets a reset.
"""

from __future__ import annotations

import select
import selectors
import socket
import time
from collections import deque
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Any, Final

from gunicorn import glogging
from gunicorn.workers.gthread import ThreadWorker

from jwt_server.config import process_settings
from jwt_server.ops import logs, scrape

MOMENT: Final = 5
"""How long a thread waits for the next request on its connection, in milliseconds."""

LINGER: Final = 2.0
"""For so many seconds a client that was told of the end of a connection may end it itself."""

# How gunicorn's lines begin that go on with what a client sent.
BAD_REQUEST: Final = "Invalid request from ip="
FAILED_REQUEST: Final = "Error handling request"


class Worker(ThreadWorker):
    """Stays only while no other connection waits for a thread, so that each has its turn."""

    poller: Any  # gunicorn makes it once the worker is a process of its own

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # gunicorn has no types
        self.waiting = 0
        """How many connections wait for a thread."""
        self.lock = Lock()
        self.leaving: deque[Any] = deque()
        """The connections that have ended for us, the longest first; `timeout` says for how long
        the client may take to see it."""

    def load_wsgi(self) -> None:
        """Load the service, and put the figures for Prometheus beside it."""
        super().load_wsgi()  # type: ignore[no-untyped-call]  # as above
        settings = process_settings()
        if settings.metrics_port:
            self.wsgi = scrape.beside(self.wsgi, settings, scrape.shared_folder())

    def is_parent_alive(self) -> bool:
        """Whether the arbiter lives; where it was killed, stop as on SIGTERM.

        As it comes, a worker without an arbiter goes on while its clients have more to ask, up to
        its graceful timeout, and holds the port against the next arbiter.
        """
        if not super().is_parent_alive():  # type: ignore[no-untyped-call]  # as above
            self.alive = False
        return bool(self.alive)

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001 - gunicorn's own method
        """Begin or end to take connections; at a stop, take what has come and let go of the port.

        What nobody has taken is reset as the last process lets go. As it comes, a worker holds the
        port until its last request is answered, and resets what came meanwhile.
        """
        super().set_accept_enabled(enabled)  # type: ignore[no-untyped-call]  # as above
        if enabled or self.alive:
            return
        for listener in self.sockets:
            self._take_all(listener)
            listener.close()
        self.sockets: list[Any] = []

    def _take_all(self, listener: Any) -> None:
        for _ in range(self.cfg.backlog):
            before = self.nr_conns
            with suppress(OSError):  # there are no more files to be had
                self.accept(listener)  # type: ignore[no-untyped-call]  # as above
            if self.nr_conns == before:
                return

    def finish_request(self, conn: Any, fs: Any) -> None:
        """See to a connection whose request is answered."""
        if not fs.cancelled() and fs.exception() is None and fs.result() is False:
            self.hang_up(conn)
        else:
            super().finish_request(conn, fs)  # type: ignore[no-untyped-call]  # as above

    def hang_up(self, conn: Any) -> None:
        """Tell the client that nothing more comes, and leave the connection to `leave`."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.settimeout(0)
        except OSError:  # the client has left
            self.close(conn)
            return
        conn.timeout = time.monotonic() + LINGER
        self.leaving.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.leave, conn))

    def leave(self, conn: Any, _client: object) -> None:
        """Close a connection that has ended, once the client has done so; what it sends is lost."""
        try:
            more = bool(conn.sock.recv(4096))
        except BlockingIOError:
            return
        except OSError:
            more = False
        if not more:
            self.leaving.remove(conn)
            self.poller.unregister(conn.sock)
            self.close(conn)

    def close(self, conn: Any) -> None:
        """Close a connection now."""
        self.nr_conns -= 1
        conn.close()

    def murder_keepalived(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 - as above
        """Hang up where nothing is asked for too long; close what was hung up long enough."""
        now = time.monotonic()
        while self.keepalived_conns and (force or self.keepalived_conns[0].timeout <= now):
            conn = self.keepalived_conns.popleft()
            self.poller.unregister(conn.sock)
            self.hang_up(conn)
        while self.leaving and (force or self.leaving[0].timeout <= now):
            conn = self.leaving.popleft()
            self.poller.unregister(conn.sock)
            self.close(conn)

    def enqueue_req(self, conn: Any) -> None:
        """Have a thread answer a connection's request."""
        with self.lock:
            self.waiting += 1
        super().enqueue_req(conn)  # type: ignore[no-untyped-call]  # as above

    def handle(self, conn: Any) -> Any:
        """Answer the requests of a connection; whether there may be more, later."""
        with self.lock:
            self.waiting -= 1
        while True:
            result = super().handle(conn)  # type: ignore[no-untyped-call]  # as above
            if result is not True or not self.another_comes(conn):
                return result

    def another_comes(self, conn: Any) -> bool:
        """Wait a moment for the next request, if nobody else waits for the thread."""
        if not self.alive or self.waiting:
            return False
        if conn.parser.unreader.buf.getvalue():  # read along with the request before
            return True
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(MOMENT)) and not self.waiting


class Logger(glogging.Logger):
    """Writes gunicorn's lines as the service's own, and nothing into them of what a client sent.

    As they come, they show headers and paths that are amiss: with a token, or a password.
    """

    def setup(self, cfg: Any) -> None:
        """Set the log up, at a start or a reload."""
        super().setup(cfg)  # type: ignore[no-untyped-call]  # as above
        for handler in self.error_log.handlers:
            handler.setFormatter(logs.formatter(process_settings().log_format))

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """A warning; of a bad request just what is wrong with it."""
        if msg.startswith(BAD_REQUEST):
            who, _, error = msg.partition(": ")
            msg = f"{who}: {error.partition(': ')[0]}"
        super().warning(msg, *args, **kwargs)  # type: ignore[no-untyped-call]  # as above

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """An exception; of a request that failed not its path."""
        if msg.startswith(FAILED_REQUEST):
            msg, args = FAILED_REQUEST, ()
        super().exception(msg, *args, **kwargs)  # type: ignore[no-untyped-call]  # as above
