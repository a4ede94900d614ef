"""The SQLite file: opened with the settings that keep data safe, created, and checked.

What is wrong with it is raised as DatabaseUnavailable; the cause tells operators what to do.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from glob import escape
from math import inf
from pathlib import Path
from shlex import quote
from threading import Lock
from time import monotonic
from typing import Any, Final

from aiosql.adapters.sqlite3 import SQLite3Adapter

from jwt_server.errors import DatabaseUnavailable
from jwt_server.files import bundled, publish, temporary_beside

SCHEMA_VERSION: Final = 8  # PRAGMA user_version: the number of the newest of migrations/*.sql
APPLICATION_ID: Final = int.from_bytes(b"jwts")  # PRAGMA application_id

BUSY_SECONDS: Final = 2  # a writer waits so long for others, then the client gets 503
READY_SECONDS: Final = 0.2  # /readyz waits so long for others
CACHE_KIB: Final = 256  # per connection; SQLite's 2 MiB would be most of a worker's memory
WAL_BYTES: Final = 64 * 1024 * 1024  # the write-ahead log is truncated to this after it has grown
MIN_FREE_BYTES: Final = 8 * 1024 * 1024  # of disk space; below it the service is not ready

PRAGMAS: Final = f"""
PRAGMA foreign_keys = ON;
PRAGMA synchronous = FULL; -- a committed write survives a power failure
PRAGMA journal_size_limit = {WAL_BYTES};
PRAGMA cache_size = -{CACHE_KIB};
"""

OUTAGE_NAMES: Final = "BUSY LOCKED READONLY IOERR CORRUPT FULL CANTOPEN PERM PROTOCOL NOTADB"
OUTAGES: Final = {getattr(sqlite3, f"SQLITE_{name}") for name in OUTAGE_NAMES.split()}
"""Error codes of the database's state; others are bugs."""

Row = dict[str, Any]
FileId = tuple[int, int]  # device and inode


def file_id(path: Path) -> FileId:
    """Identify the file at a path. Raises DatabaseUnavailable if there is none."""
    try:
        status = path.stat()
    except OSError as error:
        raise DatabaseUnavailable(
            f"No database at {path} ({error.strerror}): the command `init-db` makes one."
        ) from error
    return status.st_dev, status.st_ino


def open_database(
    path: Path,
    *,
    oldest: int = SCHEMA_VERSION,
    options: str = "mode=rw",
    busy_seconds: float = BUSY_SECONDS,
) -> sqlite3.Connection:
    """Open a database of this service, with the schema version `oldest` or a newer one.

    `options` are parameters of SQLite's file names (https://www.sqlite.org/uri.html). Raises
    DatabaseUnavailable.
    """
    file_id(path)
    with ExitStack() as stack:
        try:
            driver = stack.enter_context(closing(_connect(path, options, busy_seconds)))
            driver.executescript(PRAGMAS)
            application = driver.execute("PRAGMA application_id").fetchone()["application_id"]
            version = driver.execute("PRAGMA user_version").fetchone()["user_version"]
        except sqlite3.Error as error:
            raise DatabaseUnavailable(f"{path} can't be opened: {error}.") from error
        if application != APPLICATION_ID:
            raise DatabaseUnavailable(f"{path} is not a database of this service.")
        if version > SCHEMA_VERSION:
            raise DatabaseUnavailable(
                f"{path} has schema version {version}, this release knows {SCHEMA_VERSION} and no"
                " newer one: run the release that made it."
            )
        if version < oldest:
            raise DatabaseUnavailable(
                f"{path} has schema version {version}, this release needs {SCHEMA_VERSION}: stop"
                " the service, keep a copy, and run the command `db upgrade`."
            )
        stack.pop_all()
    return driver


def check(path: Path, *, oldest: int = SCHEMA_VERSION, may_be_locked: bool = False) -> None:
    """Check that the database can be opened and written. Raises DatabaseUnavailable.

    With `may_be_locked` the answer comes soon, and another program's write is not a failure.
    """
    seconds = READY_SECONDS if may_be_locked else BUSY_SECONDS
    with closing(open_database(path, oldest=oldest, busy_seconds=seconds)) as driver:
        try:
            driver.execute("BEGIN IMMEDIATE")
            # The lock alone can be had for a read-only file, too.
            driver.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            driver.rollback()
            # A killed restore may leave it off, and then readers and writers block each other.
            driver.execute("PRAGMA journal_mode = WAL")
        except sqlite3.Error as error:
            is_locked = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not (may_be_locked and is_locked and os.access(path, os.W_OK)):
                raise DatabaseUnavailable(f"{path} can't be written: {error}.") from error


def require_free_space(path: Path) -> None:
    """Raise DatabaseUnavailable if the disk has less than MIN_FREE_BYTES left."""
    free = shutil.disk_usage(path.parent).free
    if free < MIN_FREE_BYTES:
        raise DatabaseUnavailable(f"The disk is full: {free >> 10} KiB are left for {path}.")


