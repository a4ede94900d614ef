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

from jwt_server import sqlite
from jwt_server.errors import DatabaseUnavailable

MIGRATIONS: Final = Path(__file__).with_name("migrations")


def upgrade(path: Path) -> list[str]:
    """Upgrade the database to this release's schema; return the names of the applied migrations.

    An up-to-date database is not written. Raises DatabaseUnavailable.
    """
    version = sqlite.schema_version(path)
    if version == sqlite.SCHEMA_VERSION:
        return []
    sqlite.check(path, oldest=1)  # can it be written?
    os.environ.setdefault("LOGNAME", "unknown")  # yoyo fails for a user without a name
    try:
        # Without yoyo's lock, which stays after a kill: of two upgrades at once, one fails.
        with get_backend(f"sqlite:///{quote(str(path))}") as backend:
            applied = _apply(backend, version)
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
