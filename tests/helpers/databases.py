"""Databases for tests: created with their demo user once, then copied; and SQL on them.

With TEST_DATABASE=postgresql in the environment they are of PostgreSQL, in a private cluster of
this process.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest

from jwt_server import sqlite
from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from jwt_server.users import users
from tests.helpers.factories import execute, open_session
from tests.helpers.postgresql import Cluster

ON_POSTGRESQL = os.environ.get("TEST_DATABASE") == "postgresql"

IDENTITIES = {"users": "id", "sessions": "number", "audit": "id", "pets": "id"}
TABLES = ("users", "sessions", "throttle", "known_addresses", "audit", "pets")

FIRST_RELEASE = (Path(__file__).parent.parent / "data" / "schema-1.sql").read_text()
"""The schema of the first release."""

IMPORTED_AT = int(time.time())


@cache
def with_demo_user(now: int = IMPORTED_AT) -> bytes:
    """Return the file that `flask init-db` and `flask seed` make at this Unix time, with the
    session of `token()`.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "template.db")
        sqlite.create(path)
        add_demo_user(path, now)
        return path.read_bytes()


def add_demo_user(where: Path | str, now: int) -> None:
    """Add the demo user, signed in with the session of `token()`, to empty tables."""
    with closing(Database(where)) as database, database.connection() as db:
        users.add_demo_user(db, 4, now)
        open_session(db, now)


@cache
def cluster() -> Cluster:
    """Start the cluster of this process, which `close_cluster` ends."""
    started = Cluster()
    started.__enter__()
    return started


MAX_KEPT = 4
_kept = defaultdict[tuple[str, Callable[[], object]], list[Connection]](list)
"""Idle connections for the next test, by the URL and what is to be called before they wait."""


def take_connection(database: Database) -> None:
    """Give a database a connection of an earlier test, as PostgreSQL takes 10 ms to connect."""
    if isinstance(database.where, str) and (kept := _kept[database.where, database.before_waiting]):
        database._idle.append(kept.pop())


def keep_connections(database: Database) -> None:
    """Close a database, but keep some connections to PostgreSQL."""
    if isinstance(database.where, str):
        kept = _kept[database.where, database.before_waiting]
        while database._idle and len(kept) < MAX_KEPT:
            kept.append(database._idle.pop())
    database.close()


def close_cluster() -> None:
    """End the cluster of this process, if it runs."""
    for kept in _kept.values():
        for connection in kept:
            connection.driver.close()
    if cluster.cache_info().currsize:
        cluster().close()
        cluster.cache_clear()


@cache
def _template(now: int) -> str:
    """Create a database as `with_demo_user`; returns its name."""
    name = f"demo_{now}"
    url = cluster().create_database(name)
    Database(url).engine.create()
    add_demo_user(url, now)
    return name


def database_in(folder: Path, name: str = "server.db") -> Path | str:
    """Return where the database of a test is: a path in its folder, or a URL that stands for it."""
    path = folder / name
    if not ON_POSTGRESQL:
        return path
    return cluster().url_of(f"test_{hashlib.sha256(os.fsencode(path)).hexdigest()[:20]}")


def url_of(where: Path | str) -> str:
    """Return the DATABASE_URL of a database."""
    return where if isinstance(where, str) else f"sqlite:///{where}"


def with_pool(where: Path | str, connections: int) -> Path | str:
    """Return where a database is, with the size of its pool if it has one."""
    return f"{where}?pool={connections}" if isinstance(where, str) else where


def create_database(where: Path | str, now: int = IMPORTED_AT) -> None:
    """Create a database with the demo user, who is signed in with the session of `token()`."""
    if isinstance(where, str):
        cluster().create_database(where.rpartition("/")[2], _template(now))
        return
    where.touch(mode=0o600, exist_ok=False)
    where.write_bytes(with_demo_user(now))


