"""Backups of the database while the service runs, and restoring them while it is stopped.

Both write a temporary file and rename it, so they can be killed at any time. SQLite finds a
database's log by its name: a log left beside another database, or a process that has the old one
open, would damage it. So a restore needs SQLite's exclusive lock on the present database, and
writes its log into it before another takes its place.
"""

import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from typing import Final

from jwt_server import migrate, sqlite
from jwt_server.database import Connection, Database
from jwt_server.errors import DatabaseUnavailable
from jwt_server.files import publish, sync, temporary_beside
from jwt_server.security.primitives import MAX_ID

UNUSED_FILE: Final = "mode=ro&immutable=1"  # opens without locks, even on a read-only disk
LOGS: Final = ("-wal", "-journal", "-shm")  # suffixes of SQLite's files beside a database

MIN_ID_LEAP: Final = 1_000_000
IDS_PER_SECOND: Final = 1000
"""More IDs than can be assigned in a second. A restored database goes on at this many for each
second of Unix time, which is above every ID assigned before, even in a lost database; and at
MIN_ID_LEAP above the known ones, in case the clock is behind."""


def take(database: Path, file: Path) -> int:
    """Write a checked backup of the database to a new file of mode 0600; return its users' number.

    It has the state of the moment when it began; no request waits for it. Raises
    DatabaseUnavailable, and leaves no file then.
    """
    file = file.absolute()
    with closing(sqlite.open_database(database)) as source, _errors_for(file) as temporary:
        if os.path.lexists(file):  # publish() checks again
            raise FileExistsError
        source.execute("VACUUM INTO ?", (str(temporary),))
        users = _check_intact(temporary)
        publish(temporary, file, replace=False)
    return users


def restore(
    file: Path, database: Path, prepare: Callable[[Connection], object], *, now: int, at: str
) -> tuple[int, Path | None]:
    """Replace the database, which need not exist, by a backup of this or an older release.

    Returns the number of users, and the new name of the replaced database, if there was one.
    `prepare` is called in the transaction that also advances the IDs. `now` is Unix time, `at` the
    same for the new name of the old file. Raises DatabaseUnavailable, and changes nothing then.
    """
    source, target = file.resolve(), database.resolve()
    users = _check_backup(source, target)
    with _errors_for(target) as temporary, _locked(target) as present:
        shutil.copyfile(source, temporary)
        migrate.upgrade(sqlite.Engine(temporary))
        with closing(Database(temporary)) as opened, opened.connection() as db, db.transaction():
            _advance_ids(db.driver, present, now)
            prepare(db)
        sqlite.check(temporary)
        if os.geteuid() == 0:  # root restores for the service's user
            owner = (target if target.exists() else target.parent).stat()
            shutil.chown(temporary, owner.st_uid, owner.st_gid)
        replaced = _set_aside(target, present, at)
        publish(temporary, target, replace=True)
    return users, replaced


@contextmanager
def _errors_for(path: Path) -> Iterator[Path]:
    """Provide a temporary file for `path`; raise DatabaseUnavailable for what fails inside."""
    try:
        with temporary_beside(path) as temporary:
            yield temporary
    except FileExistsError:
        raise DatabaseUnavailable(
            f"{path} exists already: choose another name, or move it away first."
        ) from None
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DatabaseUnavailable(f"{path} can't be written: {reason}.") from error
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(error.cause.replace(str(temporary), str(path))) from error


def find_damage(driver: sqlite3.Connection) -> str | None:
    """Return the first thing that is wrong with a database, or None."""
    try:
        found = driver.execute("PRAGMA integrity_check(1)").fetchone()["integrity_check"]
        orphan = driver.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    if found != "ok":
        return " ".join(str(found).split())
    return f"a row of {orphan['table']} refers to a row that does not exist" if orphan else None


