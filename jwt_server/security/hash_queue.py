"""A bounded first-in-first-out queue for password hashing.

One hash takes a core for a good fraction of a second, so only as many run at once as there are
cores for it; the other requests of the process stay fast.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Event, RLock
from typing import Final

from jwt_server.errors import HashingBusy

POLL_SECONDS: Final = 0.5
"""How often a queued request checks that its client is still connected."""


@dataclass
class HashQueue:
    """Slots for the threads of a process that hash, and a queue for those that must wait.

    At most `size` requests are queued, each for `wait` seconds. `client_left` tells whether the
    client of the current request has disconnected; the last two feed the metrics.
    """

    slots: int
    size: int
    wait: float
    client_left: Callable[[], bool] = lambda: False
    track_queued: AbstractContextManager[object] = field(default_factory=nullcontext, repr=False)
    observe_wait: Callable[[float], object] = lambda _seconds: None
    _lock: AbstractContextManager[object] = field(default_factory=RLock, repr=False)
    _used: int = 0
    _queue: deque[Event] = field(default_factory=deque, repr=False)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a slot, then hold it. Raises HashingBusy if there is none in time."""
        arrived = time.perf_counter()
        ready = self._take_or_queue()
        if ready is not None:
            try:
                with self.track_queued:
                    self._wait(ready)
            except BaseException:
                self._leave(ready)
                raise
        try:
            self.observe_wait(time.perf_counter() - arrived)
            yield
        finally:
            self._release()

    def require_room(self) -> None:
        """Raise HashingBusy if the queue is full now, before more expensive work is done."""
        with self._lock:
            if self._used >= self.slots and len(self._queue) >= self.size:
                raise HashingBusy

    @property
    def queued(self) -> int:
        """Number of queued requests."""
        return len(self._queue)

    def _take_or_queue(self) -> Event | None:
        """Take a free slot, or return the event that is set when one has been handed over."""
        with self._lock:
            self.require_room()
            if self._used < self.slots:  # then the queue is empty: used slots are handed over
                self._used += 1
                return None
            ready = Event()
            self._queue.append(ready)
            return ready

    def _wait(self, ready: Event) -> None:
        deadline = time.monotonic() + self.wait
        while not ready.wait(min(POLL_SECONDS, max(0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline or self.client_left():
                raise HashingBusy

    def _leave(self, ready: Event) -> None:
        with self._lock:
            if ready in self._queue:
                self._queue.remove(ready)
                return
        self._release()  # the slot was handed over at this very moment

    def _release(self) -> None:
        with self._lock:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._used -= 1
