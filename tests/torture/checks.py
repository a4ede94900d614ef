"""Compares the database file with the records: every acknowledged row, and no other.

The clients wait meanwhile and know the outcome of each operation, so the rows must match exactly.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from jwt_server.security.passwords import verify_password
from tests.torture.record import Account, Ledger

Row = tuple[Any, ...]


@contextmanager
def reading(database: Path, ledger: Ledger) -> Iterator[sqlite3.Connection]:
    """Open a snapshot that never writes; an unreadable file is a loss.

    Not with `mode=ro`: there `integrity_check` does not check CHECK constraints.
    """
    try:
        uri = f"{database.as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)) as driver:
            driver.execute("PRAGMA query_only = ON")
            driver.execute("BEGIN")
            yield driver
    except sqlite3.Error as error:
        ledger.add_loss(f"the database can't be read: {error!r}")


def integrity(database: Path, ledger: Ledger) -> None:
    """Run SQLite's own checks."""
    with reading(database, ledger) as driver:
        found = [row[0] for row in driver.execute("PRAGMA integrity_check")]
        ledger.expect("integrity_check", found, ["ok"])
        ledger.expect(
            "foreign_key_check", driver.execute("PRAGMA foreign_key_check").fetchall(), []
        )


def compare(database: Path, accounts: Sequence[Account], ledger: Ledger) -> None:
    """Compare all accounts, the deleted ones too, with the rows."""
    with reading(database, ledger) as driver:
        for account in accounts:
            if account.deleted:
                _compare_deleted(driver, account, ledger)
            elif account.user_id:
                _compare_user(driver, account, ledger)
                _compare_sessions(driver, account, ledger)
                _compare_pets(driver, account, ledger)
        _compare_ids(driver, accounts, ledger)


def _compare_user(driver: sqlite3.Connection, account: Account, ledger: Ledger) -> None:
    rows = driver.execute(
        "SELECT username, username_key, password_hash FROM users WHERE id = ?", (account.user_id,)
    ).fetchall()
    who = f"user {account.user_id}"
    ledger.expect(who, [row[:2] for row in rows], [(account.username, account.username)])
    for row in rows:
        ledger.expect(
            f"{who}: password", verify_password(account.password, row[2], 4), expected=True
        )


def _compare_sessions(driver: sqlite3.Connection, account: Account, ledger: Ledger) -> None:
    rows = driver.execute(
        "SELECT id, generation, ended_at IS NOT NULL FROM sessions WHERE user_id = ?",
        (account.user_id,),
    )
    found = {row[0]: (row[1], bool(row[2])) for row in rows}
    expected = {each.id: (each.generation, each.ended) for each in account.sessions.values()}
    _expect_each(f"user {account.user_id}: session", found, expected, ledger)


def _compare_pets(driver: sqlite3.Connection, account: Account, ledger: Ledger) -> None:
    rows = driver.execute(
        "SELECT id, name, species, created_at FROM pets WHERE user_id = ?", (account.user_id,)
    )
    expected = {
        pet.id: (pet.name, pet.species, int(datetime.fromisoformat(pet.created_at).timestamp()))
        for pet in account.pets.values()
    }
    _expect_each(
        f"user {account.user_id}: pet", {row[0]: row[1:] for row in rows}, expected, ledger
    )


def _expect_each(
    what: str, found: dict[Any, Row], expected: dict[Any, Row], ledger: Ledger
) -> None:
    for key in sorted(found.keys() | expected.keys()):
        ledger.expect(f"{what} {key}", found.get(key), expected.get(key))


def _compare_deleted(driver: sqlite3.Connection, account: Account, ledger: Ledger) -> None:
    """Check that no table has a row of a deleted user."""
    for table, column in [("users", "id"), *_owned(driver)]:
        count = driver.execute(
            f"SELECT count(*) FROM {table} WHERE {column} = ?",  # noqa: S608 - of the schema
            (account.user_id,),
        ).fetchone()
        ledger.expect(f"deleted user {account.user_id}: rows of {table}", count, (0,))


def _owned(driver: sqlite3.Connection) -> list[Row]:
    return driver.execute(
        'SELECT m.name, f."from" FROM sqlite_master AS m, pragma_foreign_key_list(m.name) AS f'
        " WHERE m.type = 'table' AND f.\"table\" = 'users' AND f.on_delete = 'CASCADE'"
    ).fetchall()


def _compare_ids(driver: sqlite3.Connection, accounts: Sequence[Account], ledger: Ledger) -> None:
    """Check that there is no unknown user, and that no ID can be used again."""
    users = {row[0] for row in driver.execute("SELECT id FROM users")}
    known = {each.user_id for each in accounts if each.user_id and not each.deleted}
    ledger.expect("unknown users", users - known, set())
    sequence = dict(driver.execute("SELECT name, seq FROM sqlite_sequence"))
    for table, ids in ledger.ids.items():
        highest = max(ids, default=0)
        ledger.expect(f"ids of {table} go on", sequence.get(table, 0) >= highest, expected=True)
