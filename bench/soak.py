"""Check for leaks: `.venv/bin/python -m bench.soak`.

Sends every kind of request at once for some minutes: reads with more tokens than a worker caches,
sign-ins, refreshes, pets, sign-ups, wrong passwords, invalid tokens, scrapes. Every 10 seconds it
samples the private memory, open files and threads of the arbiter and each worker, and the size of
the database, which grows by design, as expired sessions are kept for a day. Passwords are hashed
cheaply, for many sign-ins. Exits with 1 unless memory and open files are flat.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from bench import load
from bench.services import (
    PASSWORD,
    SERVICES,
    Running,
    free_port,
    make_database,
    open_sessions,
    running,
)
from bench.visits import Visitor
from jwt_server.security.passwords import hash_password

EVERY = 10
USERS = 20_000
"""So many that no connection caches the whole database."""

TOKENS = 10_000
"""More than a worker caches."""

VISITORS = 16
FLAT_PERCENT, FLAT_MEGABYTES = 2.0, 1.0
"""The growth of a worker's memory in the second half that still counts as flat."""

SETTINGS = {"SALT_ROUNDS": "4", "SIGNUP": "open", "TRUSTED_PROXIES": "1", "WORKERS": "2"}


@dataclass(frozen=True)
class Process:
    """The resources of a process; memory in MB, private and proportional (PSS)."""

    private: float
    pss: float
    files: int
    threads: int


@dataclass(frozen=True)
class Sample:
    """The resources of all processes at one time; sizes in MB."""

    seconds: float
    processes: Sequence[Process]
    wal: float
    database: float
    requests: int


