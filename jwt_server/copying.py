"""Copies an SQLite database into an empty PostgreSQL database, in one transaction of each."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from jwt_server import sqlite
from jwt_server.errors import DatabaseUnavailable

TABLES: Final = {
    "users": "id",
    "sessions": "number",
    "throttle": "key",
    "known_addresses": "user_id, network",
    "audit": "id",
    "pets": "id",
}
"""The key of each table; rows refer to tables above theirs."""

WITH_IDS: Final = ("users", "sessions", "audit", "pets")
"""Tables whose ids are never used twice."""

NAMES: Final = ", ".join(TABLES)

BATCH: Final = 1000
"""Rows in memory."""

Batches = Iterator[list[Any]]
Show = Callable[[str, int, Batches], Batches]
"""Passes batches on, and shows how many of the rows that is, under a label."""


def copy(source: Path, target: Any, show: Show) -> dict[str, int]:
    """Copy all rows, read them again to compare them, and return their number by table.

    `target` is an Engine of PostgreSQL; what is missing there of the tables is created. Raises
    DatabaseUnavailable, and leaves the tables empty then.
    """
    with ExitStack() as stack:
        old = stack.enter_context(closing(sqlite.open_database(source)))
        old.row_factory = None
        target.create()
        try:
            old.execute("BEGIN")  # the first SELECT fixes what all others see
            counts = {table: _count(old, table) for table in TABLES}  # before the server waits
            new = stack.enter_context(target.filling())
            _require_empty(target, new)
            for table, count in counts.items():
                _copy(table, count, old, new, show)
            _continue_ids(old, new)
        except sqlite3.Error as error:
            raise DatabaseUnavailable(f"{source} can't be read: {error}.") from error
        new.execute(f"ANALYZE {NAMES}")
    return counts


def _require_empty(target: Any, new: Any) -> None:
    """Lock the tables against writers. Raises DatabaseUnavailable if one has rows."""
    new.execute(f"LOCK TABLE {NAMES} IN SHARE ROW EXCLUSIVE MODE")
    for table in TABLES:
        if new.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():  # noqa: S608 - ours
            raise DatabaseUnavailable(
                f"{target.name} has rows in {table}: make an empty database with createdb."
            )


def _count(old: sqlite3.Connection, table: str) -> int:
    [count] = old.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - ours
    return int(count)


def _copy(table: str, count: int, old: sqlite3.Connection, new: Any, show: Show) -> None:
    """Copy a table, and compare number and checksum of what was read and what is there."""
    rows = old.execute(f"SELECT * FROM {table} ORDER BY {TABLES[table]}")  # noqa: S608 - ours
    columns = ", ".join(column[0] for column in rows.description)
    read, found, number = sha256(), sha256(), 0
    with new.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copying:
        for batch in show(f"Copying {table}", count, _batches(rows)):
            for row in batch:
                copying.write_row(row)
                read.update(repr(row).encode())
    with new.cursor("copied") as cursor:  # a cursor of the server, so that few rows are in memory
        cursor.execute(f"SELECT {columns} FROM {table} ORDER BY {TABLES[table]}")  # noqa: S608
        for batch in show(f"Verifying {table}", count, _batches(cursor)):
            number += len(batch)
            for row in batch:
                found.update(repr(tuple(row.values())).encode())
    if (number, found.digest()) != (count, read.digest()):
        raise DatabaseUnavailable(f"The rows of {table} differ from those that were copied.")


def _batches(cursor: Any) -> Batches:
    while batch := cursor.fetchmany(BATCH):
        yield batch


def _continue_ids(old: sqlite3.Connection, new: Any) -> None:
    """Let ids continue where SQLite would, above those of deleted rows, too."""
    last = dict(old.execute("SELECT name, seq FROM sqlite_sequence"))
    for table in WITH_IDS:
        highest = f"greatest(%s, (SELECT max({TABLES[table]}) FROM {table}))"  # noqa: S608 - ours
        new.execute(
            f"SELECT setval(pg_get_serial_sequence(%s, %s), {highest} + 1, false)",
            [table, TABLES[table], last.get(table, 0)],
        )
