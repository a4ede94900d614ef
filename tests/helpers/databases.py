"""Databases for tests: created with their demo user once, then copied; and SQL on them."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from jwt_server import sqlite
from jwt_server.config import Settings
from jwt_server.database import Database
from jwt_server.users import users
from tests.helpers.factories import open_session

FIRST_RELEASE = (Path(__file__).parent.parent / "data" / "schema-1.sql").read_text()
"""The schema of the first release."""

IMPORTED_AT = int(time.time())


@cache
def with_demo_user(now: int = IMPORTED_AT) -> bytes:
    """Return the file that `flask init-db` and `flask seed` make at this Unix time, with the
    session of `token()`.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "template.db")
        sqlite.create(path)
        with closing(Database(path)) as database, database.connection() as db:
            users.add_demo_user(db, 4, now)
        open_session(path, now)
        return path.read_bytes()


def create_database(path: Path, now: int = IMPORTED_AT) -> None:
    """Create a database with the demo user, who is signed in with the session of `token()`."""
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(with_demo_user(now))


def run_scripts(path: Path, *scripts: str) -> None:
    """Run SQL scripts on a database, which is created if it is missing."""
    with closing(sqlite3.connect(path)) as driver:
        for script in scripts:
            driver.executescript(script)


def file_of(settings: Settings) -> Path:
    """Return the SQLite file of a test's settings; skip a test that is about it elsewhere."""
    if not isinstance(settings.database, Path):
        pytest.skip("about the file of SQLite")
    return settings.database


def query(path: Path, statement: str) -> list[Any]:
    """Return the rows of a statement."""
    with closing(sqlite3.connect(path)) as driver:
        return driver.execute(statement).fetchall()


def is_intact(path: Path) -> bool:
    """Tell whether SQLite's checks find nothing."""
    return (
        query(path, "PRAGMA integrity_check") == [("ok",)]
        and query(path, "PRAGMA foreign_key_check") == []
    )