def main() -> int:
    """Run it and print the samples; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--warm-up", type=float, default=120, metavar="SECONDS",
                        help="until the caches are full, before sampling")  # fmt: skip
    options = parser.parse_args()
    load.require_wrk()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        database = Path(name) / "users.db"
        make_database("ours", database, USERS)
        _make_cheap(database)
        tokens = open_sessions(database, TOKENS, USERS)
        settings = SETTINGS | {"METRICS_PORT": str(free_port())}
        with running(SERVICES["ours"], Path(name), database, **settings) as started:
            scraper = threading.Thread(
                target=_scrape_on, args=(settings["METRICS_PORT"],), daemon=True
            )
            scraper.start()
            samples, statuses = soak(started, tokens, options.minutes * 60, options.warm_up)
    print(table(samples))
    print(", ".join(f"{count:,} of {status}" for status, count in sorted(statuses.items())))
    print("\n".join(verdicts(samples)))
    flat = all("not flat" not in line for line in verdicts(samples))
    bad = [status for status in statuses if status >= 500 and status != 503]
    return 0 if flat and not bad else 1


def _make_cheap(database: Path) -> None:
    """Give all users hashes of the cost in SETTINGS."""
    hashed = hash_password(PASSWORD, int(SETTINGS["SALT_ROUNDS"]))
    with closing(sqlite3.connect(database)) as driver, driver:
        driver.execute("UPDATE users SET password_hash = ?", (hashed,))


def soak(
    started: Running, tokens: Sequence[str], seconds: float, warm_up: float
) -> tuple[list[Sample], dict[int, int]]:
    """Run the load; returns the samples after the warm-up, and the count of each status."""
    over = threading.Event()
    visitors = [Visitor(number, started.port, USERS) for number in range(VISITORS)]
    threads = [threading.Thread(target=each.visit_until, args=(over,)) for each in visitors]
    threads.append(threading.Thread(target=_read_until, args=(over, started, tokens)))
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    samples: list[Sample] = []
    while (now := time.monotonic() - begun) < seconds:
        time.sleep(EVERY)
        if now >= warm_up:
            samples.append(sample(started, now, sum(each.count for each in visitors)))
            print(_line(samples[-1]), flush=True)
    over.set()
    for thread in threads:
        thread.join()
    statuses = sum((each.statuses for each in visitors), start=visitors[0].statuses.__class__())
    return samples, dict(statuses)


def _read_until(over: threading.Event, started: Running, tokens: Sequence[str]) -> None:
    rng = random.Random(0)  # noqa: S311 - which tokens comes first
    while not over.is_set():
        chosen = rng.sample(tokens, len(tokens))
        seen = load.reads_of_many(started, chosen, 8, EVERY)
        if seen.errors:
            print(f"{seen.errors} reads failed", flush=True)


def _scrape_on(port: str) -> None:
    """Scrape as Prometheus does, until the service is stopped."""
    with suppress(OSError):
        while True:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
                answer.read()
            time.sleep(EVERY / 2)


def sample(started: Running, seconds: float, requests: int) -> Sample:
    """Sample the arbiter and the workers."""
    pids = [started.process.pid, *sorted(started.workers())]
    database, wal = Path(started.database), Path(f"{started.database}-wal")
    return Sample(
        seconds, [process(pid) for pid in pids], wal.stat().st_size / 1e6,
        database.stat().st_size / 1e6, requests,
    )  # fmt: skip


def process(pid: int) -> Process:
    """Sample one process."""
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size = line.split()[:2]
        sizes[name.rstrip(":")] = int(size)
    status = Path(f"/proc/{pid}/status").read_text()
    threads = next(line for line in status.splitlines() if line.startswith("Threads:"))
    return Process(
        (sizes["Private_Dirty"] + sizes["Private_Clean"]) / 1000, sizes["Pss"] / 1000,
        len(list(Path(f"/proc/{pid}/fd").iterdir())), int(threads.split()[1]),
    )  # fmt: skip


def table(samples: Sequence[Sample]) -> str:
    """Return a table with one row per minute, and the last sample."""
    step = max(1, 60 // EVERY)
    rows = [_cells(each) for each in samples[::step]]
    if (len(samples) - 1) % step:
        rows.append(_cells(samples[-1]))
    return tabulate(rows, HEADS, disable_numparse=True)


HEADS = ("s", "private MB: arbiter, workers", "PSS MB", "open files", "threads", "WAL MB",
         "database MB", "requests beside reads")  # fmt: skip


def _cells(each: Sample) -> list[str]:
    return [
        f"{each.seconds:.0f}",
        " ".join(f"{one.private:.1f}" for one in each.processes),
        " ".join(f"{one.pss:.1f}" for one in each.processes),
        " ".join(str(one.files) for one in each.processes),
        " ".join(str(one.threads) for one in each.processes),
        f"{each.wal:.1f}",
        f"{each.database:.1f}",
        f"{each.requests:,}",
    ]


def _line(each: Sample) -> str:
    return "  ".join(_cells(each))


def verdicts(samples: Sequence[Sample]) -> list[str]:
    """Return a line for each process: whether its second half is flat."""
    names = ["arbiter", *(f"worker {n}" for n in range(1, len(samples[0].processes)))]
    return [_verdict(name, samples, number) for number, name in enumerate(names)]


def _verdict(name: str, samples: Sequence[Sample], number: int) -> str:
    middle = len(samples) // 2
    second = samples[middle:]
    memory = [each.processes[number].private for each in second]
    hours = [each.seconds / 3600 for each in second]
    slope = statistics.linear_regression(hours, memory).slope
    quarter = len(memory) // 2
    before, after = statistics.median(memory[:quarter]), statistics.median(memory[quarter:])
    grown = after - before
    files = [each.processes[number].files for each in samples]
    most_before, most_after = max(files[:middle]), max(files[middle:])
    flat = (
        grown <= max(FLAT_MEGABYTES, before * FLAT_PERCENT / 100) and most_after <= most_before + 2
    )
    return (
        f"{name}: {'flat' if flat else 'not flat'}: memory in the second half {before:.1f} to"
        f" {after:.1f} MB ({grown / before:+.1%}; slope {slope:+.1f} MB an hour); at most"
        f" {most_before} open files in the first half, {most_after} in the second"
    )


if __name__ == "__main__":
    raise SystemExit(main())
