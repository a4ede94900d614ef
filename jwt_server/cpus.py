"""How many cores this process may use, by its affinity and by the quotas of cgroup v2."""

import math
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
OWN_CGROUPS: Final = Path("/proc/self/cgroup")


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_cpus() -> int:
    """Return how many cores this process may use at once, by its affinity and its CPU quota."""
    return max(1, math.ceil(min(len(usable_cores()), cpu_quota())))


def cpu_quota() -> float:
    """Return how many CPUs this process's control group and those above allow, or infinity."""
    found = [math.inf]
    with suppress(OSError, ValueError):  # not on macOS
        for path in re.findall("^0::/*(.*)", OWN_CGROUPS.read_text(), re.MULTILINE):
            for group in (Path(path), *Path(path).parents):
                with suppress(OSError, ValueError, ZeroDivisionError):  # "max" is no limit
                    quota, period = (CGROUPS / group / "cpu.max").read_text().split()
                    found.append(int(quota) / int(period))
    return min(found)
