"""Fixtures for the tests of the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bcrypt
import pytest
from flask.testing import FlaskClient

from jwt_server.database import Connection
from tests.helpers.admin import Admin, Rows, add_admin, new_rows
from tests.helpers.app import Clock


@pytest.fixture
def boss(client: FlaskClient, db: Connection, clock: Clock) -> Admin:
    """The only admin, beside the demo user."""
    return add_admin(client, db, int(clock()))


@pytest.fixture
def rows(db: Connection) -> Rows:
    """A function that returns the rows of the audit log written since its last call."""
    return new_rows(db)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of bcrypt."""
    calls: list[str] = []

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            calls.append(name)
            return function(*args)

        return run

    for name in ("hashpw", "checkpw"):
        monkeypatch.setattr(bcrypt, name, noted(name, getattr(bcrypt, name)))
    return calls
