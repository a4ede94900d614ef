"""Count what a request costs PostgreSQL: `.venv/bin/python -m bench.round_trips`.

Runs a private cluster on the disk of the temporary folder, and the service in this process. Prints
round trips, commits that wait for the disk, CPU of PostgreSQL's processes, rows, and bytes of
write-ahead log, each per request. All but the CPU depend on neither the machine nor its load.
Passwords are hashed cheaply.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from flask import Flask
from flask.testing import FlaskClient
from tabulate import tabulate

from bench.services import JWT_SECRET, PASSWORD, SECRET_KEY
from jwt_server.app import create_app
from jwt_server.config import Settings
from jwt_server.database import Database
from jwt_server.security.passwords import hash_password
from jwt_server.web.service import EXTENSION
from tests.helpers.postgresql import Cluster
from tests.helpers.postgresql_proxy import CountingProxy, counting_proxy

USERS = 250
WARM_UP = 20
"""Users whose requests are not counted: each statement is prepared at its fifth use."""

JSON = {"Accept": "application/json"}
HEADS = (
    "request", "round trips", "commits", "fsyncs", "CPU, µs", "WAL, bytes",
    "rows inserted (+1), updated (±1), deleted (-1)",
)  # fmt: skip

ROWS = "SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables"
TOTALS = (
    "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, (SELECT wal_sync FROM pg_stat_wal),"
    " pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
)


@dataclass
class Costs:
    """Counts of the server, for the difference to earlier ones."""

    round_trips: int
    commits: int
    syncs: int
    wal: int
    rows: Counter[str]


@dataclass
class Bench:
    """The app, and what counts its costs."""

    app: Flask
    cluster: Cluster
    proxy: CountingProxy
    admin: psycopg.Connection

    def costs(self) -> Costs:
        """Return the counts, after the app's connections are closed, as they then report."""
        self.app.extensions[EXTENSION].database.close()
        self._wait_for_others()
        [(wal, syncs, commits)] = self.admin.execute(TOTALS).fetchall()
        rows = {
            f"{table} {kind}": count
            for table, *counts in self.admin.execute(ROWS).fetchall()
            for kind, count in zip(("+", "±", "-"), counts, strict=True)
        }
        return Costs(self.proxy.round_trips, commits, syncs, int(wal), Counter(rows))

    def _wait_for_others(self) -> None:
        others = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'jwt_server'"
        while self.admin.execute(others).fetchall() != [(0,)]:
            pass

    def measure(self, name: str, request: Callable[[FlaskClient, int], None]) -> list[str]:
        """Return a row of the table: the mean of a request by many users, each at an address."""
        client = self.app.test_client()
        before = self.costs()
        for number in range(WARM_UP):
            request(client, number)
        trips, cpu = self.proxy.round_trips, self._cpu()
        for number in range(WARM_UP, USERS):
            request(client, number)
        trips, cpu = self.proxy.round_trips - trips, self._cpu() - cpu
        after = self.costs()
        commits, syncs = after.commits - before.commits, after.syncs - before.syncs
        rows = (after.rows - before.rows).items()
        return [
            name, f"{trips / (USERS - WARM_UP):.1f}", f"{commits / USERS:.1f}",
            f"{syncs / USERS:.1f}", f"{cpu / (USERS - WARM_UP) * 1e6:.0f}",
            f"{(after.wal - before.wal) / USERS:,.0f}",
            ", ".join(f"{what}{count // USERS or ''}" for what, count in sorted(rows)),
        ]  # fmt: skip

    def _cpu(self) -> float:
        """Return the CPU seconds of the server's processes that run now."""
        assert self.cluster.process
        pid = self.cluster.process.pid
        pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return (
            sum(int(Path(f"/proc/{each}/schedstat").read_text().split()[0]) for each in pids) / 1e9
        )


@contextmanager
def running() -> Iterator[Bench]:
    """Run a cluster and the app, with users of one password and two pets each."""
    options = {"autovacuum": "off", "max_wal_size": "1GB"}  # nobody else writes
    with Cluster(options, durable=True) as cluster, counting_proxy(cluster) as proxy:
        settings = Settings(
            (SECRET_KEY.encode(),), (JWT_SECRET.encode(),), database=proxy.url, salt_rounds=4
        )
        with closing(Database(proxy.url)) as database:
            database.engine.create()
            with database.connection() as db:
                _fill(db.driver)
        admin_url = cluster.admin_url.replace("/postgres?", "/jwt_server?")
        with psycopg.connect(admin_url, autocommit=True) as admin:
            yield Bench(create_app(settings), cluster, proxy, admin)


def _fill(driver: Any) -> None:
    driver.execute(
        "INSERT INTO users (username, username_key, password_hash, created_at)"
        " SELECT 'user' || n, 'user' || n, %s, 0 FROM generate_series(0, %s) AS n",
        (hash_password(PASSWORD, 4), USERS - 1),
    )
    for pet in ("Bunny", "Ru"):
        driver.execute(
            "INSERT INTO pets (user_id, name, created_at) SELECT id, %s, 0 FROM users", (pet,)
        )


class Visitors:
    """Users, each at an address of its own; `tokens` are those of their last sign-in."""

    def __init__(self) -> None:
        self.tokens: dict[int, dict[str, Any]] = {}

    def send(
        self, client: FlaskClient, number: int, method: str, path: str, body: Any = None
    ) -> Any:
        """Send a user's request, which must succeed; return the JSON of its response."""
        headers = dict(JSON)
        if tokens := self.tokens.get(number):
            headers["Authorization"] = f"Bearer {tokens['access_token']}"
        address = {"REMOTE_ADDR": f"198.18.0.{number}"}
        response = client.open(
            path, method=method, json=body, headers=headers, environ_overrides=address
        )
        if response.status_code >= 400:
            raise SystemExit(f"{method} {path} responds {response.status_code}: {response.text}")
        return json.loads(response.text or "null")

    def sign_in(self, client: FlaskClient, number: int) -> None:
        """Sign a user in."""
        body = {"username": f"user{number}", "password": PASSWORD}
        self.tokens.pop(number, None)
        self.tokens[number] = self.send(client, number, "POST", "/auth", body)

    def refresh(self, client: FlaskClient, number: int) -> None:
        """Refresh a user's tokens."""
        body = {"refresh_token": self.tokens[number]["refresh_token"]}
        self.tokens[number] = self.send(client, number, "POST", "/auth/refresh", body)

    def sending(
        self, method: str, path: str, body: Any = None
    ) -> Callable[[FlaskClient, int], None]:
        """Return a function that sends a request for a user."""

        def send(client: FlaskClient, number: int) -> None:
            self.send(client, number, method, path, body)

        return send


def main() -> None:
    """Measure each request and print the table."""
    logging.disable()
    visitors = Visitors()
    with running() as bench:
        requests = {
            "first sign-in at an address": visitors.sign_in,
            "sign-in": visitors.sign_in,
            "GET /auth/verify, the guard alone": visitors.sending("GET", "/auth/verify"),
            "GET /my-pets": visitors.sending("GET", "/my-pets"),
            "GET /me": visitors.sending("GET", "/me"),
            "POST /pets": visitors.sending("POST", "/pets", {"name": "Rex"}),
            "refresh": visitors.refresh,
            "refresh again": visitors.refresh,
            "sign-out": visitors.sending("POST", "/auth/logout"),
        }
        table = [bench.measure(name, request) for name, request in requests.items()]
    print(tabulate(table, HEADS, disable_numparse=True))


if __name__ == "__main__":
    main()
