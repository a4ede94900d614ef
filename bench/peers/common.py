"""Shared by the peers without an ORM: the rows, and a connection per thread."""

from __future__ import annotations

import os
import sqlite3
import threading
from typing import Any

DATABASE = os.environ["BENCH_DATABASE"]
SECRET = os.environ["JWT_SECRET"]
AUDIENCE = "bench"
TOKEN_SECONDS = 12 * 60 * 60

USER_OF_NAME = "SELECT id, disabled, password_hash FROM users WHERE username_key = ?"
USER_OF_ID = "SELECT id, disabled, password_hash FROM users WHERE id = ?"
PETS = "SELECT name, species FROM pets WHERE user_id = ? ORDER BY id"

_local = threading.local()


def connection() -> sqlite3.Connection:
    """Return this thread's connection."""
    found: sqlite3.Connection | None = getattr(_local, "connection", None)
    if found is None:
        found = _local.connection = sqlite3.connect(DATABASE, isolation_level=None)
        found.row_factory = sqlite3.Row
    return found


def user_of_name(name: str) -> Any:
    """The row of the user, or None."""
    return connection().execute(USER_OF_NAME, (name.casefold(),)).fetchone()


def user_of_id(user_id: int) -> Any:
    """The row of the user, or None."""
    return connection().execute(USER_OF_ID, (user_id,)).fetchone()


def pets_of(user_id: int) -> list[dict[str, Any]]:
    """The names and species of the user's pets."""
    return [dict(row) for row in connection().execute(PETS, (user_id,))]
