"""Check that the time of a failed sign-in does not reveal users: `python -m bench.timing`.

Signs in to a real gunicorn with bcrypt's cost 12, in random order, as an existing user (wrong
password), an unknown one, a disabled one (right password), and one with a hash of the original
server. Prints medians, and how often each is slower than the existing user: 50 % if there is no
difference (Mann-Whitney U as a share, with p by its normal approximation).
"""

from __future__ import annotations

import argparse
import http.client
import math
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

from passlib.hash import bcrypt
from tabulate import tabulate

from bench.services import PASSWORD, ROUNDS, SERVICES, running
from jwt_server import sqlite
from jwt_server.audit import Actor
from jwt_server.database import Database
from jwt_server.security.passwords import hash_password
from jwt_server.users import users

KNOWN = "exists"
WHO = {KNOWN: "wrong", "unknown": PASSWORD, "disabled": PASSWORD, "original's hash": "wrong"}


def database(path: Path) -> None:
    """Create a database with a user of each kind."""
    sqlite.create(path)
    with closing(Database(path)) as made, made.connection() as db:
        good = hash_password(PASSWORD, ROUNDS)
        plain = bcrypt.using(rounds=ROUNDS, ident="2a").hash(PASSWORD)
        for name in (KNOWN, "disabled", "original's hash"):
            stored = plain if name == "original's hash" else good
            user_id = users.add(db, name, stored, admin=False, actor=Actor(None, None, 0))
            if name == "disabled":
                users.set_disabled(db, user_id, disabled=True, actor=Actor(None, None, 0))


@contextmanager
def asked(folder: Path) -> Iterator[http.client.HTTPConnection]:
    """Run the service with one worker; yields a connection to it."""
    path = folder / "timing.db"
    database(path)
    settings = {"WORKERS": "1", "METRICS_PORT": "0", "TRUSTED_PROXIES": "1"}
    with (
        running(SERVICES["ours"], folder, path, **settings) as service,
        closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)) as connection,
    ):
        yield connection


def seconds(connection: http.client.HTTPConnection, name: str) -> float:
    """Return the time of one sign-in, to the end of the response."""
    body = urlencode({"username": name, "password": WHO[name]})
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Forwarded-For": f"2001:db8:{random.getrandbits(16):x}::1",  # no limit applies
    }
    start = time.perf_counter()
    connection.request("POST", "/auth", body, headers)
    answer = connection.getresponse()
    answer.read()
    taken = time.perf_counter() - start
    assert answer.status == 401, answer.status
    return taken


def slower(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Return how often `one` is slower, of all pairs, and the p-value against a half."""
    above = sum((a > b) + (a == b) / 2 for a in one for b in other)
    pairs = len(one) * len(other)
    deviation = math.sqrt(pairs * (len(one) + len(other) + 1) / 12)
    return above / pairs, math.erfc(abs(above - pairs / 2) / deviation / math.sqrt(2))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description="Check that a failed sign-in's time does not reveal users"
    )
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    found: dict[str, list[float]] = {name: [] for name in WHO}
    with (
        TemporaryDirectory() as folder,
        asked(Path(folder)) as connection,
    ):
        for number in range(rounds + 3):
            for name in random.sample(list(WHO), len(WHO)):
                taken = seconds(connection, name)
                if number >= 3:  # the first ones warm it up
                    found[name].append(taken)
    rows = []
    for name, times in found.items():
        share, p = slower(times, found[KNOWN])
        middle = statistics.median(times) * 1000
        compared = [f"{share:.0%}", f"{p:.2f}"] if name != KNOWN else ["", ""]
        rows.append([name, f"{middle:.2f}", f"{statistics.stdev(times) * 1000:.2f}", *compared])
    print(f"{rounds} sign-ins each, in turn, bcrypt's cost {ROUNDS}\n")
    headers = ["user", "median, ms", "deviation, ms", f"slower than {KNOWN!r}", "p"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
