"""gunicorn's threaded worker with six methods overridden; each docstring gives the reason.

They use gunicorn's internals, so tests/server/test_worker.py fails with a gunicorn that is not of
the series VERIFIED: then read the changes of gunicorn/workers/gthread.py, run tests/server and the
benchmark, and change it.
"""

import select
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from gunicorn.workers.gthread import ThreadWorker

VERIFIED: Final = "27.0"
"""The series of gunicorn's releases that the overrides were verified with."""

STAY_MILLISECONDS: Final = 5
CLOSING_THREADS: Final = 8


class Worker(ThreadWorker):
    """Serves requests in threads."""

    tpool: Any  # made once the worker is a process of its own

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # gunicorn has no types
        self.closers = ThreadPoolExecutor(CLOSING_THREADS)

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

    def _cap_keepalive(self, deadline: float) -> None:
        """Limit how long a stop waits for clients that have sent nothing yet, too."""
        for conn in (*self.keepalived_conns, *self.pending_conns):
            conn.timeout = min(conn.timeout, deadline)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Close a connection in a thread kept for that.

        The client may take two seconds to close its end, and gunicorn's main thread would wait for
        each.
        """
        if fs.cancelled() or fs.exception() or fs.result() is not False:
            super().finish_request(conn, fs)  # type: ignore[no-untyped-call]  # as above
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
            keep = super().handle(conn)  # type: ignore[no-untyped-call]  # as above
            if keep is not True or not self.alive or self._has_waiting_requests():
                return keep
            poll.register(conn.sock, select.POLLIN)
            if not poll.poll(STAY_MILLISECONDS) or self._has_waiting_requests():
                return keep

    def _has_waiting_requests(self) -> bool:
        return not self.tpool._work_queue.empty()
