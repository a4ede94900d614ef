"""The database that a restore replaces: held so that nobody can open it, then put aside.

SQLite finds a database's log by its name. So a log that is left beside another file of that name is
taken for that one's, and damages it; and so does a process that still has the old file open. That
is why the old one is held by SQLite's own lock, which nobody gets while another has it open, and
why its log is folded into it before another takes its place.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from jwt_server import sqlite
from jwt_server.backups import contents
from jwt_server.backups.contents import Ids
from jwt_server.errors import DatabaseUnavailable
from jwt_server.files import sync

LOGS: Final = ("-wal", "-journal")
"""What SQLite writes beside a database and needs to make it whole."""

# What SQLite locks, as its file format and its source have it (os_unix.c, os.h): bytes of the file
# that anybody who reads has locked, and bytes of the log's index that anybody who has it open has.
READERS: Final = (0x40000000, 512)
INDEX: Final = (120, 9)

IN_USE: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

UNREADABLE: Final = frozenset(
    {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_ERROR}
)
"""Errors of a database that is lost. Others, as of a full disk, are in its successor's way, too."""


@dataclass(frozen=True)
class Present:
    """The database that is there, held; `driver` is None where it can't be read."""

    path: Path
    driver: sqlite3.Connection | None


@contextmanager
def held(path: Path) -> Iterator[Present]:
    """Hold what is at `path`, if anything, so that nobody can open it.

    Raises DatabaseUnavailable where a process has it open, or where it is not ours.
    """
    _forget_second_name(path)
    driver = _seized(path) if path.exists() else None
    if driver is not None:
        with closing(driver):
            yield Present(path, driver)
        return
    with _locked(path, READERS), _locked(_beside(path, "-shm"), INDEX):
        yield Present(path, None)


def _forget_second_name(path: Path) -> None:
    """A restore that was killed just before the end has left the present one a second name."""
    for kept in path.parent.glob(f"{path.name}.replaced-*"):
        if path.exists() and kept.samefile(path):
            kept.unlink()


def _seized(path: Path) -> sqlite3.Connection | None:
    """A connection that keeps all others out; None where the file is no database (any more)."""
    if not path.is_file():
        raise DatabaseUnavailable(f"{path} can't be replaced: it is no file.")
    driver = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None)
    driver.row_factory = sqlite.as_dict
    try:
        driver.execute("PRAGMA synchronous = FULL")
        driver.execute("PRAGMA locking_mode = EXCLUSIVE")  # also when the transaction is over
        driver.execute("BEGIN EXCLUSIVE")
        driver.execute("COMMIT")
        application = driver.execute("PRAGMA application_id").fetchone()["application_id"]
        is_empty = driver.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None
    except sqlite3.Error as error:
        driver.close()
        _require_lost(path, error)
        return None
    if application != sqlite.APPLICATION_ID and not is_empty:
        driver.close()
        raise DatabaseUnavailable(f"{path} is not a database of this service.")
    return driver


def _require_lost(path: Path, error: sqlite3.Error) -> None:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in IN_USE:
        raise in_use(path) from error
    if code not in UNREADABLE:
        raise DatabaseUnavailable(f"{path} can't be replaced: {error}.") from error


def in_use(path: Path) -> DatabaseUnavailable:
    """What to raise where a process has the database open."""
    return DatabaseUnavailable(f"{path} is in use: stop the service first.")


@contextmanager
def _locked(path: Path, part: tuple[int, int]) -> Iterator[None]:
    """Hold the lock that SQLite would need to use a file that it can't read, where there is one."""
    if not path.is_file():
        yield
        return
    descriptor = os.open(path, os.O_RDWR)
    try:
        start, length = part
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
        yield
    except BlockingIOError as error:
        raise in_use(path) from error
    finally:
        os.close(descriptor)


def read_ids(present: Present) -> Ids | None:
    """How far the ids have come; None where that can't be told for sure."""
    if present.driver is None or contents.damage(present.driver):
        return None
    try:
        return contents.ids(present.driver)
    except sqlite3.OperationalError:  # an empty file has not even the table of them
        return None


def replace(present: Present, draft: Path, now: str) -> Path | None:
    """Put the draft, which is closed, in the present one's place; where that one is kept.

    At each moment there is the old one, whole as it was, or the new one, and no log of the old one
    beside the new one. `now` becomes part of the name.
    """
    path = present.path
    if present.driver is not None:
        # Folds the log in. Who waits for our lock all the while finds a file whose writes SQLite
        # refuses once it has moved; with a log it would write into that of the new one.
        present.driver.execute("PRAGMA journal_mode = DELETE")
    sync(draft)
    kept = _kept(path, now)
    for log in LOGS:
        if present.driver is not None:
            _beside(path, log).unlink(missing_ok=True)  # what it has left is empty
        elif _beside(path, log).exists():
            _beside(path, log).rename(_beside(kept, log))
    _beside(path, "-shm").unlink(missing_ok=True)
    sync(path.parent)
    draft.replace(path)
    sync(path.parent)
    return kept if kept.exists() else None


def _kept(path: Path, now: str) -> Path:
    """Give the present one, where there is one, a second name; which."""
    for number in count():
        kept = path.with_name(f"{path.name}.replaced-{now}{f'-{number}' if number else ''}")
        try:
            if path.exists():
                path.chmod(0o600)
                kept.hardlink_to(path)
        except FileExistsError:
            continue
        return kept
    raise AssertionError


def _beside(path: Path, end: str) -> Path:
    return path.with_name(f"{path.name}{end}")
