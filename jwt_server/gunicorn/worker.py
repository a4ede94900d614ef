"""gunicorn's threaded worker with some methods overridden; each docstring gives the reason.

They use gunicorn's internals. For another series than VERIFIED, read the changes of
gunicorn/workers/gthread.py, and run tests/server and the benchmark.
"""

import select
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from gunicorn.workers.gthread import ThreadWorker

VERIFIED: Final = "27.0"
STAY_MILLISECONDS: Final = 5
CLOSING_THREADS: Final = 8


class Worker(ThreadWorker):
    """Serves requests in threads."""

    tpool: Any  # gunicorn's threads
    closers = ThreadPoolExecutor(CLOSING_THREADS)  # starts them in the worker's process

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

    def _cap_keepalive(self, deadline: float) -> None:
        """Limit how long a stop waits, also for clients that have sent nothing yet."""
        for conn in (*self.keepalived_conns, *self.pending_conns):
            conn.timeout = min(conn.timeout, deadline)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Close a connection in another thread: the client may take two seconds to close its end,
        and gunicorn's main thread would wait.
        """
        if fs.cancelled() or fs.exception() or fs.result() is not False:
            super().finish_request(conn, fs)  # type: ignore[no-untyped-call]  # as above
            return
        self.nr_conns -= 1
        with suppress(OSError):  # the client has disconnected
            conn.sock.shutdown(socket.SHUT_WR)  # now, even if all closing threads are busy
        self.closers.submit(conn.close, graceful=True)

    def run(self) -> None:
        """Serve; at the end, don't wait for the clients that have not closed their end."""
        super().run()  # type: ignore[no-untyped-call]  # as above
        self.closers.shutdown(wait=False, cancel_futures=True)

    def handle(self, conn: Any) -> Any:
        """Wait for a connection's next request for a moment, if no other waits for a thread.

        gunicorn returns each idle connection to its main thread, at the cost of four changes of
        threads per request.
        """
        poll = select.poll()
        others = self.tpool._work_queue
        while True:
            keep = super().handle(conn)  # type: ignore[no-untyped-call]  # as above
            if keep is not True or not self.alive or not others.empty():
                return keep
            poll.register(conn.sock, select.POLLIN)
            if not poll.poll(STAY_MILLISECONDS) or not others.empty():
                return keep
