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
    """Lets at most half of its threads wait so: the others are for new connections."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # gunicorn has no types
        self.may_stay = self.cfg.threads // 2
        self.lock = Lock()

    def handle(self, conn: Any) -> Any:
        """Answer the requests of a connection; whether there may be more, later."""
        while True:
            result = super().handle(conn)  # type: ignore[no-untyped-call]  # as above
            if result is not True or not self.alive or not self.another_comes(conn):
                return result

    def another_comes(self, conn: Any) -> bool:
        """Wait a moment for the next request, if there are threads to spare."""
        with self.lock:
            if not self.may_stay:
                return False
            self.may_stay -= 1
        try:
            waiting = select.poll()
            waiting.register(conn.sock, select.POLLIN)
            return bool(waiting.poll(MOMENT))
        finally:
            with self.lock:
                self.may_stay += 1
