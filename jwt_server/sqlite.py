"""The SQLite file: opened with the settings that keep data safe, created, and checked.

What is wrong with it is raised as DatabaseUnavailable; the cause tells operators what to do.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, Final

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
