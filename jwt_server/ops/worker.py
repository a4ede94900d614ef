"""gunicorn's threaded worker and its log, as the service wants them.

The worker stays with a connection for a moment after an answer. As it comes, it hands each
kept-alive connection back to its main thread, which waits for the next request and hands it to a
thread again: some 40 µs and four changes of threads a request. A client that has more to ask mostly
does so at once, so the thread waits for it a moment itself.
"""

from __future__ import annotations

import select
from threading import Lock
from typing import Any, Final

from gunicorn import glogging
from gunicorn.workers.gthread import ThreadWorker

from jwt_server.config import process_settings
from jwt_server.ops import logs, scrape

MOMENT: Final = 5
"""How long a thread waits for the next request on its connection, in milliseconds."""

# How gunicorn's lines begin that go on with what a client sent.
BAD_REQUEST: Final = "Invalid request from ip="
FAILED_REQUEST: Final = "Error handling request"


class Worker(ThreadWorker):
    """Stays only while no other connection waits for a thread, so that each has its turn."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # gunicorn has no types
        self.waiting = 0
        """How many connections wait for a thread."""
        self.lock = Lock()

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
