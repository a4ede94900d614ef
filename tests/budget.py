"""Measure how much CPU a make target takes: `python -m tests.budget test`.

One unit is the CPU time of 20 million additions on the same machine just before and after.
CONTRIBUTING.md has the limits: together 350 units.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from typing import Final

LIMITS: Final = {"test": 100, "test-postgresql": 70, "test-slow": 180}
"""Units of CPU (user and system, all processes) that each target may take."""


def million_additions() -> float:
    """Return their CPU seconds."""
    before = time.process_time()
    x = 0
    for i in range(1_000_000):
        x += i
    return time.process_time() - before


def children_seconds() -> float:
    """Return the CPU seconds of all ended child processes, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(targets: list[str]) -> int:
    """Run the targets; 1 if one fails or takes more than its limit."""
    failed = False
    for target in targets:
        loops = [million_additions() for _ in range(20)]
        before, started = children_seconds(), time.monotonic()
        status = subprocess.run(["make", target], check=False).returncode  # noqa: S603, S607 - our own
        seconds, elapsed = children_seconds() - before, time.monotonic() - started
        loops += [million_additions() for _ in range(20)]
        unit = 20 * statistics.median(loops)
        units = seconds / unit
        print(
            f"make {target}: {units:.0f} of {LIMITS[target]} units"
            f" ({seconds:.0f} s of CPU, {elapsed:.0f} s elapsed, one unit is {unit:.2f} s)"
        )
        failed = failed or status != 0 or units > LIMITS[target]
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(LIMITS)))
