"""gunicorn's worker: one thread handles all requests, until one of them waits.

That thread waits for all clients at once, and handles the requests that are complete, one after the
other. A request that will wait lets another thread do so (threads.py); the main thread does that
for a request that has taken WATCH_SECONDS.

The worker uses gunicorn's parser and responses. For another series than VERIFIED, read the changes
of gunicorn/workers/base.py and gunicorn/http, and run tests/server and the benchmark.
"""

import os
import resource
import select
import signal
import time
from collections import deque
from collections.abc import Set
from contextlib import suppress
from functools import partial
from math import inf
from operator import attrgetter
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector, SelectorKey
from threading import Lock
from types import SimpleNamespace
from typing import Any, Final

from gunicorn.http import wsgi
from gunicorn.http.errors import NoMoreData
from gunicorn.workers import base

from jwt_server.gunicorn.connection import Connection
from jwt_server.gunicorn.response import Response
from jwt_server.gunicorn.threads import Threads
from jwt_server.web.middleware import BEFORE_WAITING

VERIFIED: Final = "27.0"
WATCH_SECONDS: Final = 0.005
CHORES_SECONDS: Final = 1
LAST_SECONDS: Final = 2  # a client of a stopping worker may be sending a request
ACCEPTED_AT_ONCE: Final = 64
YIELD_SECONDS: Final = 0.002  # for a worker with fewer connections to accept one
PAUSE_SECONDS: Final = 0.1  # before accepting again, if the worker is full or has no files left
IDLE_SECONDS: Final = 1  # after which a full worker may close a connection
LOG_SECONDS: Final = 60  # between two warnings of a full worker


