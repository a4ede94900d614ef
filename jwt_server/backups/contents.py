"""What a database holds: whether it is whole, and how far its ids have come."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from jwt_server import sqlite
from jwt_server.errors import DatabaseUnavailable

Ids = dict[str, int]
"""The largest id that was ever handed out, by table."""


def require_whole(path: Path) -> int:
    """Read all of a database that nobody has open; how many users it has.

    Raises DatabaseUnavailable where anything is wrong with it, or it is not ours.
    """
    driver = sqlite.open_immutable(path)
    with closing(driver):
        if wrong := damage(driver):
            raise DatabaseUnavailable(f"{path} is damaged: {wrong}.")
        users: int = driver.execute("SELECT count(*) AS users FROM users").fetchone()["users"]
    return users


def damage(driver: sqlite3.Connection) -> str | None:
    """The first thing that is wrong with a database, or None."""
    try:
        found = driver.execute("PRAGMA integrity_check(1)").fetchone()["integrity_check"]
        dangling = driver.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    if found != "ok":
        return " ".join(str(found).split())
    return f"a row of {dangling['table']} belongs to nobody" if dangling else None


def ids(driver: sqlite3.Connection) -> Ids:
    """How far the ids have come in each table that numbers its rows for ever."""
    rows = driver.execute(
        "SELECT name, coalesce(seq, 0) AS seq FROM sqlite_master"
        " LEFT JOIN sqlite_sequence USING (name)"
        " WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'"
    )
    return {row["name"]: row["seq"] for row in rows}


@contextmanager
def told_as(shown: Path, draft: Path) -> Iterator[None]:
    """What is wrong with a draft is told of the file that people know."""
    try:
        yield
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(error.cause.replace(str(draft), str(shown))) from error