def _check_intact(path: Path, *, compare: bool = False) -> int:
    """Read a whole database of this service, and return its number of users.

    `compare` first compares its schema with the release's: an index could compute endlessly.
    """
    with closing(sqlite.open_database(path, oldest=1, options=UNUSED_FILE)) as driver:
        if compare and (change := migrate.find_schema_change(driver)):
            raise DatabaseUnavailable(f"{path} can't be trusted: {change}.")
        if damage := find_damage(driver):
            raise DatabaseUnavailable(f"{path} is damaged: {damage}.")
        users: int = driver.execute("SELECT count(*) AS users FROM users").fetchone()["users"]
    return users


def _check_backup(source: Path, target: Path) -> int:
    """Check that a file can replace the database; return its number of users."""
    if not source.is_file():
        raise DatabaseUnavailable(f"{source} is not a file.")
    if target.exists() and source.samefile(target):
        raise DatabaseUnavailable(f"{source} is the database itself.")
    for log in (Path(f"{source}{suffix}") for suffix in ("-wal", "-journal")):
        if log.exists():
            raise DatabaseUnavailable(
                f"{log} shows that {source.name} is in use, or was not closed:"
                " set DATABASE_URL to it, and the command `backup` makes one complete file of it."
            )
    return _check_intact(source, compare=True)


def _locked(path: Path) -> AbstractContextManager[sqlite3.Connection | None]:
    """Hold SQLite's exclusive lock on the present database; None if it is missing or unreadable.

    Raises DatabaseUnavailable if another process has it open.
    """
    if not path.exists():
        return nullcontext()
    uri = f"{path.as_uri()}?mode=rw"
    driver = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)
    try:
        driver.row_factory = sqlite.as_dict
        driver.execute("PRAGMA synchronous = FULL")
        driver.execute("PRAGMA locking_mode = EXCLUSIVE")  # until the connection is closed
        driver.executescript("BEGIN EXCLUSIVE; COMMIT")
    except sqlite3.Error as error:
        driver.close()
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise DatabaseUnavailable(f"{path} is in use: stop the service first.") from error
        return nullcontext()
    return closing(driver)


def is_in_use(database: Path) -> bool:
    """Return whether another process has the database open."""
    try:
        with _locked(database):
            return False
    except DatabaseUnavailable:
        return True


def _advance_ids(driver: sqlite3.Connection, present: sqlite3.Connection | None, now: int) -> None:
    """Let new IDs start above all that were ever assigned."""
    last_ids = _last_ids(driver) | (_last_ids(present) if present else Counter())
    driver.execute("DELETE FROM sqlite_sequence")
    for row in driver.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'"):
        start = max(last_ids[row["name"]] + MIN_ID_LEAP, now * IDS_PER_SECOND)
        driver.execute(
            "INSERT INTO sqlite_sequence VALUES (?, ?)", (row["name"], min(start, MAX_ID))
        )


def _last_ids(driver: sqlite3.Connection) -> Counter[str]:
    """Return the largest ID ever assigned, by table, as far as it can be read."""
    with suppress(sqlite3.DatabaseError):  # damaged, or without tables
        rows = driver.execute("SELECT name, seq FROM sqlite_sequence").fetchall()
        return Counter({row["name"]: row["seq"] for row in rows})
    return Counter()


def _set_aside(path: Path, present: sqlite3.Connection | None, at: str) -> Path | None:
    """Give the database to be replaced, if there is one, a second name, and return that.

    Its log is written into it, or, if it can't be read, gets the same name.
    """
    if present is not None:
        # A process that waits for our lock then finds a file that, once replaced, SQLite refuses
        # to write; with a log it would write into that of the new database.
        present.execute("PRAGMA journal_mode = DELETE")
    names = (Path(f"{path}.replaced-{at}{f'-{number}' if number else ''}") for number in count())
    kept = next(name for name in names if not os.path.lexists(name))
    for suffix in LOGS:
        log = Path(f"{path}{suffix}")
        if present is not None:
            log.unlink(missing_ok=True)  # what SQLite left is empty
        elif log.exists():
            log.rename(f"{kept}{suffix}")
    if not path.exists():
        return None
    path.chmod(0o600)
    try:
        kept.hardlink_to(path)
    except OSError:  # a file system without hard links
        path.rename(kept)
    sync(path.parent)
    return kept
