"""Fixtures for the tests of the API."""

from __future__ import annotations

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
