"""Rate limits under concurrent attempts and across a restart."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers.auth import run_at_once
from tests.helpers.http import Response, send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, Server, running, started

pytestmark = pytest.mark.slow

THREADS = 50

LIMITS = {
    "WORKERS": "2",
    "THROTTLE_PAIR": "5",
    "THROTTLE_ACCOUNT": "100",
    "THROTTLE_ADDRESS": "100",
}
PATIENT = {"HASH_QUEUE": "100", "HASH_WAIT": "60"}
"""No attempt is refused by the hash queue, however slow the machine is."""


def guess(server: Server, username: str = "travis", **headers: str) -> Response:
    body = json.dumps({"username": username, "password": "wrong"})
    return send_to_server(server, "POST", "/auth", headers, body, "application/json")


def counts(folder: Path) -> dict[str, int]:
    with closing(sqlite3.connect(folder / "server.db", timeout=60)) as driver:
        rows = driver.execute("SELECT key, count FROM throttle").fetchall()
    return {key.split(".")[2] if "account" in key else key.split(".")[0]: n for key, n in rows}


def allowance(seconds: float) -> int:
    """Return how many attempts pass within some seconds: five, and one after each wait."""
    allowed, waited = 5, 0
    while waited + (1 << (allowed - 5)) <= seconds + 1:  # clocks have whole seconds
        waited += 1 << (allowed - 5)
        allowed += 1
    return allowed


def spellings() -> Callable[[], str]:
    names = iter(["travis", "TRAVIS", "ｔravis", "Travis", "TrAvIs"] * THREADS)
    return lambda: next(names)


@pytest.mark.parametrize("name", ["travis", "nobody"])
def test_concurrent_attempts_do_not_exceed_the_limit(tmp_path: Path, name: str) -> None:
    """CVE-2024-4629, Keycloak: more attempts pass at the same time than the limit allows."""
    with running(tmp_path, BASE_ENVIRONMENT | LIMITS | PATIENT) as server:
        begun = time.monotonic()
        responses = run_at_once(
            lambda: guess(server, name, **{"X-Forwarded-For": f"192.0.2.{time.time_ns() % 250}"}),
            THREADS,
        )
        took = time.monotonic() - begun

        statuses = [response.status for response in responses]
        hashed = statuses.count(401)
        assert set(statuses) == {401, 429}
        assert 5 <= hashed <= allowance(took)
        assert counts(tmp_path)["pair"] == counts(tmp_path)["address"] == hashed
        again = [guess(server, name.upper()).status for _ in range(2)]
        assert again[-1] == 429
        hashed += again.count(401)

    with closing(sqlite3.connect(tmp_path / "server.db")) as driver, driver:
        driver.execute("UPDATE throttle SET blocked_until = 0")  # the lockout ends
    with started(tmp_path, BASE_ENVIRONMENT | LIMITS | PATIENT) as server:
        assert guess(server, name).status == 401
        assert counts(tmp_path)["pair"] == hashed + 1


def test_concurrent_attempts_are_all_counted(tmp_path: Path) -> None:
    limits = PATIENT | {"THROTTLE_PAIR": "1000"}
    with running(tmp_path, BASE_ENVIRONMENT | LIMITS | limits) as server:
        name = spellings()
        responses = run_at_once(lambda: guess(server, name()), THREADS)

        assert {response.status for response in responses} == {401}
        assert counts(tmp_path) == {"pair": 50, "address": 50, "share": 50, "all": 10}
