"""Sign in, refresh and guess passwords through the app's test client."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jwt_server.config import Settings
from tests.helpers.factories import CREDENTIALS, bearer

T = TypeVar("T")
Tokens = dict[str, Any]
Guess = Callable[..., TestResponse]

JSON = {"Accept": "application/json"}
HOUR = 60 * 60
DAY = 24 * HOUR
STRANGER, HOME = "203.0.113.1", "198.51.100.7"

DEFAULT_LIMITS = {
    name: getattr(Settings, name)
    for name in ("throttle_pair", "throttle_account", "throttle_address")
}
"""The default rate limits, which the tests' settings otherwise raise."""


def sign_in(client: FlaskClient, **changes: str) -> Tokens:
    """Sign the demo user in, or another; return the token object."""
    response = client.post("/auth", json=CREDENTIALS | changes, headers=JSON)
    assert response.status_code == 200
    tokens: Tokens = response.get_json()
    return tokens


def refresh(client: FlaskClient, token: str) -> Tokens:
    """Return the token object that a refresh token gets, or the problem details."""
    response = client.post("/auth/refresh", json={"refresh_token": token}, headers=JSON)
    assert response.status_code in (200, 401)
    assert ("WWW-Authenticate" in response.headers) == (response.status_code == 401)
    found: Tokens = response.get_json()
    return found


def access(client: FlaskClient, tokens: Tokens) -> int:
    """Return the status of a request with the access token."""
    return client.get("/pets", headers=bearer(tokens["access_token"])).status_code


def guesses(client: FlaskClient) -> Guess:
    """Return a function that tries a password from an address."""

    def guess(
        username: str = "travis", password: str = "wrong", address: str = STRANGER, **headers: str
    ) -> TestResponse:
        return client.post(
            "/auth", json={"username": username, "password": password}, headers=headers,
            environ_overrides={"REMOTE_ADDR": address},
        )  # fmt: skip

    return guess


def run_at_once(function: Callable[[], T], threads: int) -> list[T]:
    """Call a function in many threads at the same moment; return the results."""
    barrier = threading.Barrier(threads)

    def wait_and_call(_number: int) -> T:
        barrier.wait(timeout=60)
        return function()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(wait_and_call, range(threads)))
