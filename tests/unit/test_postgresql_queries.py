"""Every named query uses an index on PostgreSQL, and is the same as on SQLite from outside."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosql
import psycopg
import pytest
from aiosql.types import QueryFn, SQLOperationType

from jwt_server import postgresql, sqlite
from jwt_server.database import PACKAGE, Database, load_queries
from tests.helpers.databases import cluster

SQLITE = load_queries("sqlite", sqlite.Engine.adapter)
POSTGRESQL = load_queries("postgresql", postgresql.Engine.adapter)
NAMES = [name for name in POSTGRESQL if not name.endswith("_cursor")]

FILES = sorted(PACKAGE.rglob("*.postgresql.sql"))

DOCTORS = {"cli.clock", "cli.schema_objects", "cli.server", "cli.standbys"}
"""What `doctor` reads of the server."""

OWN = DOCTORS | {"cli.advance_ids"}
"""Queries that SQLite does not have: jwt_server/backup.py does it to files that are not open."""

PARAMETER = re.compile(r"%\((\w+)\)s")
EXECUTIONS = 7
"""The server plans the first five with their values, and then may keep a plan for all values."""

FILL = """
INSERT INTO users (username, username_key, password_hash, admin, disabled, created_at)
SELECT 'user ' || n, 'user ' || n, 'x', (n % 5 = 0)::INT, (n % 4 = 0)::INT, n
FROM generate_series(1, 4000) AS n;
CREATE VIEW numbers AS
SELECT n, CASE n % 2 WHEN 0 THEN 7 ELSE 1 + n % 4000 END AS user_id
FROM generate_series(1, 8000) AS n;
INSERT INTO sessions (id, user_id, nonce, generation, refreshable, created_at, rotated_at,
    last_used_at, authenticated_at, expires_at, ends_at, ended_at, address, user_agent)
SELECT 'session ' || n, user_id, 'n', 1, 1, n, n, n, n, n, n, nullif(n % 2, 1) * n, '', ''
FROM numbers;
INSERT INTO throttle SELECT 'key.' || n, 1, n, n % 10 * n FROM numbers;
INSERT INTO known_addresses SELECT user_id, n, n FROM numbers;
INSERT INTO audit (at, action, actor_id, user_id, address, details)
SELECT n, 'action ' || n % 3, user_id, nullif(user_id, n % 3), '', '{}' FROM numbers;
INSERT INTO pets (user_id, name, created_at) SELECT user_id, 'x', n FROM numbers;
ANALYZE;
"""
"""Half of all rows are of user 7, so that reading them all would be noticed."""

MAX_ROWS = 200
"""That a query may read: ten times its limit."""

VALUES: dict[str, Any] = {
    "account": "key.1", "action": "action 1", "actor_id": 7, "address": "key.2", "admin": None,
    "at": 9000, "before": 500, "claims": "{}", "client_id": "", "details": "{}",
    "disabled": None, "end": "user 9", "ends_at": 30000, "except_id": "", "expires_at": 30000,
    "first": "user 1", "generation": 1, "id": 7, "key": "key.7", "key1": "key.1", "key2": "key.2",
    "key3": "key.3", "key4": "", "key5": "", "last_sign_in_at": None,
    "leap": 1, "limit": 20, "max_id": 10**9, "max_pets": 20, "name": "x", "network": "7",
    "new_hash": "x", "newest": 8000, "nonce": b"n", "number": 7, "now": 7900, "password_hash": "x",
    "password_expires_at": None, "refreshable": 1, "reset": "key.6", "resettable": "key.3",
    "restart": 0, "retry_key_hash": None, "roots": '{"7": "key.1"}', "rotated_by_hash": None,
    "seconds": 3600, "share": "key.4", "signed_in_at": None, "since": 0, "site": "key.5",
    "species": None, "start": 1, "until": 8000, "user_agent": "", "user_id": 7, "username": "new",
    "username_key": "user 7", "verified_hash": "x",
}  # fmt: skip
"""A value for each parameter."""

FLAGS = (None, 0, 1)

OTHERS: dict[str, list[dict[str, Any]]] = {
    "audit.page": [
        {},
        {"user_id": None},
        {"user_id": None, "actor_id": None},
        {"user_id": None, "actor_id": None, "action": None},
    ],
    "users.export_audit": [{"at": 0, "id": 0}],
    "users.export_known_addresses": [{"network": None}, {"network": "7"}],
    "users.export_sessions": [{"expires_at": 0}],
    "cli.insert_pet": [{"id": 10**6}],
    "cli.insert_user": [{"id": 10**6, "username_key": "new"}],
    "users.insert": [{"admin": 0}],
    "users.page_by_key": [
        {"admin": admin, "disabled": disabled} for admin in FLAGS for disabled in FLAGS
    ],
    "users.set_admin": [{"admin": 0}],
    "users.set_disabled": [{"disabled": 1}],
}
"""The other values, of a query for which those are not enough."""

EXCEPTIONS = {
    "admin.totals",  # counts all users
    "cli.advance_ids",  # reads the catalogs of the server, as the next one
    "cli.schema_objects",
    "audit.count",  # counts the rows of a range of time
    # Of a user who is deleted.
    "audit.anonymize_actor",
    "audit.anonymize_user",
}
"""Queries that read more."""


@pytest.fixture(scope="module")
def driver() -> Iterator[psycopg.Connection]:
    """A connection to large tables."""
    url = cluster().create_database("queries")
    Database(url).engine.create()
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as driver:
        driver.execute(FILL)
        yield driver


def values_of(name: str) -> Iterator[dict[str, Any]]:
    """Yield the values of a query's parameters: at least once."""
    is_session = name.startswith("auth.")
    values = VALUES | ({"id": "session 7" if "insert" not in name else "new"} if is_session else {})
    for others in OTHERS.get(name, [{}]):
        yield values | others