@cache
def _driver(url: str) -> psycopg.Connection:
    """Create a database with empty tables, and connect."""
    cluster().create_database(url.rpartition("/")[2])
    Database(url).engine.create()
    return psycopg.connect(url, autocommit=True)


EMPTY = f"TRUNCATE {', '.join(TABLES)} RESTART IDENTITY;"


@cache
def _reset_script(url: str, now: int) -> bytes:
    """Keep the demo rows of this time in a schema; return the script that restores them."""
    driver, schema = _driver(url), f"demo_{now}"
    driver.execute(EMPTY.encode())
    add_demo_user(url, now)
    driver.execute(f"CREATE SCHEMA {schema}".encode())
    for table in TABLES:
        driver.execute(f"CREATE TABLE {schema}.{table} AS TABLE {table}".encode())
    restored = [f"INSERT INTO {table} SELECT * FROM {schema}.{table};" for table in TABLES]  # noqa: S608 - ours
    continued = [
        f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), max({column})) FROM {table};"  # noqa: S608
        for table, column in IDENTITIES.items()
    ]
    return "".join([EMPTY, *restored, *continued]).encode()


def reset_database(url: str, now: int) -> None:
    """Make a database of this process as `create_database`, which takes longer if it exists.

    Nothing is done if no transaction has written since this was last done.
    """
    if _state(url, now) != _reset.get(url):
        _run_script(url, _reset_script(url, now))
        _reset[url] = _state(url, now)


_reset: dict[str, tuple[int, str]] = {}


def _state(url: str, now: int) -> tuple[int, str]:
    """Return the time of the demo rows, and the number of the next transaction that writes."""
    [number] = _driver(url).execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::TEXT")
    return now, number[0]


def create_empty_database(where: Path | str) -> None:
    """Create a database without rows; one of PostgreSQL may exist, and is emptied."""
    if isinstance(where, str):
        _run_script(where, EMPTY.encode())
    else:
        sqlite.create(where)


def create_database_without_tables(where: Path | str) -> None:
    """Create what must be there before `flask init-db`: nothing of SQLite."""
    if isinstance(where, str):
        cluster().create_database(where.rpartition("/")[2])


def delete_database(where: Path | str) -> None:
    """Delete a database that is in use."""
    if isinstance(where, str):
        cluster().drop_database(where.rpartition("/")[2])
    else:
        where.unlink()


def _run_script(url: str, script: bytes) -> None:
    driver = _driver(url)
    try:
        driver.execute(script)
    except psycopg.errors.UndefinedTable:  # the last test has dropped one
        driver.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        Database(url).engine.create()
        driver.execute(script)


def run_scripts(path: Path, *scripts: str) -> None:
    """Run SQL scripts on a database, which is created if it is missing."""
    with closing(sqlite3.connect(path)) as driver:
        for script in scripts:
            driver.executescript(script)


ABOUT_SQLITE = "about the file of SQLite"
about_postgresql = pytest.mark.skipif(not ON_POSTGRESQL, reason="about PostgreSQL")
about_sqlite = pytest.mark.skipif(ON_POSTGRESQL, reason=ABOUT_SQLITE)


def file_of(settings: Settings) -> Path:
    """Return the SQLite file of a test's settings; skip a test that is about it elsewhere."""
    if not isinstance(settings.database, Path):
        pytest.skip(ABOUT_SQLITE)
    return settings.database


def run_sql(where: Path | str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Execute SQL as `execute` on the database of another process, and return the rows."""
    with closing(Database(where)) as database, database.connection() as db:
        return [tuple(row.values()) for row in execute(db, statement, *parameters)]


def query(path: Path, statement: str) -> list[Any]:
    """Return the rows of a statement."""
    with closing(sqlite3.connect(path)) as driver:
        return driver.execute(statement).fetchall()


def is_intact(path: Path) -> bool:
    """Tell whether SQLite's checks find nothing."""
    return (
        query(path, "PRAGMA integrity_check") == [("ok",)]
        and query(path, "PRAGMA foreign_key_check") == []
    )
