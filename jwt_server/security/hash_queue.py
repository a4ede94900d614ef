"""A bounded first-in-first-out queue for password hashing.

One hash takes a core for a good fraction of a second, so only as many run at once as there are
cores for it; the other requests of the process stay fast.
"""

import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from threading import Event, Lock, RLock, get_native_id
from typing import Final, TypeVar

from jwt_server.errors import HashingBusy, TooManyAttempts

Result = TypeVar("Result")

POLL_SECONDS: Final = 0.5
"""How often a queued request checks that its client is still connected."""

NICE: Final = 2
"""How much lower the priority of hashing is: a read takes a thousandth of the time of a hash."""

MAX_CHECKS_AT_ONCE: Final = 2
"""Of one password, so that one user can't fill the queue."""


@dataclass
class KeyedLimit:
    """Lets at most `limit` threads of this process do something at once for one key."""

    limit: int
    _counts: Counter[object] = field(default_factory=Counter, repr=False)
    _lock: AbstractContextManager[object] = field(default_factory=Lock, repr=False)

    @contextmanager
    def hold(self, key: object) -> Iterator[None]:
        """Count inside as one for the key. Raises TooManyAttempts, but not for an empty key."""
        with self._lock:
            if key and self._counts[key] >= self.limit:
                raise TooManyAttempts(1)
            self._counts[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._counts[key] -= 1
                if not self._counts[key]:
                    del self._counts[key]


def lower_priority() -> None:
    """Let other threads run before this one where they share a core."""
    if sys.platform == "linux":  # elsewhere it would be the priority of the process
        thread = get_native_id()
        with suppress(OSError):  # forbidden by a container
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)


@dataclass
class HashQueue:
    """Slots for the threads of a process that hash, and a queue for those that must wait.

    At most `size` requests are queued, each for `wait` seconds. `before_waiting` is called before a
    request is queued; `client_left` tells whether its client has disconnected. For the metrics,
    `track_queued` is entered while a request is queued, and `observe_wait` gets the seconds that
    each one waited.
    """

    slots: int
    size: int
    wait: float
    before_waiting: Callable[[], object] = lambda: None
    client_left: Callable[[], bool] = lambda: False
    track_queued: AbstractContextManager[object] = field(default_factory=nullcontext, repr=False)
    observe_wait: Callable[[float], object] = lambda _seconds: None
    _lock: AbstractContextManager[object] = field(default_factory=RLock, repr=False)
    _used: int = 0
    queued: deque[Event] = field(default_factory=deque, repr=False)
    _threads: ThreadPoolExecutor = field(init=False, repr=False)
    checks: KeyedLimit = field(default_factory=lambda: KeyedLimit(MAX_CHECKS_AT_ONCE), repr=False)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(self.slots, "hash", initializer=lower_priority)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a slot, then hold it. Raises HashingBusy if there is none in time."""
        self.before_waiting()
        arrived, ready = time.perf_counter(), Event()
        with self._lock:
            self.require_room()
            self.queued.append(ready)
            self._fill_slots()
        try:
            if not ready.is_set():
                with self.track_queued:
                    self._wait(ready)
            self.observe_wait(time.perf_counter() - arrived)
            yield
        finally:
            self._leave(ready)

    def run(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Call a function in a slot, in a thread of low priority. Raises HashingBusy."""
        with self.slot():
            return self._threads.submit(function, *arguments).result()

    def require_room(self) -> None:
        """Raise HashingBusy if the queue is full now, before more expensive work is done."""
        with self._lock:
            if self._used >= self.slots and len(self.queued) >= self.size:
                raise HashingBusy

    def _fill_slots(self) -> None:
        while self.queued and self._used < self.slots:
            self._used += 1
            self.queued.popleft().set()

    def _wait(self, ready: Event) -> None:
        deadline = time.monotonic() + self.wait
        while not ready.wait(min(POLL_SECONDS, max(0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline or self.client_left():
                raise HashingBusy

    def _leave(self, ready: Event) -> None:
        with self._lock:
            if ready in self.queued:
                self.queued.remove(ready)
            else:  # it has a slot, perhaps only since this very moment
                self._used -= 1
                self._fill_slots()
