"""The database as requests use it: connections from a pool, transactions, named queries.

A connection is opened when a request first needs one, goes back to a small pool, and is used
by one thread at a time. Nothing here knows Flask, so that commands, tests and the server's
start use it as the routes do.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event, Semaphore
from time import perf_counter
from types import SimpleNamespace
from typing import Any, Final

import aiosql
from aiosql.adapters.sqlite3 import SQLite3Adapter
from aiosql.queries import Queries
from aiosql.types import QueryFn

from jwt_server.errors import DatabaseUnavailable
from jwt_server.files import bundled
from jwt_server.sqlite import (
    BUSY_SECONDS,
    FileId,
    Row,
    failure,
    failures_named,
    file_id,
    is_outage,
    open_database,
)

__all__ = ["Connection", "Database", "Row"]

Steps = tuple[str, str, tuple[str, ...]]

# How a transaction begins, ends and is undone.
WRITING: Final[Steps] = ("BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",))
READING: Final[Steps] = ("BEGIN", "COMMIT", ("ROLLBACK",))
NESTED: Final[Steps] = ("SAVEPOINT part", "RELEASE part", ("ROLLBACK TO part", "RELEASE part"))

PACKAGE: Final = Path(__file__).parent

WAITING: Final = 16
"""How many threads of a process may wait for a write lock that was not to be had the last time."""


class WriteLine:
    """Who waits for the write lock.

    Where another holds on to it, only WAITING threads wait, and the others are refused at once:
    else all would wait, and none be left for those who read.
    """

    def __init__(self) -> None:
        self._places = Semaphore(WAITING)
        self._stuck = Event()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place, for as long as the lock is being taken. Raises DatabaseUnavailable."""
        if not self._has_place():
            raise DatabaseUnavailable(f"The database is locked, and {WAITING} wait for it already.")
        try:
            yield
        except sqlite3.Error:
            self._stuck.set()
            raise
        else:
            self._stuck.clear()
        finally:
            self._places.release()

    def _has_place(self) -> bool:
        if self._places.acquire(blocking=False):
            return True
        if self._stuck.is_set() or not self._places.acquire(timeout=BUSY_SECONDS):
            return False
        if not self._stuck.is_set():
            return True
        self._places.release()  # those before have waited in vain, and so long is long enough
        return False


class Connection:
    """One connection and the named queries, bound to it: `db.queries.pets.insert(...)`.

    A query that gives several rows gives a list. Where the database fails, query and
    transaction raise DatabaseUnavailable.
    """

    def __init__(
        self,
        driver: sqlite3.Connection,
        queries: Queries,
        line: WriteLine,
    ) -> None:
        self.driver = driver
        self.queries = _bound(queries, self)
        self.line = line
        self.is_reusable = True
        """False after SQLITE_READONLY: what was opened without write permission stays read-only."""
        self.seconds = 0.0
        """How long its holder's queries and transactions have taken."""
        self._afterwards: list[Callable[[], object]] = []

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing of what is written inside; takes the write lock at once.

        Inside of another transaction it is a part of that one, which can be undone alone.
        """
        return self._block(WRITING)

    def snapshot(self) -> AbstractContextManager[None]:
        """What is read inside is of one moment. Waits for no writer, and is not for writing."""
        return self._block(READING)

    def after_commit(self, then: Callable[[], object]) -> None:
        """Do that when the transaction around is kept, and not where it, or the part of it, is
        undone.
        """
        self._afterwards.append(then)

    @contextmanager
    def _block(self, steps: Steps) -> Iterator[None]:
        nested, before = self.driver.in_transaction, len(self._afterwards)
        begin, end, undo = steps = NESTED if nested else steps
        with failures_named():
            with self.line.place() if steps is WRITING else nullcontext():
                self._run(begin)
            try:
                yield
                self._run(end)
            except BaseException:
                del self._afterwards[before:]
                if self.driver.in_transaction:  # SQLite ends it itself where the disk is full
                    for statement in undo:
                        self.driver.execute(statement)
                raise
        if not nested:
            done, self._afterwards = self._afterwards, []
            for then in done:
                then()

    def _run(self, statement: str) -> None:
        began = perf_counter()
        try:
            self.driver.execute(statement)
        finally:
            self.seconds += perf_counter() - began


def load_queries() -> Queries:
    """Read and check every feature's `queries.sql`, and seed.sql, a namespace for each.

    Raises aiosql's SQLParseException where one is malformed.
    """
    queries = Queries(SQLite3Adapter())
    queries.add_child_queries("audit", aiosql.from_path(PACKAGE / "audit.sql", "sqlite3"))
    for path in sorted(PACKAGE.glob("*/queries.sql")):
        queries.add_child_queries(path.parent.name, aiosql.from_path(path, "sqlite3"))
    queries.add_child_queries("seed", aiosql.from_path(bundled("seed.sql"), "sqlite3"))
    return queries


def _bound(queries: Queries, connection: Connection) -> SimpleNamespace:
    bound = SimpleNamespace()
    for dotted in queries.available_queries:
        feature, _, name = dotted.partition(".")
        if not hasattr(bound, feature):
            setattr(bound, feature, SimpleNamespace())
        query = getattr(getattr(queries, feature), name)
        setattr(getattr(bound, feature), name, partial(_run, query, connection))
    return bound


def _run(query: QueryFn, connection: Connection, **parameters: Any) -> Any:
    began = perf_counter()
    try:
        result = query(connection.driver, **parameters)
        return list(result) if isinstance(result, Iterator) else result
    except sqlite3.Error as error:
        if is_outage(error):  # as failures_named, which costs more, each time
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY:
                connection.is_reusable = False
            raise DatabaseUnavailable(failure(error)) from error
        raise
    finally:
        connection.seconds += perf_counter() - began


def not_counted(_seconds: float) -> None:
    """Stands in for what counts, where nobody does."""


@dataclass
class Database:
    """The database file and the idle connections to it.

    `spent` is told how long the database worked for each holder of a connection, at the end.
    """

    path: Path
    queries: Queries = field(default_factory=load_queries, repr=False)
    spent: Callable[[float], object] = field(default=not_counted, repr=False)
    _idle: deque[Connection] = field(default_factory=deque, repr=False)
    _line: WriteLine = field(default_factory=WriteLine, repr=False)
    _file: FileId | None = field(default=None, repr=False)

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

        Idle connections are used without a look at the path. A new one is opened only to the file
        that the first was opened to: two databases with one log would damage each other.
        """
        if connection := self._take_idle():
            return connection
        file = self.require_same_file()
        driver = open_database(self.path)
        self._file = self._file or file
        return Connection(driver, self.queries, self._line)

    def require_same_file(self) -> FileId:
        """Raise DatabaseUnavailable if the path is not the file that connections are open to.

        It was deleted, moved or replaced; the service uses the old file until it is restarted.
        """
        file = file_id(self.path)
        if self._file not in (None, file):
            raise DatabaseUnavailable(
                f"{self.path} was replaced while the service runs: restart the service."
            )
        return file

    def close(self) -> None:
        """Close the idle connections; the last one to go writes the log into the file."""
        while connection := self._take_idle():
            connection.driver.close()
        self._file = None

    def _take_idle(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def release(self, connection: Connection) -> None:
        """Give a connection back; what it had not committed is undone."""
        self.spent(connection.seconds)
        connection.seconds = 0.0
        try:
            connection.driver.rollback()
        except sqlite3.Error:
            connection.is_reusable = False
        if connection.is_reusable:
            self._idle.append(connection)
        else:
            connection.driver.close()
