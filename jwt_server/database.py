"""The database as requests use it: connections from a pool, transactions, named queries.

A connection is opened when a thread first needs one, returns to a pool, and is used by one thread
at a time. Nothing here knows Flask: commands, tests and start-up use it as the routes do.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from threading import Lock
from time import perf_counter
from types import SimpleNamespace
from typing import Any, Final

import aiosql
from aiosql.adapters.sqlite3 import SQLite3Adapter
from aiosql.queries import Queries
from aiosql.types import QueryFn

from jwt_server import sqlite
from jwt_server.errors import DatabaseUnavailable
from jwt_server.files import bundled
from jwt_server.sqlite import BUSY_SECONDS, FileId, Row, describe_outage, is_outage, raise_outages

__all__ = ["Connection", "Database", "Row"]

Steps = tuple[str, str, tuple[str, ...]]

# How a transaction begins, ends and is rolled back.
WRITING: Final[Steps] = ("BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",))
READING: Final[Steps] = ("BEGIN", "COMMIT", ("ROLLBACK",))
NESTED: Final[Steps] = ("SAVEPOINT part", "RELEASE part", ("ROLLBACK TO part", "RELEASE part"))

PACKAGE: Final = Path(__file__).parent


class Connection:
    """A connection with the named queries bound to it: `db.queries.pets.insert(...)`.

    A query for several rows returns a list. If the database fails, queries and transactions raise
    DatabaseUnavailable.
    """

    def __init__(self, driver: sqlite3.Connection, queries: Queries, writers: Lock) -> None:
        self.driver = driver
        self.queries = _bind(queries, self)
        self.seconds = 0.0
        """Time spent in queries and transactions since the connection was acquired."""
        self.has_failed = False
        """Whether the database has failed; such a connection does not return to the pool."""
        self._writers = writers
        self._after_commit: list[Callable[[], object]] = []

    def transaction(self) -> AbstractContextManager[None]:
        """Write all or nothing; takes the write lock at once.

        Inside another transaction it is a part of that one, which can be rolled back alone.
        """
        return self._run_transaction(WRITING)

    def snapshot(self) -> AbstractContextManager[None]:
        """Read the state of one moment. Waits for no writer, and is not for writing."""
        return self._run_transaction(READING)

    def after_commit(self, function: Callable[[], object]) -> None:
        """Call the function once the transaction around, and its part, is committed."""
        self._after_commit.append(function)

    @contextmanager
    def _run_transaction(self, steps: Steps) -> Iterator[None]:
        if self.driver.in_transaction:
            with self._run_steps(NESTED):
                yield
            return
        if steps is WRITING:
            self._acquire_writer_lock()
        try:
            with self._run_steps(steps):
                yield
        finally:
            if steps is WRITING:
                self._writers.release()
        functions, self._after_commit = self._after_commit, []
        for function in functions:
            function()

    def _acquire_writer_lock(self) -> None:
        """Wait for the other threads' writes here: SQLite's own waiting is unfair and polls."""
        began = perf_counter()
        acquired = self._writers.acquire(timeout=BUSY_SECONDS)
        self.seconds += perf_counter() - began
        if not acquired:
            raise DatabaseUnavailable(f"Another thread has been writing for {BUSY_SECONDS} s.")

    @contextmanager
    def _run_steps(self, steps: Steps) -> Iterator[None]:
        (begin, end, undo), pending = steps, len(self._after_commit)
        try:
            with raise_outages():
                self._execute(begin)
                try:
                    yield
                    self._execute(end)
                except BaseException:
                    del self._after_commit[pending:]
                    if self.driver.in_transaction:  # a full disk ends it
                        for statement in undo:
                            self.driver.execute(statement)
                    raise
        except DatabaseUnavailable:
            self.has_failed = True
            raise

    def _execute(self, statement: str) -> None:
        began = perf_counter()
        try:
            self.driver.execute(statement)
        finally:
            self.seconds += perf_counter() - began


@cache
def load_queries() -> Queries:
    """Read every named query: a namespace for each feature's `queries.sql`, audit.sql, seed.sql.

    Raises aiosql's SQLParseException if one is malformed.
    """
    files = {"audit": PACKAGE / "audit.sql", "seed": bundled("seed.sql")}
    files |= {path.parent.name: path for path in sorted(PACKAGE.glob("*/queries.sql"))}
    queries = Queries(SQLite3Adapter())
    for name, path in files.items():
        queries.add_child_queries(name, aiosql.from_path(path, "sqlite3"))
    return queries


def _bind(queries: Queries, connection: Connection) -> SimpleNamespace:
    bound = SimpleNamespace()
    for dotted in queries.available_queries:
        feature, _, name = dotted.partition(".")
        if not hasattr(bound, feature):
            setattr(bound, feature, SimpleNamespace())
        query = getattr(getattr(queries, feature), name)
        setattr(getattr(bound, feature), name, partial(_run_query, query, connection))
    return bound


def _run_query(query: QueryFn, connection: Connection, **parameters: Any) -> Any:
    began = perf_counter()
    try:
        result = query(connection.driver, **parameters)
        return list(result) if isinstance(result, Iterator) else result
    except sqlite3.Error as error:
        if is_outage(error):  # not by raise_outages, which costs more for each query
            connection.has_failed = True
            raise DatabaseUnavailable(describe_outage(error)) from error
        raise
    finally:
        connection.seconds += perf_counter() - began


def ignore_seconds(_seconds: float) -> None:
    """Stand in for the metric where none is kept."""


@dataclass
class Database:
    """A database file and the idle connections to it.

    `observe_seconds` is called with the time that each holder of a connection has spent in the
    database.
    """

    path: Path
    queries: Queries = field(default_factory=load_queries, repr=False)
    observe_seconds: Callable[[float], object] = field(default=ignore_seconds, repr=False)
    _file: FileId | None = field(default=None, repr=False)
    """The file as it was first opened."""
    _idle: deque[Connection] = field(default_factory=deque, repr=False)
    _writers: Lock = field(default_factory=Lock, repr=False)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Acquire a connection for a `with` block; at its end, what is not committed is undone.

        Raises DatabaseUnavailable.
        """
        connection = self.acquire()
        try:
            yield connection
        finally:
            self.release(connection)

    def acquire(self) -> Connection:
        """Return a connection for one thread to use until `release`.

        Raises DatabaseUnavailable.
        """
        try:
            return self._idle.pop()
        except IndexError:
            return self._open()

    def _open(self) -> Connection:
        """Open another connection, to the same file as the first one.

        With two files of one name, SQLite would mix up their write-ahead logs.
        """
        self.check_file()
        driver = sqlite.open_database(self.path)
        self._file = self._file or sqlite.file_id(self.path)
        return Connection(driver, self.queries, self._writers)

    def check_file(self) -> None:
        """Raise DatabaseUnavailable if the path names another file than the one opened, or none."""
        file = sqlite.file_id(self.path)
        if self._file not in (None, file):
            raise DatabaseUnavailable(
                f"{self.path} was replaced while the service runs: restart the service."
            )

    def check(self) -> None:
        """Check that the path names the file that is open, of this schema version, and writable.

        Raises DatabaseUnavailable.
        """
        self.check_file()
        sqlite.check(self.path)

    def release(self, connection: Connection) -> None:
        """Return a connection to the pool; what it has not committed is rolled back."""
        self.observe_seconds(connection.seconds)
        connection.seconds = 0.0
        try:
            connection.driver.rollback()
        except sqlite3.Error:
            connection.has_failed = True
        if connection.has_failed:  # a new one may work: opened with more rights, or another file
            connection.driver.close()
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Close the idle connections; closing the last one folds the log into the file."""
        while self._idle:
            self._idle.pop().driver.close()
        self._file = None
