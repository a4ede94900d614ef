"""How many cores this process may use, by its affinity and by the CPU quotas of Linux."""

import math
import os
import re
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
OWN_CGROUPS: Final = Path("/proc/self/cgroup")
QUOTA_FILES: Final = ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")  # version 2, version 1


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_cpus() -> int:
    """Return how many cores this process may use at once, by its affinity and its CPU quota."""
    return max(1, math.ceil(min(len(usable_cores()), cpu_quota())))


def cpu_quota() -> float:
    """Return how many CPUs this process's control groups and those above allow, or infinity."""
    found = [math.inf]
    for controllers, path in re.findall("^[0-9]+:(.*?):/*(.*)", _read(OWN_CGROUPS), re.MULTILINE):
        folders = {controllers, *controllers.split(",")}  # a link for each, if their order differs
        for folder, group in product(folders, (Path(path), *Path(path).parents)):
            text = " ".join(_read(CGROUPS / folder / group / name) for name in QUOTA_FILES)
            if quota := re.match(r"\s*(\d+)\s+([1-9]\d*)", text):  # not "max", not -1
                found.append(int(quota[1]) / int(quota[2]))
    return min(found)


def _read(path: Path) -> str:
    """Return the text of a file, or nothing if it can't be read."""
    with suppress(OSError, ValueError):
        return path.read_text()
    return ""
