"""The threads of a worker, of which one leads and the others follow.

The thread that leads does one task after the other. As no other thread runs Python meanwhile, tasks
wait neither for a thread nor for the interpreter lock. Before a task waits, for the disk, a client
or a password's hash, it lets another thread lead, and its own thread follows again at its end.
"""

import logging
import os
from collections.abc import Callable
from threading import Lock, Thread
from typing import Final

log = logging.getLogger(__name__)

FAILED: Final = 1
"""Exit status after a bug in a thread: the arbiter starts another worker."""


class Threads:
    """At most `limit` threads, started when they are needed.

    `lead` is called by the thread that leads. It calls `begin` and `end` around each task, and
    returns when another thread leads. `detach` is called with a task that goes on meanwhile.
    """

    task: object = None
    """Of the thread that leads."""

    def __init__(
        self, limit: int, lead: Callable[[], object], detach: Callable[..., object]
    ) -> None:
        self._limit, self._lead, self._detach = limit, lead, detach
        self._leadership, self._lock = Lock(), Lock()  # the second is held for a moment only
        self._started = self._followers = 0

    def start(self) -> None:
        """Start a thread that follows, and leads if no other does."""
        Thread(target=self._follow, daemon=True).start()
        self._started += 1

    def _follow(self) -> None:
        try:
            while True:
                with self._lock:
                    self._followers += 1
                self._leadership.acquire()
                with self._lock:
                    self._followers -= 1
                self._lead()
        except BaseException:
            log.exception("A thread of the worker failed.")
            os._exit(FAILED)  # without its thread that leads, the worker would do nothing

    def begin(self, task: object) -> None:
        """Begin a task of the thread that leads."""
        self.task = task

    def hand_over(self, task: object) -> None:
        """Let another thread lead, if this is still the task of the one that leads.

        Nothing changes if all threads are in use, or the system allows no more.
        """
        with self._lock:
            if self.task is not task:
                return
            if not self._followers:
                if self._started >= self._limit:
                    return
                try:
                    self.start()
                except RuntimeError:
                    return
            self.task = None
            self._detach(task)
        self._leadership.release()

    def end(self, task: object) -> bool:
        """End a task; return whether its thread still leads."""
        with self._lock:
            leads = self.task is task
            if leads:
                self.task = None
            return leads
