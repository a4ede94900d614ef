"""Upgrades of older databases to this release's schema, by the numbered files in migrations/.

Each ends with the schema version that it leads to, in its own transaction, so a kill leaves a
complete step or none. A released file never changes.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jwt_server import sqlite

if TYPE_CHECKING:
    from jwt_server.database import Engine

MIGRATIONS: Final = Path(__file__).with_name("migrations")

OTHER_TABLES: Final = re.compile(
    r"(_yoyo_(log|migration|version)|yoyo_lock|sqlite_.*|_litestream_(lock|seq))\Z"
)
"""Tables of SQLite, Litestream, and yoyo-migrations, which older releases used."""

SQL_FORMAT: Final = re.compile(r"--[^\n]*|(?=[,()])|(?<=[,()])")
"""Comments and the places of optional white space: ALTER TABLE writes SQL in its own format."""


def upgrade(engine: Engine) -> list[str]:
    """Upgrade the database to this release's schema; return the names of the applied migrations.

    Raises DatabaseUnavailable.
    """
    return engine.upgrade(sorted((MIGRATIONS / engine.dialect).glob("*.sql")))


def find_schema_change(driver: sqlite3.Connection) -> str | None:
    """Return the first table, index, trigger or view that differs from the release's, or None.

    The release is the one of the schema version. A trigger could make its author an admin.
    """
    version = driver.execute("PRAGMA user_version").fetchone()["user_version"]
    with closing(sqlite3.connect(":memory:")) as ours:
        ours.row_factory = sqlite.as_dict
        for step in sorted((MIGRATIONS / "sqlite").glob("*.sql"))[:version]:
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