class Worker(base.Worker):
    """Serves requests in threads."""

    PIPE: list[int]
    alive: bool
    cfg: Any
    nr: int
    sockets: list[Any]
    counts: memoryview
    """One more than the connections of each worker, in memory that they share; 0 for no worker."""
    slot: int
    """Of this worker in the counts."""

    def init_process(self) -> None:
        """Make what must not be shared with the arbiter, then serve."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit: int = self.cfg.worker_connections
        self.limit = min(limit, files // 2) if files > 0 else limit  # the others: database, keys
        # Faster to read than gunicorn's.
        self.options = SimpleNamespace(is_ssl=False)
        vars(self.options).update({name: each.get() for name, each in self.cfg.settings.items()})
        self.poller, self.listen_lock = DefaultSelector(), Lock()
        self.events: deque[tuple[SelectorKey, int]] = deque()
        self.busy = 0  # connections with events
        self.connections: set[Connection] = set()
        self.waiting: set[Connection] = set()  # for their clients
        self.is_listening, self.has_yielded, self.listen_at, self.log_at = False, False, 0.0, 0.0
        self.threads = Threads(self.cfg.threads, self._lead, self._detach)
        self.is_asleep, self.seen_requests = False, 0
        self.chores_at, self.close_at, self.last_at = 0.0, 0.0, inf
        super().init_process()  # type: ignore[no-untyped-call]  # gunicorn has no types

    def init_signals(self) -> None:
        """Ignore SIGHUP, which `systemctl kill` and a closed terminal send to the workers, too."""
        super().init_signals()  # type: ignore[no-untyped-call]  # as above
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def run(self) -> None:
        """Watch the threads until the worker has to stop and its clients have left."""
        for listener in self.sockets:
            listener.settimeout(0)
        self._count()
        self._listen()
        self.threads.start()
        while self.alive:
            self._tick()
        self.counts[self.slot] = 0  # no other worker waits for this one to accept
        self._stop_listening()
        self.last_at = time.monotonic() + LAST_SECONDS
        end = time.monotonic() + self.cfg.graceful_timeout
        while self.connections and time.monotonic() < end:
            self._tick()

    def _tick(self) -> None:
        """Let another thread lead if a request takes long; once a second, do the chores.

        Sleep if there was no request for a second; the next one ends the sleep.
        """
        requests = self.nr
        self.is_asleep = self.alive and requests == self.seen_requests
        # A request since the first line does not know that this thread sleeps.
        is_idle = self.is_asleep and requests == self.nr and self.threads.task is None
        if select.select(self.PIPE[:1], [], [], CHORES_SECONDS if is_idle else WATCH_SECONDS)[0]:
            os.read(self.PIPE[0], 4096)  # a signal, or the next request
        self.is_asleep = False
        task = self.threads.task
        if task is not None and requests == self.nr:
            self.threads.hand_over(task)
        if time.monotonic() >= self.chores_at:
            self._do_chores()

    def _do_chores(self) -> None:
        """Tell the arbiter that this worker is alive.

        Stop as on SIGTERM if the arbiter was killed: the next one could not have the port.
        """
        self.notify()  # type: ignore[no-untyped-call]  # as above
        if self.ppid != os.getppid():
            self.alive = False
        self.seen_requests, self.chores_at = self.nr, time.monotonic() + CHORES_SECONDS

    def _lead(self) -> None:
        """Handle what arrives, until another thread leads."""
        leads = True
        while leads:
            if not self.events:
                self._poll()
                continue
            key, _ = self.events.popleft()
            if key.data is None:
                self._accept(key.fileobj)
            elif key.data in self.waiting:  # it was not closed since the event
                leads = self._serve(key.data)

    def _poll(self) -> None:
        """Wait for events, at most until something else is due, and do that."""
        is_paused = self.alive and not self.is_listening
        due_at = min(self.close_at, self.listen_at if is_paused else inf)
        events = self.poller.select(max(0, due_at - time.monotonic()))
        self.events.extend(events)
        self.busy = len(events)
        now = time.monotonic()
        if now >= self.close_at:
            self.close_at = now + CHORES_SECONDS
            self._close_overdue(now, {key.data for key, _ in events if key.data})
        if is_paused and now >= self.listen_at:
            self._listen()

    def _close_overdue(self, now: float, ready: Set[Connection]) -> None:
        """Close the connections whose time is over, if their request has not just arrived."""
        for conn in self.waiting.copy():
            begins = not conn.is_closing and not conn.seen_bytes
            deadline = min(conn.sock.deadline, self.last_at) if begins else conn.sock.deadline
            if now >= deadline and not (begins and conn in ready):
                self._close(conn)

    def _serve(self, conn: Connection) -> bool:
        """Handle a connection's requests; return whether this thread still leads."""
        self.waiting.remove(conn)
        self.nr += 1
        self.threads.begin(conn)
        if self.is_asleep:
            self.is_asleep = False
            os.write(self.PIPE[1], b".")
        stays = self._handle(conn)
        leads = self.threads.end(conn)
        # Of more requests that have been received, each waits for its turn, too.
        events = EVENT_READ | EVENT_WRITE if conn.is_pipelined() else EVENT_READ
        if not leads:
            self.poller.register(conn.sock, events, conn)
        elif events != conn.events:
            self.poller.modify(conn.sock, events, conn)
        conn.events = events
        if stays:
            self.waiting.add(conn)
        else:
            self._close(conn)
        return leads

    # The connections.

    def _listen(self) -> None:
        """Accept connections from now on, unless the worker stops."""
        with self.listen_lock:
            if self.alive and not self.is_listening:
                for listener in self.sockets:
                    self.poller.register(listener, EVENT_READ)
                self.is_listening = True

    def _pause(self, seconds: float) -> None:
        """Accept no connections for some time."""
        with self.listen_lock:
            self.listen_at = time.monotonic() + seconds
            if self.is_listening:
                for listener in self.sockets:
                    self.poller.unregister(listener)
                self.is_listening = False

    def _stop_listening(self) -> None:
        """Accept those who have connected already; others are refused, so a proxy asks elsewhere.

        Under socket activation they wait in the socket, which stays open.
        """
        self._pause(self.cfg.graceful_timeout)
        for listener in self.sockets:
            with suppress(OSError):  # there are no more, mostly
                while len(self.connections) < self.limit:
                    self._accept_one(listener)
            listener.close()

    def _accept(self, listener: Any) -> None:
        """Accept connections, unless another worker has fewer."""
        if not self.is_listening:  # since the event
            return None
        if len(self.connections) >= self.limit and not self._make_room():
            return self._pause(PAUSE_SECONDS)
        for _ in range(min(self.limit - len(self.connections), ACCEPTED_AT_ONCE)):
            if self._yields():
                return self._pause(YIELD_SECONDS)
            try:
                self._accept_one(listener)
            except (BlockingIOError, ConnectionAbortedError):
                return None
            except OSError:  # mostly no more files
                return self._pause(PAUSE_SECONDS)
        return None

    def _accept_one(self, listener: Any) -> None:
        """Accept a connection. Raises OSError; if there is none, BlockingIOError."""
        sock, address = listener.accept()
        conn = Connection(self.options, sock, address, listener.getsockname())
        conn.sock.before_waiting = partial(self.threads.hand_over, conn)
        self.connections.add(conn)
        self._count()
        self.waiting.add(conn)
        self.poller.register(conn.sock, EVENT_READ, conn)

    def _yields(self) -> bool:
        """Whether to leave a connection to another worker, which may take it within a moment.

        That is if another has fewer. Then few busy connections are spread over the workers, and
        with them over their cores and hash queues. To keep many connections waiting for that would
        take longer than it is worth, so a busy worker may have some more.
        """
        limit = min(filter(None, self.counts), default=0) + self.busy // 4
        self.has_yielded = not self.has_yielded and self.counts[self.slot] > limit
        return self.has_yielded

    def _make_room(self) -> bool:
        """Close what has been idle longest, if it has for a second; return whether it has.

        Log, once a minute, that there are too many connections.
        """
        now = time.monotonic()
        if now >= self.log_at:
            self.log_at = now + LOG_SECONDS
            text = "New connections wait until some of %d close; see LimitNOFILE and WORKERS."
            self.log.warning(text, len(self.connections))
        idle = min(self.waiting.copy(), key=attrgetter("waits_since"), default=None)
        if idle is None or idle.waits_since > now - IDLE_SECONDS:
            return False
        self._close(idle)
        return True

    def _detach(self, conn: Connection) -> None:
        """Don't wait for a connection that a thread handles while another leads."""
        self.poller.unregister(conn.sock)

    def _close(self, conn: Connection) -> None:
        self.waiting.discard(conn)
        self.poller.unregister(conn.sock)
        self.connections.discard(conn)
        self._count()
        conn.sock.close()

    def _count(self) -> None:
        if self.alive:
            self.counts[self.slot] = len(self.connections) + 1

    # The requests.

    def _handle(self, conn: Connection) -> bool:
        """Handle a request, if it is complete; return whether to wait for more of the client."""
        request = None
        try:
            if conn.is_closing:
                return conn.discard()
            if not conn.receive():
                return True
            request = next(conn.parser)
            if self._respond(conn, request):
                conn.expect(self.cfg.keepalive)
                return True
        except (StopIteration, NoMoreData, ConnectionError):  # the client has left
            return False
        except TimeoutError:  # it is too slow
            pass
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is logged
            try:
                self.handle_error(request, conn.sock, conn.client, error)  # type: ignore[no-untyped-call]  # as above
            except Exception:
                self.log.exception("Error handling an error")
        return conn.begin_to_close()

    def _respond(self, conn: Connection, request: Any) -> bool:
        """Call the application, and send its response; return whether the connection stays open."""
        response, environ = wsgi.create(  # type: ignore[no-untyped-call]  # as above
            request, conn.sock, conn.client, conn.server, self.options, Response
        )
        environ["wsgi.multithread"] = True
        environ[BEFORE_WAITING] = conn.sock.before_waiting
        if self.nr >= self.max_requests:
            self.alive = False
        if not self.alive:
            response.force_close()
        try:
            body = self.wsgi(environ, response.start_response)
            try:
                for part in body:
                    response.write(part)
                response.close()
            finally:
                if hasattr(body, "close"):
                    body.close()
        except (ConnectionError, TimeoutError):
            raise
        except (Exception, SystemExit):
            if not response.headers_sent:
                raise
            self.log.exception("Error handling request")  # another response can't follow
            return False
        return not response.should_close() and conn.finish()
