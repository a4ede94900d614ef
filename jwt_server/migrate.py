"""Upgrades of older databases to schema.sql, by the numbered files in migrations/.

yoyo-migrations runs each in a transaction, but records it in another one, which a kill can prevent.
So each file sets `user_version` at its end, and only that counts. A released file never changes.
"""

import os
import re
import sqlite3
from contextlib import closing, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Final
from urllib.parse import quote

from yoyo import get_backend, read_migrations
from yoyo.backends import DatabaseBackend

from jwt_server import sqlite
from jwt_server.errors import DatabaseUnavailable

MIGRATIONS: Final = Path(__file__).with_name("migrations")

OTHER_TABLES: Final = re.compile(
    r"(_yoyo_(log|migration|version)|yoyo_lock|sqlite_.*|_litestream_(lock|seq))\Z"
)
"""Tables of yoyo, SQLite and Litestream."""

SQL_FORMAT: Final = re.compile(r"--[^\n]*|(?=[,()])|(?<=[,()])")
"""Comments and the places of optional white space: ALTER TABLE writes SQL in its own format."""


def upgrade(path: Path) -> list[str]:
    """Upgrade the database to this release's schema; return the names of the applied migrations.

    An up-to-date database is not written. Raises DatabaseUnavailable.
    """
    with closing(sqlite.open_database(path, oldest=1)) as driver:
        version = driver.execute("PRAGMA user_version").fetchone()["user_version"]
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


def find_schema_change(driver: sqlite3.Connection) -> str | None:
    """Return the first table, index, trigger or view that differs from the release's, or None.

    The release is the one of the schema version. A trigger could make its author an admin.
    """
    version = driver.execute("PRAGMA user_version").fetchone()["user_version"]
    with closing(sqlite3.connect(":memory:")) as ours:
        ours.row_factory = sqlite.as_dict
        for step in sorted(MIGRATIONS.glob("*.sql"))[:version]:
            ours.executescript(step.read_text("utf-8"))
        expected, found = _objects(ours), _objects(driver)
    changed = sorted(label for label, _ in expected.items() ^ found.items())
    return f"{changed[0]} is not as this service makes it" if changed else None


def _objects(driver: sqlite3.Connection) -> dict[str, str]:
    """Return the SQL of each object by kind and name, without OTHER_TABLES."""
    return {
        f"{row['type']} {row['name']!r:.80}": " ".join(SQL_FORMAT.sub(" ", row["sql"]).split())
        for row in driver.execute("SELECT * FROM sqlite_master WHERE sql IS NOT NULL")
        if row["type"] not in ("table", "index")
        or not OTHER_TABLES.match(row["tbl_name"])
        or "REFERENCES"
        in row["sql"].upper()  # to a table of the service: deletions in it would fail
    }


def number(name: str) -> int:
    """Return the number of a migration."""
    return int(name.partition(".")[0])
