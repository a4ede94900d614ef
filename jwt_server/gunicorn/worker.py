"""gunicorn's threaded worker, as the service wants it.

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
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Any, Final

from gunicorn.workers.gthread import ThreadWorker

MOMENT: Final = 5
"""How long a thread waits for the next request on its connection, in milliseconds."""

LINGER: Final = 2.0
"""For so many seconds a client that was told of the end of a connection may end it itself."""


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

    def init_signals(self) -> None:
        """Ignore SIGHUP, which `systemctl kill` and a closed terminal send to the workers, too."""
        super().init_signals()  # type: ignore[no-untyped-call]  # as above
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

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
        """See to a connection whose request is answered, or has not come."""
        ended = not fs.cancelled() and fs.exception() is None and fs.result()
        if ended is False or (ended is not True and not self.alive):
            self.hang_up(conn)
        else:
            super().finish_request(conn, fs)  # type: ignore[no-untyped-call]  # as above

    def hang_up(self, conn: Any) -> None:
        """Tell the client that nothing more comes, and leave the connection to `leave`."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.settimeout(0)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.leave, conn))
        except OSError:  # the client has left
            self.close(conn)
            return
        conn.timeout = time.monotonic() + LINGER
        self.leaving.append(conn)

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
        for conn in self._over(self.keepalived_conns, force=force):
            self.hang_up(conn)
        for conn in self._over(self.leaving, force=force):
            self.close(conn)

    def murder_pending(self) -> None:
        """Hang up where a client has asked nothing at all for too long."""
        for conn in self._over(self.pending_conns):
            self.hang_up(conn)

    def _over(self, connections: deque[Any], *, force: bool = False) -> Iterator[Any]:
        """Take those out whose time is over, or all; the one whose time is over first is first."""
        now = time.monotonic()
        while connections and (force or connections[0].timeout <= now):
            conn = connections.popleft()
            self.poller.unregister(conn.sock)
            yield conn

    def _cap_keepalive(self, deadline: float) -> None:
        """Let a stop wait for nobody who asks nothing, longer than to this time."""
        for conn in (*self.keepalived_conns, *self.pending_conns):
            conn.timeout = min(conn.timeout, deadline)

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
