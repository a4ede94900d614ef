"""Guessing at a real gunicorn with two workers: at once, and across a restart."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.api.test_races import THREADS, at_once
from tests.helpers.http import Response, send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, Server, running, started

LIMITS = {"THROTTLE_PAIR": "5", "THROTTLE_ACCOUNT": "100", "THROTTLE_ADDRESS": "100"}


def guess(server: Server, username: str = "travis", **headers: str) -> Response:
    body = json.dumps({"username": username, "password": "wrong"})
    return send_to_server(server, "POST", "/auth", headers, body, "application/json")


def counts(folder: Path) -> dict[str, int]:
    with closing(sqlite3.connect(folder / "server.db", timeout=10)) as driver:
        rows = driver.execute("SELECT key, count FROM throttle").fetchall()
    return {key.split(".")[2] if "account" in key else key.split(".")[0]: n for key, n in rows}


def allowance(seconds: float) -> int:
    """How many tries are let through within so many seconds: five, and one after each wait."""
    allowed, waited = 5, 0
    while waited + (1 << (allowed - 5)) <= seconds + 1:  # clocks count whole seconds
        waited += 1 << (allowed - 5)
        allowed += 1
    return allowed


def spellings() -> Callable[[], str]:
    names = iter(["travis", "TRAVIS", "ｔravis", "Travis", "TrAvIs"] * THREADS)
    return lambda: next(names)


@pytest.mark.parametrize("name", ["travis", "nobody"])
def test_fifty_at_once_have_no_more_than_the_allowance(tmp_path: Path, name: str) -> None:
    """CVE-2024-4629, Keycloak: of tries that come at once more pass than the limit lets through."""
    with running(tmp_path, BASE_ENVIRONMENT | LIMITS) as server:
        begun = time.monotonic()
        answers = at_once(
            lambda: guess(server, name, **{"X-Forwarded-For": f"192.0.2.{time.time_ns() % 250}"})
        )
        took = time.monotonic() - begun

        statuses = [answer.status for answer in answers]
        hashed = statuses.count(401)
        assert set(statuses) == {401, 429}
        assert 5 <= hashed <= allowance(took)
        assert counts(tmp_path)["pair"] == counts(tmp_path)["address"] == hashed
        again = [guess(server, name.upper()).status for _ in range(2)]  # a second may be over
        assert again[-1] == 429
        hashed += again.count(401)

    time.sleep((1 << (hashed - 5)) + 1)
    with started(tmp_path, BASE_ENVIRONMENT | LIMITS) as server:  # which goes on counting
        assert [guess(server, name).status for _ in range(2)] == [401, 429]
        assert counts(tmp_path)["pair"] == hashed + 1


def test_fifty_at_once_count_as_fifty(tmp_path: Path) -> None:
    limits = {"THROTTLE_PAIR": "1000", "HASH_QUEUE": "100"}
    with running(tmp_path, BASE_ENVIRONMENT | LIMITS | limits) as server:
        name = spellings()
        answers = at_once(lambda: guess(server, name()))

        assert {answer.status for answer in answers} == {401}
        assert counts(tmp_path) == {"pair": 50, "address": 50, "share": 50, "all": 10}
