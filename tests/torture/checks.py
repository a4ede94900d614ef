"""Compares the database with the records: every acknowledged row, and no other.

The clients wait meanwhile and know the outcome of each operation, so the rows must match exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from jwt_server.security.passwords import verify_password
from tests.torture.databases import ERRORS, Query, Row, UnderTorture
from tests.torture.record import Account, Ledger


@contextmanager
def readable(ledger: Ledger) -> Iterator[None]:
    """Record that the database can't be read as a loss."""
    try:
        yield
    except ERRORS as error:
        ledger.add_loss(f"the database can't be read: {error!r}")


def integrity(database: UnderTorture, ledger: Ledger) -> None:
    """Run the database's own checks."""
    with readable(ledger):
        ledger.expect("checks of the database", database.problems(), {})


def compare(database: UnderTorture, accounts: Sequence[Account], ledger: Ledger) -> None:
    """Compare all accounts, the deleted ones too, with the rows."""
    with readable(ledger), database.reading() as query:
        owned = [("users", "id"), *query(database.OWNED)]
        for account in accounts:
            if account.deleted:
                _compare_deleted(query, owned, account, ledger)
            elif account.user_id:
                _compare_user(query, account, ledger)
                _compare_sessions(query, account, ledger)
                _compare_pets(query, account, ledger)
        _compare_ids(query, dict(query(database.IDS)), accounts, ledger)


def _compare_user(query: Query, account: Account, ledger: Ledger) -> None:
    rows = query(
        "SELECT username, username_key, password_hash FROM users WHERE id = ?", account.user_id
    )
    who = f"user {account.user_id}"
    ledger.expect(who, [row[:2] for row in rows], [(account.username, account.username)])
    for row in rows:
        ledger.expect(
            f"{who}: password", verify_password(account.password, row[2], 4), expected=True
        )


def _compare_sessions(query: Query, account: Account, ledger: Ledger) -> None:
    rows = query(
        "SELECT id, generation, ended_at IS NOT NULL FROM sessions WHERE user_id = ?",
        account.user_id,
    )
    found = {row[0]: (row[1], bool(row[2])) for row in rows}
    expected = {each.id: (each.generation, each.ended) for each in account.sessions.values()}
    _expect_each(f"user {account.user_id}: session", found, expected, ledger)


def _compare_pets(query: Query, account: Account, ledger: Ledger) -> None:
    rows = query(
        "SELECT id, name, species, created_at FROM pets WHERE user_id = ?", account.user_id
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


def _compare_deleted(query: Query, owned: Sequence[Row], account: Account, ledger: Ledger) -> None:
    """Check that no table has a row of a deleted user."""
    for table, column in owned:
        count = query(
            f"SELECT count(*) FROM {table} WHERE {column} = ?",  # noqa: S608 - of the schema
            account.user_id,
        )
        ledger.expect(f"deleted user {account.user_id}: rows of {table}", count, [(0,)])


def _compare_ids(
    query: Query, given: dict[Any, Any], accounts: Sequence[Account], ledger: Ledger
) -> None:
    """Check that there is no unknown user, and that no ID can be used again."""
    users = {row[0] for row in query("SELECT id FROM users")}
    known = {each.user_id for each in accounts if each.user_id and not each.deleted}
    ledger.expect("unknown users", users - known, set())
    for table, ids in ledger.ids.items():
        highest = max(ids, default=0)
        ledger.expect(f"ids of {table} go on", given.get(table, 0) >= highest, expected=True)
