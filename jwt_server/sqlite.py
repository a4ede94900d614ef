"""The SQLite file: opened with the settings that keep data safe, created, and checked.

Whatever is wrong with it becomes DatabaseUnavailable, whose cause tells the operator what to do.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from jwt_server.errors import DatabaseUnavailable
from jwt_server.files import bundled

SCHEMA_VERSION: Final = 5
"""The number of the newest of migrations/*.sql, kept in `PRAGMA user_version`."""

APPLICATION_ID: Final = int.from_bytes(b"jwts")
"""Marks a database of this service, in `PRAGMA application_id`."""

BUSY_SECONDS: Final = 2
"""How long a write waits for another one before the client gets 503."""

CACHE_KIB: Final = 256
"""The page cache of each connection. SQLite's default, 2 MiB, would be most of a worker's memory;
the system caches the pages, too."""

WAL_BYTES: Final = 64 * 1024 * 1024
"""The size to which the write-ahead log is truncated after it has grown."""

# Errors that are caused by the state of the database, not by a mistake in the SQL.
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

VERSION: Final = sqlite3.sqlite_version_info

# The first version of each series, and of all later ones, in which the WAL-reset bug is fixed.
FIXED: Final = {(3, 44): (3, 44, 6), (3, 50): (3, 50, 7), (3, 51): (3, 51, 3)}

Row = dict[str, Any]


class FileId(NamedTuple):
    """Which file a path names."""

    device: int
    inode: int


def file_id(path: Path) -> FileId:
    """Return which file the path names now. Raises DatabaseUnavailable if it names none."""
    try:
        status = path.stat()
    except OSError as error:
        raise DatabaseUnavailable(
            f"No database at {path} ({error.strerror}): the command `init-db` makes one."
        ) from error
    return FileId(status.st_dev, status.st_ino)


def is_outage(error: sqlite3.Error) -> bool:
    """Return whether an error is caused by the state of the database, and not by a bug."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in OUTAGES


def describe_outage(error: sqlite3.Error) -> str:
    """Return the cause to log."""
    return f"The database fails: {error}."


@contextmanager
def raise_outages() -> Iterator[None]:
    """Raise DatabaseUnavailable for an outage; other errors pass.

    The exception is not bound to a name here: that would keep the frame, and with it the
    connection, alive and open.
    """
    try:
        yield
    except sqlite3.Error as error:
        if is_outage(error):
            raise DatabaseUnavailable(describe_outage(error)) from error
        raise


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Return whether this SQLite has the race in which a checkpoint skips committed pages.

    It takes three connections: one ends a checkpoint, another begins the next one, and at that
    moment a third restarts the log (https://www.sqlite.org/wal.html#walresetbug).
    """
    fixed = FIXED.get(version[:2], (3, 51, 3))
    return (3, 7, 0) <= version < fixed


def open_database(path: Path) -> sqlite3.Connection:
    """Open a database of this schema version.

    Raises DatabaseUnavailable if there is none, or something else.
    """
    driver, version = open_any_version(path)
    if version != SCHEMA_VERSION:
        driver.close()
        raise DatabaseUnavailable(
            f"{path} has schema version {version}, this release needs {SCHEMA_VERSION}: stop the"
            " service, keep a copy, and run the command `db upgrade`."
        )
    return driver


def open_any_version(path: Path, *, options: str = "mode=rw") -> tuple[sqlite3.Connection, int]:
    """Open a database of this release's schema version or an older one; with its version.

    `options` are those of SQLite's URI file names: `mode=ro&immutable=1` reads a file that no
    process has open, without a lock, even on a read-only medium. Raises DatabaseUnavailable.
    """
    file_id(path)
    try:
        driver, application, version = _connect(path, options)
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"{path} can't be opened: {error}.") from error
    problem = None
    if application != APPLICATION_ID:
        problem = "is not a database of this service."
    elif version > SCHEMA_VERSION:
        problem = (
            f"has schema version {version}, this release knows {SCHEMA_VERSION} and no newer one:"
            " run the release that made it."
        )
    if problem:
        driver.close()
        raise DatabaseUnavailable(f"{path} {problem}")
    return driver, version


def schema_version(path: Path) -> int:
    """Return the schema version of a database. Raises DatabaseUnavailable as open_any_version."""
    driver, version = open_any_version(path)
    driver.close()
    return version


def check(path: Path) -> None:
    """Open the file and check its schema version and that it can be written.

    Raises DatabaseUnavailable.
    """
    with closing(open_database(path)) as driver:
        _check_writable(path, driver)


def check_writable(path: Path) -> None:
    """Check that a database of this or an older schema version can be written.

    Raises DatabaseUnavailable.
    """
    driver, _ = open_any_version(path)
    with closing(driver):
        _check_writable(path, driver)


def _check_writable(path: Path, driver: sqlite3.Connection) -> None:
    try:
        driver.execute("BEGIN IMMEDIATE")
        # A file that can't be written can be locked, too; only a write shows it.
        driver.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        driver.rollback()
        # A killed restore may have switched it off; readers and writers would block each other.
        driver.execute("PRAGMA journal_mode = WAL")
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"{path} can't be written: {error}.") from error


def create(path: Path) -> bool:
    """Create the database and its tables, readable by its owner alone.

    Returns whether there was none before. Raises DatabaseUnavailable if it can't be created, or
    the file is something else.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        driver, *marks = _connect(path)
        with closing(driver):
            # A file with other marks belongs to another program, even if it has no table.
            is_ours = marks in ([0, 0], [APPLICATION_ID, SCHEMA_VERSION])
            created = is_ours and _create_tables(driver)
    except (OSError, sqlite3.Error) as error:
        raise DatabaseUnavailable(f"{path} can't be created: {error}.") from error
    check(path)
    return created


def _create_tables(driver: sqlite3.Connection) -> bool:
    if _has_tables(driver):
        return False
    driver.execute("PRAGMA journal_mode = WAL")
    driver.execute("BEGIN IMMEDIATE")
    with driver:
        if _has_tables(driver):  # another process was faster
            return False
        for statement in _statements(bundled("schema.sql").read_text("utf-8")):
            driver.execute(statement)
        driver.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        driver.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    return True


def _has_tables(driver: sqlite3.Connection) -> bool:
    return driver.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None


def _statements(script: str) -> Iterator[str]:
    """Split a script: `executescript` would commit the transaction around it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _connect(path: Path, options: str = "mode=rw") -> tuple[sqlite3.Connection, int, int]:
    """Connect to a file that exists; return the connection, application id and user version."""
    driver = sqlite3.connect(
        f"{path.as_uri()}?{options}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,  # transactions begin by an explicit BEGIN
        check_same_thread=False,  # the pool hands connections from thread to thread
    )
    try:
        driver.row_factory = as_dict
        driver.execute("PRAGMA foreign_keys = ON")
        driver.execute("PRAGMA synchronous = FULL")  # a committed write survives a power cut
        driver.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        driver.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        application = driver.execute("PRAGMA application_id").fetchone()["application_id"]
        version = driver.execute("PRAGMA user_version").fetchone()["user_version"]
    except sqlite3.Error:
        driver.close()
        raise
    return driver, application, version


def as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> Row:
    """Return a row as a dictionary, the form in which queries return rows."""
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}
