"""The database as requests use it: connections from a pool, transactions, named queries.

A connection is opened when a request first needs one, returns to the pool, and is used by one
thread at a time. Nothing here depends on Flask, so commands and tests use it as routes do. What
differs between SQLite and PostgreSQL is in their Engines, and in SQL files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from threading import Lock
from time import perf_counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import aiosql
from aiosql.adapters.generic import GenericAdapter
from aiosql.types import QueryFn

from jwt_server import sqlite
from jwt_server.errors import ConfigurationError, DatabaseUnavailable
from jwt_server.files import bundled
from jwt_server.sqlite import Row

__all__ = ["Connection", "Database", "Row"]

PACKAGE: Final = Path(__file__).parent

PAGE_SIZE: Final = 100
"""Rows read at a time where all are wanted."""

POOL_SECONDS: Final = 2
"""How long a request waits for a connection while all are in use."""


if TYPE_CHECKING:  # the driver of PostgreSQL is an extra
    from jwt_server import postgresql

    Engine = sqlite.Engine | postgresql.Engine


class Connection:
    """A connection with the named queries bound to it: `db.queries.pets.insert(...)`.

    A query that selects several rows returns a list. Queries and transactions raise
    DatabaseUnavailable when the database fails, and TransactionConflict when a transaction must be
    run again.
    """

    def __init__(self, driver: Any, engine: Engine, before_waiting: Callable[[], object]) -> None:
        self.driver, self.engine = driver, engine
        self.queries = _bind(load_queries(engine.dialect, engine.adapter), self)
        self.is_reusable = engine.is_writable()
        """False if it is read-only: it would stay so after the cause is fixed."""
        self.seconds = 0.0
        """Time that queries and transactions have taken since the connection was acquired."""
        self._before_waiting = before_waiting
        self._after_commit: list[Callable[[], object]] = []
        self._has_failed = False

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call `callback` after the transaction is committed; it is dropped if that is rolled
        back.
        """
        self._after_commit.append(callback)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that is written inside, or nothing.

        Inside another transaction it is a part of that one, which can't be committed if it fails.
        """
        if self.engine.in_transaction(self.driver):
            try:
                yield
            except BaseException:
                self._has_failed = True
                raise
            return
        self._before_waiting()
        self._has_failed, began = False, perf_counter()
        try:
            with self.engine.writing(self.driver):
                self.seconds += perf_counter() - began  # waiting counts, too
                self._run(self.engine.begin)
                try:
                    yield
                    self._commit()
                except BaseException:
                    if self.engine.in_transaction(self.driver):  # some errors end it
                        self._run("ROLLBACK")
                    raise
        except BaseException as error:
            self._after_commit.clear()
            if isinstance(error, self.engine.error):
                self.raise_failure(error)
            raise
        committed, self._after_commit = self._after_commit, []
        for callback in committed:
            callback()

    def raise_failure(self, error: Any) -> None:
        """Raise what a driver's error means for the client, unless it is a bug."""
        self._has_failed = True
        self.is_reusable = self.is_reusable and not self.engine.ends_connection(error)
        # No variable holds what is raised: with its traceback it would keep the driver's cursor
        # open, and with that the file.
        self.engine.raise_failure(error)

    def _commit(self) -> None:
        if self._has_failed:
            raise RuntimeError("A part of this transaction has failed.")
        self._run("COMMIT")

    def _run(self, statement: str) -> None:
        began = perf_counter()
        try:
            self.driver.execute(statement)
        finally:
            self.seconds += perf_counter() - began


@cache
def load_queries(dialect: str, adapter: type[GenericAdapter]) -> Mapping[str, QueryFn]:
    """Read each feature's `queries.sql`, audit.sql and seed.sql: queries by dotted names.

    What stands in a file `queries.<dialect>.sql` beside it replaces the query of that name.
    """
    files = {"audit": PACKAGE / "audit.sql", "seed": bundled("seed.sql")}
    files |= {path.parent.name: path for path in sorted(PACKAGE.glob("*/queries.sql"))}
    queries: dict[str, QueryFn] = {}
    for feature, path in files.items():
        own = path.with_suffix(f".{dialect}.sql")
        for file in (path, own) if own.exists() else (path,):
            loaded = aiosql.from_path(file, adapter)
            names = loaded.available_queries
            queries |= {f"{feature}.{name}": getattr(loaded, name) for name in names}
    return queries


