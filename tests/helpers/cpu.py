"""CPU time in units of a loop that runs in the same test, so that machines compare."""

from __future__ import annotations

import time
from collections.abc import Callable


def cpu_milliseconds(work: Callable[[], object], runs: int = 3) -> float:
    """Return the CPU time of this thread for the work, in units of `usual_millisecond`.

    Of several runs, in turn, each of the two counts with its least, as load can only add to it.
    """
    measured = [(cpu_seconds(work), usual_millisecond()) for _ in range(runs)]
    return min(taken for taken, _ in measured) / min(unit for _, unit in measured)


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of this thread for the work."""
    before = time.thread_time()
    work()
    return time.thread_time() - before


def usual_millisecond() -> float:
    """Return the CPU seconds of 20,000 additions: one millisecond on a usual machine."""
    before, total = time.thread_time(), 0
    for number in range(20_000):
        total += number
    return time.thread_time() - before
