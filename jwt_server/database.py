"""The database: its connections, its transactions, its named queries.

SQLite through the standard library. A connection is opened when a request first needs one
and goes back to a small pool; it is used by one thread at a time. Everything in here is
free of Flask, so that commands, tests and the server's start use it as the routes do.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import aiosql
from aiosql.queries import Queries

from jwt_server.errors import DatabaseUnavailable

Row = dict[str, Any]
FileId = tuple[int, int]  # device and inode: what a path stands for right now

SCHEMA_VERSION: Final = 1
"""What `PRAGMA user_version` must say; a change of schema.sql raises it."""

BUSY_SECONDS: Final = 2
"""How long a statement waits for another's write before the client is asked to come back."""

PACKAGE: Final = Path(__file__).parent
FEATURES: Final = ("accounts", "pets")

# Errors that tell of the database's state, not of a mistake in our SQL.
OUTAGES: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)


class Connection:
    """One connection and the named queries, bound to it: `db.queries.pets.insert(...)`."""

    def __init__(self, driver: sqlite3.Connection, queries: Queries, file: FileId) -> None:
        self.driver = driver
        self.queries = _bound(queries, driver)
        self.file = file

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what is written inside; takes the write lock at once.

        Waits for another writer up to BUSY_SECONDS, then raises sqlite3.OperationalError.
        """
        self.driver.execute("BEGIN IMMEDIATE")
        with self.driver:
            yield


def _bound(queries: Queries, driver: sqlite3.Connection) -> SimpleNamespace:
    bound = SimpleNamespace()
    for dotted in queries.available_queries:
        feature, _, name = dotted.rpartition(".")
        query = getattr(getattr(queries, feature) if feature else queries, name)
        if feature and not hasattr(bound, feature):
            setattr(bound, feature, SimpleNamespace())
        setattr(getattr(bound, feature) if feature else bound, name, partial(query, driver))
    return bound


def load_queries() -> Queries:
    """Read and check every `queries.sql`, a namespace for each feature, and seed.sql."""
    queries: Queries = aiosql.from_path(PACKAGE / "seed.sql", "sqlite3")
    for feature in FEATURES:
        queries.add_child_queries(
            feature, aiosql.from_path(PACKAGE / feature / "queries.sql", "sqlite3")
        )
    return queries


@dataclass(frozen=True)
class Database:
    """The database file and the idle connections to it."""

    path: Path
    queries: Queries = field(default_factory=load_queries, repr=False)
    _idle: deque[Connection] = field(default_factory=deque, repr=False)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection for one thread to use inside a `with` block.

        Raises DatabaseUnavailable. What was not committed is undone at the end.
        """
        connection = self.acquire()
        try:
            yield connection
        finally:
            self.release(connection)

    def acquire(self) -> Connection:
        """A connection for one thread to use, until `release`; raises DatabaseUnavailable.

        An idle connection whose file was moved away or replaced is not used: it would write
        where nobody reads.
        """
        file = self._file()
        while self._idle:
            connection = self._idle.pop()
            if connection.file == file:
                return connection
            connection.driver.close()
        return Connection(self._open(), self.queries, file)

    def release(self, connection: Connection) -> None:
        """Give a connection back; what it had not committed is undone."""
        try:
            connection.driver.rollback()
        except sqlite3.Error:
            connection.driver.close()
        else:
            self._idle.append(connection)

    def check(self) -> None:
        """Open the file afresh and see that it is ours, of this schema, and can be written.

        Raises DatabaseUnavailable with the reason and what to do.
        """
        self._file()
        driver = self._open()
        try:
            driver.execute("BEGIN IMMEDIATE")
            # The lock alone is given for a file that can't be written, too.
            driver.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            driver.rollback()
        except sqlite3.Error as error:
            raise DatabaseUnavailable(f"{self.path} can't be written: {error}.") from error
        finally:
            driver.close()

    def create(self) -> bool:
        """Make the database and its tables, readable by its owner alone.

        Returns whether there was none. Raises DatabaseUnavailable where it can't be made, or
        the file is something else already.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            driver = connect(self.path)
            try:
                made = _create_tables(driver)
            finally:
                driver.close()
        except (OSError, sqlite3.Error) as error:
            raise DatabaseUnavailable(f"{self.path} can't be made: {error}.") from error
        self.check()
        return made

    def _file(self) -> FileId:
        try:
            status = self.path.stat()
        except OSError as error:
            raise DatabaseUnavailable(
                f"No database at {self.path} ({error.strerror}):"
                " `flask --app wsgi init-db` makes one."
            ) from error
        return status.st_dev, status.st_ino

    def _open(self) -> sqlite3.Connection:
        try:
            driver = connect(self.path)
            version = driver.execute("PRAGMA user_version").fetchone()["user_version"]
        except sqlite3.Error as error:
            raise DatabaseUnavailable(f"{self.path} can't be opened: {error}.") from error
        if version != SCHEMA_VERSION:
            driver.close()
            raise DatabaseUnavailable(
                f"{self.path} has schema version {version}, this release needs {SCHEMA_VERSION}."
            )
        return driver


def _create_tables(driver: sqlite3.Connection) -> bool:
    if _has_tables(driver):
        return False
    driver.execute("PRAGMA journal_mode = WAL")
    driver.execute("BEGIN IMMEDIATE")
    with driver:
        if _has_tables(driver):  # another process was faster
            return False
        for statement in _statements((PACKAGE / "schema.sql").read_text("utf-8")):
            driver.execute(statement)
        driver.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    return True


def _has_tables(driver: sqlite3.Connection) -> bool:
    return driver.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None


def _statements(script: str) -> Iterator[str]:
    """The script's statements one by one: `executescript` would commit what came before."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def connect(path: Path) -> sqlite3.Connection:
    """Open an SQLite file that is there, with the settings that hold for each connection.

    Raises sqlite3.Error, also where the file is no database.
    """
    driver = sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,  # we say BEGIN ourselves
        check_same_thread=False,  # the pool hands a connection from one thread to another
    )
    try:
        driver.row_factory = _as_dict
        driver.execute("PRAGMA foreign_keys = ON")
        driver.execute(
            "PRAGMA synchronous = FULL"
        )  # a write that was answered survives a power cut
        driver.execute(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}")
    except sqlite3.Error:
        driver.close()
        raise
    return driver


def _as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def is_outage(error: sqlite3.Error) -> bool:
    """Whether the error tells of the database's state rather than of a fault in our code."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in OUTAGES
