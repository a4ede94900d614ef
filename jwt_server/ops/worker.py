"""gunicorn's threaded worker, which stays with a connection for a moment after an answer.

As it comes, the worker hands each kept-alive connection back to its main thread, which waits for
the next request and hands it to a thread again: some 40 µs and four changes of threads a request.
A client that has more to ask mostly does so at once, so the thread waits for it a moment itself.
"""

from __future__ import annotations

import select
from threading import Lock
from typing import Any, Final

from gunicorn.workers.gthread import ThreadWorker

MOMENT: Final = 5
"""How long a thread waits for the next request on its connection, in milliseconds."""


class Worker(ThreadWorker):
    """Stays only while no other connection waits for a thread, so that each has its turn."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # gunicorn has no types
        self.waiting = 0
        """How many connections wait for a thread."""
        self.lock = Lock()

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
