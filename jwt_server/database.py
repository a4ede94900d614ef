"""The database as requests use it: connections from a pool, transactions, named queries.

A connection is opened when a request first needs one, returns to the pool, and is used by one
thread at a time. Nothing here depends on Flask, so commands and tests use it as routes do.
"""

import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from math import inf
from operator import attrgetter
from pathlib import Path
from threading import Lock
from time import monotonic, perf_counter
from types import SimpleNamespace
from typing import Any, Final

import aiosql
from aiosql.adapters.sqlite3 import SQLite3Adapter
from aiosql.queries import Queries
from aiosql.types import QueryFn

from jwt_server import sqlite
from jwt_server.errors import DatabaseUnavailable
from jwt_server.files import bundled
from jwt_server.sqlite import BUSY_SECONDS, FileId, Row

__all__ = ["Connection", "Database", "Row"]

PACKAGE: Final = Path(__file__).parent

PAGE_SIZE: Final = 100
"""Rows read at a time where all are wanted."""


class WriterLock:
    """Lets one thread of this process write at a time; the others wait for BUSY_SECONDS.

    While another process keeps the database locked, one thread waits for it and the others are
    refused: otherwise no thread would remain for requests that only read. If that process locks it
    after a thread has waited here, this thread waits twice.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._busy_at = -inf
        """When a thread last gave up waiting for another process; -inf after a success."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock during a transaction. Raises DatabaseUnavailable."""
        began = monotonic()
        is_blocked = began < self._busy_at + BUSY_SECONDS
        is_held = self._lock.acquire(timeout=0 if is_blocked else BUSY_SECONDS)
        try:
            if not is_held or began < self._busy_at:  # while this thread waited, another gave up
                raise DatabaseUnavailable("The database is locked, and others wait to write.")
            yield
            self._busy_at = -inf
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:  # only BEGIN can be busy
                self._busy_at = monotonic()
            raise
        finally:
            if is_held:
                self._lock.release()


class Connection:
    """A connection with the named queries bound to it: `db.queries.pets.insert(...)`.

    A query that selects several rows returns a list. Queries and transactions raise
    DatabaseUnavailable when the database fails.
    """

    def __init__(
        self,
        driver: sqlite3.Connection,
        queries: Queries,
        lock: WriterLock,
        before_waiting: Callable[[], object],
    ) -> None:
        self.driver = driver
        self.queries = _bind(queries, self)
        self.is_reusable = True
        """False if it is read-only: it would stay so after the cause is fixed."""
        self.seconds = 0.0
        """Time that queries and transactions have taken since the connection was acquired."""
        self._lock, self._before_waiting = lock, before_waiting
        self._after_commit: list[Callable[[], object]] = []

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call `callback` after the outermost transaction is committed.

        It is dropped if that, or a savepoint around this call, is rolled back.
        """
        self._after_commit.append(callback)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that is written inside, or nothing. Takes the write lock at the beginning.

        Inside another transaction it is a savepoint, which can be rolled back alone.
        """
        is_nested, registered = self.driver.in_transaction, len(self._after_commit)
        begin, commit, rollback = "BEGIN IMMEDIATE", "COMMIT", ["ROLLBACK"]
        if is_nested:
            begin, commit = "SAVEPOINT part", "RELEASE part"
            rollback = ["ROLLBACK TO part", "RELEASE part"]
        else:
            self._before_waiting()
        began = perf_counter()
        try:
            with nullcontext() if is_nested else self._lock.held():
                self.seconds += perf_counter() - began  # waiting counts, too
                self._run(begin)
                try:
                    yield
                    self._run(commit)
                except BaseException:
                    if self.driver.in_transaction:  # SQLite ends it itself if the disk is full
                        for statement in rollback:
                            self.driver.execute(statement)
                    raise
        except BaseException as error:
            del self._after_commit[registered:]
            if isinstance(error, sqlite3.Error):
                self.raise_if_outage(error)
            raise
        if not is_nested:
            committed, self._after_commit = self._after_commit, []
            for callback in committed:
                callback()

    def raise_if_outage(self, error: sqlite3.Error) -> None:
        """Raise DatabaseUnavailable for an error of the database's state, not of the SQL."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in sqlite.OUTAGES:
            self.is_reusable = self.is_reusable and code != sqlite3.SQLITE_READONLY
            raise DatabaseUnavailable(f"The database fails: {error}.") from error

    def _run(self, statement: str) -> None:
        began = perf_counter()
        try:
            self.driver.execute(statement)
        finally:
            self.seconds += perf_counter() - began


@cache
def load_queries() -> Queries:
    """Read each feature's `queries.sql`, audit.sql and seed.sql, each as a namespace."""
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
        query = getattr(getattr(queries, feature), name)
        namespace = vars(bound).setdefault(feature, SimpleNamespace())
        setattr(namespace, name, partial(_query, query, connection))
    return bound


