"""The measurements, one function each.

Each returns numbers by the names of their rows in the table.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bench import load
from bench.proxy import nginx
from bench.services import SERVICES, Running, make_database, open_sessions, running

CONNECTIONS = (4, 16, 64, 256)
MANY = 10_000
"""Tokens, more than a worker caches."""

STORM = 64
SIGN_IN_SECONDS = 20
"""So long that start and end count little."""

TICKS = os.sysconf("SC_CLK_TCK")
Figures = dict[str, float]


def reads(running: Running, seconds: int, *, behind_nginx: bool) -> Figures:
    """Measure GET /my-pets, directly and behind nginx."""
    token = running.sign_in()
    load.reads(running.url, token, 8, 1)  # so that each worker has cached it
    found: Figures = {}
    for connections in CONNECTIONS:
        found |= _named(f"reads {connections}", running, token, connections, seconds)
    if behind_nginx:
        with nginx(running.folder, f"127.0.0.1:{running.port}") as url:
            front = replace(running, address=url)
            for connections in CONNECTIONS:
                found |= _named(f"reads nginx {connections}", front, token, connections, seconds)
    return found | {"reads errors": sum(found[row] for row in found if row.endswith("errors"))}


def _named(name: str, running: Running, token: str, connections: int, seconds: int) -> Figures:
    cpu, switches = usage(running)
    seen = load.reads(running.url, token, connections, seconds)
    cpu_after, switches_after = usage(running)
    requests = max(1, seen.requests)
    return {
        f"{name}/s": seen.rate,
        f"{name} median ms": seen.median,
        f"{name} p99 ms": seen.p99,
        f"{name} errors": seen.errors,
        f"{name} CPU us": (cpu_after - cpu) / requests * 1e6,
        f"{name} switches": (switches_after - switches).total() / requests,
    }


def usage(running: Running) -> tuple[float, Counter[str]]:
    """Return the CPU seconds of all workers, and each thread's voluntary context switches."""
    cpu, switches = 0, Counter[str]()
    for pid in running.workers():
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        cpu += int(user) + int(system)
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # it has ended
                text = (thread / "status").read_text()
                switches[thread.name] = int(
                    text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]
                )
    return cpu / TICKS, switches


def reads_of_many(running: Running, database: Path | str, seconds: int) -> Figures:
    """Measure GET /my-pets with so many tokens that no cache holds them."""
    tokens = open_sessions(database, MANY, 1000)
    seen = load.reads_of_many(running, tokens, 16, seconds)
    return {"reads many/s": seen.rate, "reads many errors": seen.errors}


def sign_ins(running: Running, seconds: float) -> Figures:
    """Measure POST /auth with 8 clients.

    Those of the measurement before have disconnected by then; else the workers have different
    numbers of connections, and one gets all eight.
    """
    time.sleep(1)
    seen = load.sign_ins(running, 8, max(SIGN_IN_SECONDS, seconds))
    return {
        "sign-ins/s": seen.rate,
        "sign-ins errors": sum(seen.statuses.values()) - seen.statuses.get("200", 0),
    }


def sign_ins_and_bcrypt(running: Running, seconds: float) -> Figures:
    """Measure sign-ins, and bcrypt alone for as long, half of it before and half after them."""
    half = max(SIGN_IN_SECONDS, seconds) / 2
    before = load.bcrypt_rate(half)
    found = sign_ins(running, seconds)
    return found | {"bcrypt alone/s": (before + load.bcrypt_rate(half)) / 2}


def storm(running: Running, seconds: int) -> Figures:
    """Measure reads on 4 connections while 64 clients sign in, each with its own account."""
    token = running.sign_in()
    seen: list[load.SignIns] = []
    crowd = threading.Thread(target=lambda: seen.append(load.sign_ins(running, STORM, seconds + 1)))
    crowd.start()
    time.sleep(1)
    cheap = load.reads(running.url, token, 4, seconds)
    crowd.join()
    busy = seen[0].statuses.get("503 with Retry-After", 0)
    good = seen[0].statuses.get("200", 0)
    return {
        "storm reads/s": cheap.rate,
        "storm reads median ms": cheap.median,
        "storm reads p99 ms": cheap.p99,
        "storm reads errors": cheap.errors,
        "storm sign-ins/s": seen[0].rate,
        "storm sent away": busy,
        "storm errors": sum(seen[0].statuses.values()) - good - busy,
    }


def refreshes(running: Running, seconds: float) -> Figures:
    """Measure POST /auth/refresh with 16 clients."""
    return {"refreshes/s": load.refreshes(running, 16, seconds)}


def footprint(running: Running) -> Figures:
    """Measure the time to the first response, and the memory (PSS) of a worker."""
    sizes = [_pss(pid) for pid in running.workers()]
    return {"ready ms": running.ready_after * 1000, "MB a worker": max(sizes)}


def _pss(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    line = next(line for line in text.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) / 1000


def growth(folder: Path, users: int, seconds: int) -> Figures:
    """Measure reads and sign-ins of this service with this many users."""
    database = folder / f"growth-{users}.db"
    if not database.exists():
        make_database("ours", database, users)
    with running(SERVICES["ours"], folder, database) as service:
        tokens = open_sessions(database, 1000, users)
        load.reads_of_many(service, tokens, 16, 1)
        cheap = load.reads_of_many(service, tokens, 16, seconds)
        signed_in = load.sign_ins(service, 8, seconds, users)
    return {f"reads/s, {users} users": cheap.rate, f"sign-ins/s, {users} users": signed_in.rate}
