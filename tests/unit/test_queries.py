"""Every named query uses an index; none scans a whole table."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from operator import attrgetter
from pathlib import Path
from typing import Any

import aiosql
import pytest
from aiosql.queries import Queries

from jwt_server import sqlite as our_sqlite
from jwt_server.cli import import_koa
from jwt_server.database import load_queries


def named(queries: Queries) -> dict[str, str]:
    """Return the SQL of each query by its dotted name, without aiosql's `_cursor` forms."""
    there = queries.available_queries
    return {
        name: attrgetter(name)(queries).sql
        for name in there
        if not (name.endswith("_cursor") and name.removesuffix("_cursor") in there)
    }


OURS = {
    name: query.sql
    for name, query in load_queries("sqlite", our_sqlite.Engine.adapter).items()
    if not name.endswith("_cursor")
}
THEIRS = named(import_koa.SOURCE)

EXCEPTIONS = {
    # One page of accounts.
    "admin.activity": ["SCAN account VIRTUAL TABLE INDEX 1:"],
    # SQLite counts the entries of an index without reading them.
    "admin.totals": [
        "SCAN users USING COVERING INDEX sqlite_autoindex_users_1",
        "SCAN users USING INDEX admins_by_name",
        "SCAN users USING INDEX disabled_by_name",
    ],
    # A few hundred parts of a range of time.
    "audit.count": ["SCAN buckets", "SCAN buckets", "USE TEMP B-TREE FOR ORDER BY"],
    # One page, which is sorted again.
    "audit.page": ["SCAN page", "USE TEMP B-TREE FOR ORDER BY"],
}

# The import reads the original's tables completely.
WHOLE_TABLES = {"users", "pets"}


class Anything(dict[str, object]):
    """A value for every parameter; the plan does not depend on it."""

    def __missing__(self, name: str) -> int:
        return 1


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    our_sqlite.create(tmp_path / "x.db")
    with closing(sqlite3.connect(tmp_path / "x.db")) as driver:
        yield driver


def plan(driver: sqlite3.Connection, sql: str) -> list[str]:
    """Return the steps of SQLite's query plan."""
    rows: list[tuple[Any, ...]] = driver.execute(f"EXPLAIN QUERY PLAN {sql}", Anything()).fetchall()
    return [row[3] for row in rows]


def wasteful(steps: list[str]) -> list[str]:
    """Return the steps whose time grows with the table: scans and sorting."""
    table_scan = re.compile(r"SCAN (?!(\d+ )?CONSTANT ROWS?$)|.*TEMP B-TREE")
    return [step for step in steps if table_scan.match(step)]


def test_query_whose_name_ends_in_cursor_is_checked() -> None:
    queries = aiosql.from_str(
        "-- name: by_cursor(x)\nSELECT :x;\n-- name: old_cursor(x)!\nDELETE FROM t WHERE y = :x;\n",
        "sqlite3",
    )

    assert set(named(queries)) == {"by_cursor", "old_cursor"}


def test_no_query_scans_a_table(ours: sqlite3.Connection) -> None:
    found = {name: wasteful(plan(ours, sql)) for name, sql in OURS.items()}

    assert OURS
    assert {name: steps for name, steps in found.items() if steps} == EXCEPTIONS


def test_only_the_imports_queries_scan_tables() -> None:
    with closing(sqlite3.connect(":memory:")) as driver:
        driver.executescript(
            "CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT, passwordHash TEXT);"
            "CREATE TABLE pets (id INTEGER PRIMARY KEY, user_id INTEGER, name TEXT, species TEXT);"
        )
        reading = {name for name, sql in THEIRS.items() if wasteful(plan(driver, sql))}

    assert reading == WHOLE_TABLES


@pytest.mark.parametrize(
    "sql",
    ["SELECT id FROM users WHERE password_hash = :x", "SELECT id FROM users ORDER BY created_at",
     "DELETE FROM pets WHERE name = :x"],
)  # fmt: skip
def test_scans_are_detected(ours: sqlite3.Connection, sql: str) -> None:
    assert wasteful(plan(ours, sql))