def _query(query: QueryFn, connection: Connection, **parameters: Any) -> Any:
    began = perf_counter()
    try:
        result = query(connection.driver, **parameters)
        return list(result) if isinstance(result, Iterator) else result
    except sqlite3.Error as error:
        connection.raise_if_outage(error)
        raise
    finally:
        connection.seconds += perf_counter() - began


@dataclass
class Database:
    """The database file and a pool of idle connections to it.

    `observe_seconds` is called with the time that queries took, whenever a connection is released;
    `before_waiting` before a transaction, which waits for others and for the disk.
    """

    path: Path
    queries: Queries = field(default_factory=load_queries, repr=False)
    observe_seconds: Callable[[float], object] = field(default=lambda _seconds: None, repr=False)
    before_waiting: Callable[[], object] = field(default=lambda: None, repr=False)
    _idle: deque[Connection] = field(default_factory=deque, repr=False)
    _lock: WriterLock = field(default_factory=WriterLock, repr=False)
    _file: FileId | None = field(default=None, repr=False)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Provide a connection for one thread, and release it. Raises DatabaseUnavailable."""
        connection = self.acquire()
        try:
            yield connection
        finally:
            self.release(connection)

    def acquire(self) -> Connection:
        """Return a connection for one thread to use until `release`. Raises DatabaseUnavailable.

        All are to the same file as the first one. SQLite finds the log by the path, and two
        databases with one log would damage each other.
        """
        try:
            return self._idle.pop()
        except IndexError:
            file = self._check_file()
        driver = sqlite.open_database(self.path)
        self._file = self._file or file
        connection = Connection(driver, self.queries, self._lock, self.before_waiting)
        connection.is_reusable = os.access(self.path, os.W_OK)
        return connection

    def release(self, connection: Connection) -> None:
        """Return a connection to the pool, and roll back what was not committed."""
        self.observe_seconds(connection.seconds)
        connection.seconds = 0.0
        try:
            connection.driver.rollback()
        except sqlite3.Error:
            connection.is_reusable = False
        if connection.is_reusable:
            self._idle.append(connection)
        else:
            connection.driver.close()

    def pages(self, query: str, start: Row, **parameters: Any) -> Iterator[list[Row]]:
        """Yield all rows of a query, PAGE_SIZE at a time; `start` sorts before the first row.

        The query takes the columns of `start`, by which it sorts, and `limit`. Between pages no
        connection is held: so a client may be slow, and later rows may have changed.
        """
        last: Row | None = start
        while last is not None:
            after = {column: last[column] for column in start}
            with self.connection() as db:
                page = attrgetter(query)(db.queries)(**parameters, **after, limit=PAGE_SIZE)
            yield page
            last = page[-1] if len(page) == PAGE_SIZE else None

    def check(self) -> None:
        """Check that the path is the file that is open, and that it is usable and writable.

        Raises DatabaseUnavailable. Requests use the old file until the restart, if it was deleted,
        moved or replaced.
        """
        self._check_file()
        sqlite.check(self.path, may_be_locked=True)
        sqlite.require_free_space(self.path)

    def _check_file(self) -> FileId:
        file = sqlite.file_id(self.path)
        if self._file not in (None, file):
            raise DatabaseUnavailable(
                f"{self.path} was replaced while the service runs: restart the service."
            )
        return file

    def close(self) -> None:
        """Close the idle connections; SQLite writes its log into the file with the last one."""
        while self._idle:
            self._idle.pop().driver.close()
        self._file = None
