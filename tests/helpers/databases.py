"""Databases for tests: made and given their demo user once, then copied."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from functools import cache
from pathlib import Path

from jwt_server import sqlite
from jwt_server.database import Database
from jwt_server.users import demo
from tests.helpers.factories import open_session

IMPORTED_AT = int(time.time())


@cache
def with_demo_user(now: int = IMPORTED_AT) -> bytes:
    """Return the file that `flask init-db` and `flask seed` make at this Unix time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "template.db")
        sqlite.create(path)
        with closing(Database(path)) as database, database.connection() as db:
            demo.add_demo_user(db, 4, now)
        return path.read_bytes()


def create_database(path: Path, now: int = IMPORTED_AT) -> None:
    """Create a database with the demo user, who is signed in with the session of `token()`."""
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(with_demo_user(now))
    open_session(path, now)