def create(path: Path, fill: Callable[[Path], object] | None = None) -> bool:
    """Create the database, readable by its owner only; return False if there is a file.

    It appears with all its tables, and with what `fill` writes into it, or not at all. Raises
    DatabaseUnavailable if it can't be created, or the file is something else.
    """
    is_new = False
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            with suppress(FileExistsError), temporary_beside(path) as temporary:
                _create_tables(temporary)
                if fill is not None:
                    fill(temporary)
                publish(temporary, path, replace=False)
                is_new = True  # no other process was faster
    except (OSError, sqlite3.Error) as error:
        raise DatabaseUnavailable(f"{path} can't be created: {error}.") from error
    check(path)
    return is_new


def _create_tables(path: Path) -> None:
    schema = bundled("schema.sql").read_text("utf-8")
    marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
    with closing(sqlite3.connect(path)) as driver:
        driver.executescript(f"PRAGMA journal_mode = WAL; BEGIN; {schema} {marks} COMMIT;")


def _connect(path: Path, options: str, busy_seconds: float) -> sqlite3.Connection:
    driver = sqlite3.connect(
        f"{path.as_uri()}?{options}",  # opening never creates a file
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,  # BEGIN is explicit
        check_same_thread=False,  # the pool passes a connection from one thread to another
    )
    driver.row_factory = as_dict
    return driver


def as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> Row:
    """Return a row as a dictionary by column names."""
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


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


class Engine:
    """A database file for `Database`: as many connections as there are threads, one writer."""

    dialect = "sqlite"
    adapter = SQLite3Adapter
    begin = "BEGIN IMMEDIATE"  # takes the write lock, so that transactions run one after another
    error: type[Exception] = sqlite3.Error
    reads_wait = False
    pool_size = None

    def __init__(self, path: Path) -> None:
        self.path, self.name, self.address = path, str(path), quote(str(path))
        self._lock = WriterLock()
        self._file: FileId | None = None

    def connect(self) -> sqlite3.Connection:
        """Open a connection to the same file as the first one. Raises DatabaseUnavailable.

        SQLite finds the log by the path, and two databases with one log would damage each other.
        """
        file = self._check_file()
        driver = open_database(self.path)
        self._file = self._file or file
        return driver

    def is_writable(self) -> bool:
        """Return whether connections that are opened now can write."""
        return os.access(self.path, os.W_OK)

    def is_usable(self, _driver: sqlite3.Connection) -> bool:
        """Return true: a file does not disconnect."""
        return True

    def in_transaction(self, driver: sqlite3.Connection) -> bool:
        """Return whether a transaction has begun; SQLite ends it itself if the disk is full."""
        return driver.in_transaction

    def writing(self, _driver: sqlite3.Connection) -> AbstractContextManager[None]:
        """Hold the lock of this process's writers. Raises DatabaseUnavailable."""
        return self._lock.held()

    def raise_failure(self, error: sqlite3.Error) -> None:
        """Raise DatabaseUnavailable for an error of the database's state, not of the SQL."""
        if _code(error) in OUTAGES:
            raise DatabaseUnavailable(f"The database fails: {error}.") from error

    def ends_connection(self, error: sqlite3.Error) -> bool:
        """Return whether it is read-only: the connection would stay so."""
        return _code(error) == sqlite3.SQLITE_READONLY

    def create(self) -> bool:
        """Create the file with its tables; return False if there is one.

        Raises DatabaseUnavailable.
        """
        return create(self.path)

    def upgrade(self, steps: Sequence[Path]) -> list[str]:
        """Apply the steps after the schema version, each in a transaction; return their names.

        Of two upgrades at once, one fails. An up-to-date database is not written. Raises
        DatabaseUnavailable.
        """
        with closing(open_database(self.path, oldest=1)) as driver:
            version = driver.execute("PRAGMA user_version").fetchone()["user_version"]
            if not (missing := steps[version:]):
                return []
            check(self.path, oldest=1)  # can it be written?
            try:
                for step in missing:
                    driver.executescript(f"BEGIN IMMEDIATE;\n{step.read_text('utf-8')}\nCOMMIT;")
            except sqlite3.Error as error:
                raise DatabaseUnavailable(f"{self.path} can't be upgraded: {error}.") from error
        check(self.path)
        return [step.stem for step in missing]

    def check(self, *, starting: bool = False) -> None:
        """Check that the path is the file that is open, and that it is usable and writable.

        Raises DatabaseUnavailable. Requests use the old file until the restart, if it was deleted,
        moved or replaced. A full disk is no reason not to start: reads go on.
        """
        if starting:
            return check(self.path)
        self._check_file()
        check(self.path, may_be_locked=True)
        return require_free_space(self.path)

    def _check_file(self) -> FileId:
        file = file_id(self.path)
        if self._file not in (None, file):
            raise DatabaseUnavailable(
                f"{self.path} was replaced while the service runs: restart the service."
            )
        return file

    def files(self) -> Iterable[Path]:
        """Return the file, its log, and copies beside it."""
        return self.path.parent.glob(f"{escape(self.path.name)}*")

    def close(self) -> None:
        """Forget which file is open."""
        self._file = None


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