def rows_read(driver: psycopg.Connection, sql: str, values: dict[str, Any]) -> int:
    """Return how many rows a query reads, with its first plan or with that which is kept."""
    names = list(dict.fromkeys(PARAMETER.findall(sql)))
    numbered = PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", sql)
    driver.execute("DEALLOCATE ALL")
    driver.execute(f"PREPARE query AS {numbered}")
    arguments = f"({', '.join(['%s'] * len(names))})" if names else ""
    explained = f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE query {arguments}"
    statement = psycopg.ClientCursor(driver).mogrify(explained, [values[name] for name in names])
    found = []
    for _ in range(EXECUTIONS):
        with driver.transaction(force_rollback=True):
            [[[explanation]]] = driver.execute(statement).fetchall()
            found.append(_rows_read(explanation["Plan"]))
    return max(found)


def _rows_read(node: dict[str, Any]) -> int:
    own = 0
    if "Relation Name" in node and node["Node Type"] != "ModifyTable":
        removed = [node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck")]
        own = node["Actual Loops"] * (node["Actual Rows"] + sum(removed))
    return own + sum(map(_rows_read, node.get("Plans", ())))


def test_each_query_reads_few_rows_of_large_tables(driver: psycopg.Connection) -> None:
    read = {
        name: max(rows_read(driver, POSTGRESQL[name].sql, values) for values in values_of(name))
        for name in NAMES
    }

    assert len(NAMES) > 50
    assert {name for name, rows in read.items() if rows > MAX_ROWS} == EXCEPTIONS


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM users WHERE password_hash = 'y'",
        "SELECT id FROM users ORDER BY created_at LIMIT 1",
        "SELECT name FROM pets WHERE user_id = 7 ORDER BY name LIMIT 1",
        "SELECT count(*) FROM users WHERE admin = 1",
        "DELETE FROM pets WHERE name = 'y'",
    ],
)
def test_scans_and_sorting_are_detected(driver: psycopg.Connection, sql: str) -> None:
    assert rows_read(driver, sql, {}) > MAX_ROWS


def test_queries_of_both_databases_are_called_alike() -> None:
    def interfaces(queries: Mapping[str, QueryFn]) -> dict[str, tuple[object, ...]]:
        return {
            name: (query.operation, str(query.__signature__))
            for name, query in queries.items()
            if name.removesuffix("_cursor") not in OWN
        }

    assert interfaces(POSTGRESQL) == interfaces(SQLITE)
    assert not OWN & SQLITE.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_file_of_postgresql_has_only_queries_that_differ(file: Path) -> None:
    ours = aiosql.from_path(file, postgresql.Engine.adapter)
    theirs = aiosql.from_path(file.with_name(file.name.replace(".postgresql", "")), "sqlite3")

    for name in set(ours.available_queries) & set(theirs.available_queries):
        sql = PARAMETER.sub(r":\1", getattr(ours, name).sql)
        assert sql.split() != getattr(theirs, name).sql.split()


def test_queries_of_both_databases_return_the_same_columns(
    driver: psycopg.Connection, tmp_path: Path
) -> None:
    sqlite.create(tmp_path / "x.db")
    names = [
        name
        for name in NAMES
        if name not in OWN and POSTGRESQL[name].operation is not SQLOperationType.SELECT_VALUE
    ]
    with closing(sqlite3.connect(tmp_path / "x.db")) as other:
        for name in names:
            [values, *_] = values_of(name)
            with driver.transaction(force_rollback=True):
                ours = driver.execute(POSTGRESQL[name].sql, values).description or ()
            theirs = other.execute(SQLITE[name].sql, values).description or ()
            assert [each.name for each in ours] == [column for column, *_ in theirs], name
