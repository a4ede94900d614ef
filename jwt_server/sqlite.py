"""The SQLite file: opened with the settings that keep data safe, made, and checked.

Whatever is wrong with it becomes DatabaseUnavailable, whose cause tells the operator what to
do. Writes wait for each other here and nowhere else, for BUSY_SECONDS.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from jwt_server.errors import DatabaseUnavailable
from jwt_server.files import bundled

SCHEMA_VERSION: Final = 5
"""What `PRAGMA user_version` must say: the number of the newest of migrations/*.sql."""

APPLICATION_ID: Final = int.from_bytes(b"jwts")
"""What `PRAGMA application_id` must say, so that nobody's other database is taken for ours."""

SCHEMA: Final = bundled("schema.sql")

BUSY_SECONDS: Final = 2
"""How long a statement waits for another's write before the client is asked to come back."""

CACHE_KIB: Final = 256
"""How many KiB of the database each connection remembers. Another's write makes it forget all, and
the system has the pages, too; SQLite's own 2 MiB would be a worker's largest part."""

WAL_BYTES: Final = 64 * 1024 * 1024
"""What the write-ahead log is cut back to after it has grown."""

MIN_FREE_BYTES: Final = 8 * 1024 * 1024
"""Free disk space below which the service is not ready."""

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

VERSION: Final = sqlite3.sqlite_version_info

# In these series the WAL-reset bug is mended from this version on; in all later ones, too.
MENDED: Final = {(3, 44): (3, 44, 6), (3, 50): (3, 50, 7), (3, 51): (3, 51, 3)}

Row = dict[str, Any]


FileId = tuple[int, int]
"""Device and inode."""


def file_id(path: Path) -> FileId:
    """Identify the file at a path. Raises DatabaseUnavailable if there is none."""
    try:
        status = path.stat()
    except OSError as error:
        raise DatabaseUnavailable(
            f"No database at {path} ({error.strerror}): the command `init-db` makes one."
        ) from error
    return status.st_dev, status.st_ino


def is_outage(error: sqlite3.Error) -> bool:
    """Whether an error tells of the database's state, and not of a fault of ours."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in OUTAGES


def failure(error: sqlite3.Error) -> str:
    """The cause that the log is told of an outage."""
    return f"The database fails: {error}."


def has_wal_reset_fault(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite has the race by which a checkpoint may skip what was committed.

    It takes three connections: one ends a checkpoint, another begins the next, and a third commits
    and begins the log anew at that very moment. So do ours, one in each thread
    (https://www.sqlite.org/wal.html#walresetbug).
    """
    mended = MENDED.get(version[:2], (3, 51, 3))
    return (3, 7, 0) <= version < mended


@contextmanager
def failures_named() -> Iterator[None]:
    """Raise DatabaseUnavailable for an outage; another error goes on as it is.

    What is raised has no name here: it would hold on to this frame, and so to the connection, which
    SQLite keeps open for as long, with its right to write or without.
    """
    try:
        yield
    except sqlite3.Error as error:
        if is_outage(error):
            raise DatabaseUnavailable(failure(error)) from error
        raise


def open_database(path: Path) -> sqlite3.Connection:
    """A connection to a database of our schema version.

    Raises DatabaseUnavailable where there is none, or something else.
    """
    driver, version = _open_ours(path)
    if version != SCHEMA_VERSION:
        driver.close()
        raise DatabaseUnavailable(
            f"{path} has schema version {version}, this release needs {SCHEMA_VERSION}: stop the"
            " service, keep a copy, and run the command `db upgrade`."
        )
    return driver


def schema_version(path: Path) -> int:
    """The schema version of a database of ours, from the first to this release's.

    Raises DatabaseUnavailable where there is none, or something else, or a newer one.
    """
    driver, version = _open_ours(path)
    driver.close()
    return version


def open_closed(path: Path) -> tuple[sqlite3.Connection, int]:
    """A connection that only reads, and the schema version, from the first to this release's.

    For a file that nobody has open and that has no log beside it: nothing is locked or written, so
    it may be on a medium that can't be written. Raises DatabaseUnavailable.
    """
    return _open_ours(path, "mode=ro&immutable=1")


def _open_ours(path: Path, options: str = "mode=rw") -> tuple[sqlite3.Connection, int]:
    file_id(path)
    try:
        driver, application, version = _connect(path, options)
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"{path} can't be opened: {error}.") from error
    if application != APPLICATION_ID:
        driver.close()
        raise DatabaseUnavailable(f"{path} is not a database of this service.")
    if version > SCHEMA_VERSION:
        driver.close()
        raise DatabaseUnavailable(
            f"{path} has schema version {version}, this release knows {SCHEMA_VERSION} and"
            " no newer one: run the release that made it."
        )
    return driver, version


def check(path: Path) -> None:
    """Open the file afresh and see that it is ours, of this schema, and can be written.

    Raises DatabaseUnavailable.
    """
    with closing(open_database(path)) as driver:
        _check_writable(path, driver)


def require_free_space(path: Path) -> None:
    """Raise DatabaseUnavailable if the disk has less than MIN_FREE_BYTES left."""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise DatabaseUnavailable(f"{path} is unreachable: {error.strerror}.") from error
    if free < MIN_FREE_BYTES:
        raise DatabaseUnavailable(f"The disk is full: {free >> 10} KiB are left for {path}.")


def check_writable(path: Path) -> None:
    """The same for a database of any schema version up to this one's."""
    driver, _ = _open_ours(path)
    with closing(driver):
        _check_writable(path, driver)


def _check_writable(path: Path, driver: sqlite3.Connection) -> None:
    try:
        driver.execute("BEGIN IMMEDIATE")
        # The lock alone is given for a file that can't be written, too.
        driver.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        driver.rollback()
        # A killed restore may leave it off, and then readers and writers wait for each other.
        driver.execute("PRAGMA journal_mode = WAL")
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"{path} can't be written: {error}.") from error


def create(path: Path) -> bool:
    """Make the database and its tables, readable by its owner alone.

    Returns whether there was none before. Raises DatabaseUnavailable where it can't be made, or
    the file is something else already.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        driver, *marks = _connect(path)
        with closing(driver):
            # What has marks but not ours is another program's, even without a table.
            made = marks in ([0, 0], [APPLICATION_ID, SCHEMA_VERSION]) and _create_tables(driver)
    except (OSError, sqlite3.Error) as error:
        raise DatabaseUnavailable(f"{path} can't be made: {error}.") from error
    check(path)
    return made


def _create_tables(driver: sqlite3.Connection) -> bool:
    if _has_tables(driver):
        return False
    driver.execute("PRAGMA journal_mode = WAL")
    driver.execute("BEGIN IMMEDIATE")
    with driver:
        if _has_tables(driver):  # another process was faster
            return False
        for statement in _statements(SCHEMA.read_text("utf-8")):
            driver.execute(statement)
        driver.execute(f"PRAGMA application_id = {APPLICATION_ID}")
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


def _connect(path: Path, options: str = "mode=rw") -> tuple[sqlite3.Connection, int, int]:
    """A connection, and what the file says of itself: application id and schema version."""
    driver = sqlite3.connect(
        f"{path.as_uri()}?{options}",  # never make a file by opening it
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,  # we say BEGIN ourselves
        check_same_thread=False,  # the pool hands a connection from one thread to another
    )
    try:
        driver.row_factory = as_dict
        driver.execute("PRAGMA foreign_keys = ON")
        # What was answered survives a power cut.
        driver.execute("PRAGMA synchronous = FULL")
        driver.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        driver.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        application = driver.execute("PRAGMA application_id").fetchone()["application_id"]
        version = driver.execute("PRAGMA user_version").fetchone()["user_version"]
    except sqlite3.Error:
        driver.close()
        raise
    return driver, application, version


def as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> Row:
    """A row as queries hand it out: values by the names of their columns."""
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}
