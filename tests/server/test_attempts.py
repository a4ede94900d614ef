"""Rate limits under concurrent attempts and across a restart."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.auth import run_at_once
from tests.helpers.databases import database_in, run_sql
from tests.helpers.http import Response, send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, Server, running, started

pytestmark = pytest.mark.slow

THREADS, LIMIT = 50, 25
NAMES = ("travis", "nobody")

ENVIRONMENT = BASE_ENVIRONMENT | {
    "WORKERS": "2",
    "TRUSTED_PROXIES": "1",
    "HASH_QUEUE": "100",  # no attempt is refused by the hash queue, however slow the machine is
    "HASH_WAIT": "60",
}


def guess(server: Server, address: str, username: str) -> Response:
    body = json.dumps({"username": username, "password": "wrong"})
    headers = {"X-Forwarded-For": address}
    return send_to_server(server, "POST", "/auth", headers, body, "application/json")


def guess_at_once(server: Server, username: str, network: str) -> list[int]:
    """Make an attempt from each of many addresses at the same moment; return the statuses."""
    addresses = iter([f"{network}.{number}" for number in range(THREADS)])
    return [
        each.status
        for each in run_at_once(lambda: guess(server, next(addresses), username), THREADS)
    ]


def counts(folder: Path) -> dict[str, int]:
    """Return the sum of the counts by the kinds of their keys."""
    found: Counter[str] = Counter()
    for key, count in run_sql(database_in(folder), "SELECT key, count FROM throttle"):
        found[key.split(".")[2] if "account" in key else key.split(".")[0]] += count
    return dict(found)


def test_concurrent_attempts_do_not_exceed_the_limit(tmp_path: Path) -> None:
    """CVE-2024-4629, Keycloak: more attempts pass at the same time than the limit allows."""
    limited = ENVIRONMENT | {"THROTTLE_ACCOUNT": str(LIMIT)}
    with running(tmp_path, limited) as server:
        for number, name in enumerate(NAMES, 1):
            statuses = guess_at_once(server, name, f"192.0.{number}")

            assert statuses.count(401) == LIMIT
            assert statuses.count(429) == THREADS - LIMIT
            counted = dict.fromkeys(("pair", "address", "share", "all"), number * LIMIT)
            assert counts(tmp_path) == counted

    with started(tmp_path, limited) as server:
        for name in NAMES:
            assert guess(server, "198.51.100.7", name.upper()).status == 429
