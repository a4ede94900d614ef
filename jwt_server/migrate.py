"""Upgrades of older databases to schema.sql, by the numbered files in migrations/.

yoyo-migrations runs each in a transaction, but records it in another one, which a kill can prevent.
So each file sets `user_version` at its end, and only that counts. A released file never changes.
"""

import os
import sqlite3
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Final
from urllib.parse import quote

from yoyo import get_backend, read_migrations
from yoyo.backends import DatabaseBackend
from yoyo.exceptions import LockTimeout

from jwt_server import sqlite
from jwt_server.errors import DatabaseUnavailable

MIGRATIONS: Final = Path(__file__).with_name("migrations")
LOCK_SECONDS: Final = 10  # to wait for another upgrade of the same database


def upgrade(path: Path, *, break_lock: bool = False) -> list[str]:
    """Upgrade the database to this release's schema; return the names of the applied migrations.

    `break_lock` removes the lock that a killed upgrade has left. An up-to-date database is not
    written, unless its lock is to be removed. Raises DatabaseUnavailable.
    """
    if sqlite.schema_version(path) == sqlite.SCHEMA_VERSION and not break_lock:
        return []
    sqlite.check(path, oldest=1)  # yoyo takes any error for its own lock
    os.environ.setdefault("LOGNAME", "unknown")  # yoyo fails for a user without a name
    try:
        with get_backend(f"sqlite:///{quote(str(path))}") as backend:
            if break_lock:
                backend.break_lock()
            with backend.lock(LOCK_SECONDS):
                applied = _apply(backend, sqlite.schema_version(path))
    except LockTimeout as error:
        raise DatabaseUnavailable(
            f"{path} is being upgraded by another process. Where that was killed, run"
            " `db upgrade --break-lock`."
        ) from error
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"{path} can't be upgraded: {error}.") from error
    sqlite.check(path)
    return applied


def _apply(backend: DatabaseBackend, version: int) -> list[str]:
    """Apply the migrations after `version`, whatever yoyo has recorded."""
    migrations = read_migrations(str(MIGRATIONS))
    already_applied = migrations.filter(lambda each: number(each.id) <= version)
    missing = migrations.filter(lambda each: number(each.id) > version)
    backend.mark_migrations(backend.to_apply(already_applied))
    backend.unmark_migrations(backend.to_rollback(missing))
    with redirect_stdout(StringIO()):  # yoyo prints the result of each statement, even if empty
        backend.apply_migrations(missing)
    return [each.id for each in missing]


def number(name: str) -> int:
    """Return the number of a migration."""
    return int(name.partition(".")[0])
