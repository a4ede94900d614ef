"""The lane: how many passwords are hashed at once, who waits in line, and who is sent away.

A hash holds a core for a good fraction of a second. So only as many are under way as there are
cores for it, and the others wait without taking anything from the cheap requests: first come,
first served, so many at the most, and not for ever.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Final

from jwt_server.errors import HashingBusy

LOOK_SECONDS: Final = 0.5
"""How often somebody in line is asked for: who has hung up makes room."""


def nobody_leaves() -> bool:
    """Stands in for a look at the client, where there is none."""
    return False


def not_counted(_seconds: float) -> None:
    """Stands in for what counts, where nobody does."""


@dataclass
class HashQueue:
    """Lets `places` of a process's threads hash at once; others wait in line.

    At most `queue` of them, each `wait` seconds. `gone` tells a waiting thread whether its client
    has hung up. `in_line` is entered by each that waits, `waited` told how long each had to that
    got its turn.
    """

    places: int
    queue: int
    wait: float
    gone: Callable[[], bool] = nobody_leaves
    in_line: AbstractContextManager[object] = field(default_factory=nullcontext, repr=False)
    waited: Callable[[float], object] = field(default=not_counted, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)
    _taken: int = 0
    _line: deque[Event] = field(default_factory=deque, repr=False)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The thread's turn to hash. Raises HashingBusy where there is none to be had."""
        came = time.perf_counter()
        called = self._stand_in_line()
        if called is not None:
            try:
                with self.in_line:
                    self._wait(called)
            except BaseException:
                self._step_out(called)
                raise
        try:
            self.waited(time.perf_counter() - came)
            yield
        finally:
            self._hand_on()

    def require_room(self) -> None:
        """Raise HashingBusy where the line is full right now: a look, before what costs more."""
        with self._lock:
            if self._taken >= self.places and len(self._line) >= self.queue:
                raise HashingBusy

    @property
    def waiting(self) -> int:
        """How many are in line."""
        return len(self._line)

    def _stand_in_line(self) -> Event | None:
        """None where a place was free; else what is set when it is this thread's turn."""
        with self._lock:
            if self._taken < self.places:  # nobody is in line: a place goes from hand to hand
                self._taken += 1
                return None
            if len(self._line) >= self.queue:
                raise HashingBusy
            called = Event()
            self._line.append(called)
            return called

    def _wait(self, called: Event) -> None:
        deadline = time.monotonic() + self.wait
        while not called.wait(min(LOOK_SECONDS, max(0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline or self.gone():
                raise HashingBusy

    def _step_out(self, called: Event) -> None:
        """Leave the line; who was called at that very moment hands the place on."""
        with self._lock:
            if called in self._line:
                self._line.remove(called)
                return
        self._hand_on()

    def _hand_on(self) -> None:
        with self._lock:
            if self._line:
                self._line.popleft().set()
            else:
                self._taken -= 1