def _bind(queries: Mapping[str, QueryFn], connection: Connection) -> SimpleNamespace:
    bound = SimpleNamespace()
    for dotted, query in queries.items():
        feature, _, name = dotted.partition(".")
        namespace = vars(bound).setdefault(feature, SimpleNamespace())
        setattr(namespace, name, partial(_query, query, connection))
    return bound


def _query(query: QueryFn, connection: Connection, **parameters: Any) -> Any:
    began = perf_counter()
    try:
        result = query(connection.driver, **parameters)
        return list(result) if isinstance(result, Iterator) else result
    except connection.engine.error as error:
        connection.raise_failure(error)
        raise
    finally:
        connection.seconds += perf_counter() - began


def open_engine(where: Path | str) -> Engine:
    """Return the engine of a file, or of a URL. Raises ConfigurationError; connects to nothing.

    PostgreSQL's driver is an extra of the package.
    """
    if isinstance(where, Path):
        return sqlite.Engine(where)
    try:
        engine: Engine = import_module("jwt_server.postgresql").Engine(where)
    except ImportError as error:
        advice = "install its driver, pip install --requirement requirements-postgresql.txt"
        raise ConfigurationError([f"DATABASE_URL: For PostgreSQL {advice}: {error}."]) from error
    return engine


class Slots:
    """Limits the connections in use; whoever waits gets one before those who come later.

    `threading.Semaphore` gives it to whoever asks at that moment, so that others wait for seconds.
    """

    def __init__(self, number: int) -> None:
        self._free, self._lock = number, Lock()
        self._waiting: deque[Lock] = deque()

    def acquire(self, before_waiting: Callable[[], object], seconds: float) -> bool:
        """Take a slot, in at most `seconds`; return whether there was one."""
        turn = Lock()
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            turn.acquire()
            self._waiting.append(turn)
        before_waiting()
        if turn.acquire(timeout=seconds):
            return True
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return False
        return True  # it was given at the last moment

    def release(self) -> None:
        """Give a slot to the first who waits."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1


@dataclass
class Database:
    """The database, at a path or URL, and a pool of idle connections to it.

    `observe_seconds` is called with the time that queries took, whenever a connection is released;
    `before_waiting` before what waits: for the disk, for other transactions, or for a server.
    """

    where: Path | str = field(repr=False)
    observe_seconds: Callable[[float], object] = field(default=lambda _seconds: None, repr=False)
    before_waiting: Callable[[], object] = field(default=lambda: None, repr=False)
    engine: Engine = field(init=False, repr=False)
    _idle: deque[Connection] = field(default_factory=deque, repr=False)
    _slots: Slots | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.engine = open_engine(self.where)
        if self.engine.pool_size is not None:
            self._slots = Slots(self.engine.pool_size)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Provide a connection for one thread, and release it. Raises DatabaseUnavailable."""
        connection = self.acquire()
        try:
            yield connection
        finally:
            self.release(connection)

    def acquire(self) -> Connection:
        """Return a connection for one thread to use until `release`. Raises DatabaseUnavailable."""
        if self._slots and not self._slots.acquire(self.before_waiting, POOL_SECONDS):
            raise DatabaseUnavailable(
                f"All {self.engine.pool_size} connections of this process are in use: see `pool`"
                " in docs/configuration.md."
            )
        try:
            if self.engine.reads_wait:
                self.before_waiting()
            return self._idle_connection() or self._new_connection()
        except BaseException:
            if self._slots:
                self._slots.release()
            raise

    def _idle_connection(self) -> Connection | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if self.engine.is_usable(connection.driver):
                return connection
            connection.driver.close()

    def _new_connection(self) -> Connection:
        return Connection(self.engine.connect(), self.engine, self.before_waiting)

    def release(self, connection: Connection) -> None:
        """Return a connection to the pool, and roll back what was not committed."""
        self.observe_seconds(connection.seconds)
        connection.seconds = 0.0
        try:
            connection.driver.rollback()
        except self.engine.error:
            connection.is_reusable = False
        if connection.is_reusable:
            self._idle.append(connection)
        else:
            connection.driver.close()
        if self._slots:
            self._slots.release()

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
        """Check that the database is the one that is open, and that it is usable and writable.

        Raises DatabaseUnavailable.
        """
        self.engine.check()

    def close(self) -> None:
        """Close the idle connections; SQLite writes its log into the file with the last one."""
        while self._idle:
            self._idle.pop().driver.close()
        self.engine.close()
