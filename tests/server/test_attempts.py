"""Rate limits under concurrent attempts and across a restart."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers.auth import run_at_once
from tests.helpers.http import Response, send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, Server, running, started

pytestmark = pytest.mark.slow

THREADS = 50

ENVIRONMENT = BASE_ENVIRONMENT | {
    "WORKERS": "2",
    "TRUSTED_PROXIES": "1",
    "HASH_QUEUE": "100",  # no attempt is refused by the hash queue, however slow the machine is
    "HASH_WAIT": "60",
}


def guess(server: Server, address: str, username: str = "travis") -> Response:
    body = json.dumps({"username": username, "password": "wrong"})
    headers = {"X-Forwarded-For": address}
    return send_to_server(server, "POST", "/auth", headers, body, "application/json")


def guess_at_once(server: Server, username: str = "travis") -> list[int]:
    """Make an attempt from each of many addresses at the same moment; return the statuses."""
    addresses = iter([f"192.0.2.{number}" for number in range(THREADS)])
    return [
        each.status
        for each in run_at_once(lambda: guess(server, next(addresses), username), THREADS)
    ]


def counts(folder: Path) -> dict[str, int]:
    """Return the sum of the counts by the kinds of their keys."""
    found: Counter[str] = Counter()
    with closing(sqlite3.connect(folder / "server.db", timeout=60)) as driver:
        for key, count in driver.execute("SELECT key, count FROM throttle"):
            found[key.split(".")[2] if "account" in key else key.split(".")[0]] += count
    return dict(found)


@pytest.mark.parametrize("name", ["travis", "nobody"])
def test_concurrent_attempts_do_not_exceed_the_limit(tmp_path: Path, name: str) -> None:
    """CVE-2024-4629, Keycloak: more attempts pass at the same time than the limit allows."""
    limited = ENVIRONMENT | {"THROTTLE_ACCOUNT": "5"}
    with running(tmp_path, limited) as server:
        statuses = guess_at_once(server, name)

        assert statuses.count(401) == 5
        assert statuses.count(429) == THREADS - 5
        assert counts(tmp_path) == dict.fromkeys(("pair", "address", "share", "all"), 5)

    with started(tmp_path, limited) as server:
        assert guess(server, "198.51.100.7", name.upper()).status == 429


def test_concurrent_attempts_are_all_counted(tmp_path: Path) -> None:
    with running(tmp_path, ENVIRONMENT | {"THROTTLE_ACCOUNT": "1000"}) as server:
        assert set(guess_at_once(server)) == {401}

    assert counts(tmp_path) == dict.fromkeys(("pair", "address", "share", "all"), THREADS)
