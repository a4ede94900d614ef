"""Backups: taken while the service runs, restored while it is stopped.

Both may be killed at any point: a backup is whole or not there; a restore leaves the old database
or the new one. SQLite finds a write-ahead log by the name of its database, so a log must never
stay beside another file of that name; that is why a restore holds SQLite's exclusive lock, folds
the old log in, and renames last.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from jwt_server import migrate, sqlite
from jwt_server.database import Connection, Database
from jwt_server.errors import DatabaseUnavailable
from jwt_server.files import publish, sync, temporary_beside
from jwt_server.security.primitives import MAX_ID

Progress = Callable[[int, int], object]
"""Called with the bytes done and the total."""

PROGRESS_STEPS: Final = 100_000
"""Instructions of SQLite's virtual machine between two calls of Progress."""

CHUNK: Final = 1024 * 1024

MIN_ID_LEAP: Final = 1_000_000
ID_LEAP_PER_SECOND: Final = 1000
"""A restore leaves out ids for each second since the newest row of the backup: more than can have
been used since, so no id is reused, whichever backup is restored, and also a second time."""

NEWEST_ROW: Final = (
    "SELECT max(coalesce((SELECT max(at) FROM audit), 0),"
    " coalesce((SELECT max(created_at) FROM users), 0)) AS newest"
)

LOGS: Final = ("-wal", "-journal")
"""Files that SQLite needs, beside a database that was not closed, to make it whole."""

UNREADABLE: Final = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})


@dataclass(frozen=True)
class Result:
    """The file that was made, its size in bytes and its users; the old database of a restore."""

    path: Path
    size: int
    users: int
    kept: Path | None = None


def find_damage(driver: sqlite3.Connection) -> str | None:
    """Return the first thing that is wrong with a database, or None. Reads all of it."""
    try:
        found = driver.execute("PRAGMA integrity_check(1)").fetchone()["integrity_check"]
        orphan = driver.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    if found != "ok":
        return " ".join(str(found).split())
    return f"a row of {orphan['table']} refers to a row that does not exist" if orphan else None


def take(database: Path, file: Path, progress: Progress) -> Result:
    """Back up the database to `file`, which must not exist, while the service runs.

    The file has mode 0600 and is verified before it appears. Raises DatabaseUnavailable.
    """
    file = file.absolute()
    with closing(sqlite.open_database(database)) as source, _named_errors(file):
        if file in {database.with_name(f"{database.name}-{log}") for log in ("wal", "shm")}:
            raise DatabaseUnavailable(f"{file} is used by SQLite: choose another name.")
        if os.path.lexists(file):  # before the work; `publish` checks again
            raise FileExistsError
        with temporary_beside(file) as temporary:
            _vacuum_into(source, temporary, progress)
            users = _verify(temporary, file)
            size = temporary.stat().st_size
            publish(temporary, file, replace=False)
    return Result(file, size, users)


def restore(
    file: Path,
    database: Path,
    prepare: Callable[[Connection], object],
    *,
    now: int,
    timestamp: str,
    progress: Progress,
) -> Result:
    """Replace the database, which need not exist, by a backup of this release or an older one.

    `prepare` is called in the transaction that advances the ids. The old database is kept beside
    the new one, with the timestamp in its name. `now` is Unix time. Raises DatabaseUnavailable,
    and has changed nothing then.
    """
    source, target = file.resolve(), database.resolve()
    _require_backup(source, target)
    with (
        _named_errors(target),
        _hold_exclusively(target) as old,
        temporary_beside(target) as temporary,
    ):
        _copy(source, temporary, progress)
        _verify(temporary, file)
        migrate.upgrade(temporary)
        _prepare(temporary, old, prepare, now)
        sqlite.check(temporary)  # which switches write-ahead logging on
        users = _verify(temporary, file)
        if os.geteuid() == 0:  # root restores for the service's user
            owner = (target if target.exists() else target.parent).stat()
            shutil.chown(temporary, owner.st_uid, owner.st_gid)
        kept = _replace(target, old, temporary, timestamp)
    return Result(target, target.stat().st_size, users, kept)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Raise DatabaseUnavailable, naming `path`, for errors of the disk."""
    try:
        yield
    except FileExistsError as error:
        raise DatabaseUnavailable(
            f"{path} exists already: choose another name, or move it away first."
        ) from error
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"{path} can't be written: {error}.") from error
    except OSError as error:
        raise DatabaseUnavailable(f"{path} can't be written: {error.strerror}.") from error


def _vacuum_into(source: sqlite3.Connection, temporary: Path, progress: Progress) -> None:
    """Copy in one read transaction; unlike a page-wise copy, without remains of deleted rows."""
    size, pages, free = (
        source.execute(f"PRAGMA {name}").fetchone()[name]
        for name in ("page_size", "page_count", "freelist_count")
    )
    total = size * (pages - free)

    def report() -> None:
        progress(min(temporary.stat().st_size, total), total)

    source.set_progress_handler(report, PROGRESS_STEPS)
    try:
        source.execute("VACUUM INTO ?", (str(temporary),))
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CORRUPT:
            raise DatabaseUnavailable(f"The database is damaged: {error}.") from error
        raise
    finally:
        source.set_progress_handler(None, 0)
    progress(total, total)


def _verify(temporary: Path, shown: Path) -> int:
    """Read all of a file that no process has open; return the number of users.

    Raises DatabaseUnavailable, which names `shown`, if it is damaged or something else.
    """
    try:
        driver, _ = sqlite.open_any_version(temporary, options="mode=ro&immutable=1")
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(error.cause.replace(str(temporary), str(shown))) from error
    with closing(driver):
        if damage := find_damage(driver):
            raise DatabaseUnavailable(f"{shown} is damaged: {damage}.")
        return int(driver.execute("SELECT count(*) AS users FROM users").fetchone()["users"])


def _require_backup(source: Path, target: Path) -> None:
    if not source.is_file():
        raise DatabaseUnavailable(f"{source} is not a file.")
    if target.exists() and source.samefile(target):
        raise DatabaseUnavailable(f"{source} is the database itself.")
    for log in LOGS:
        if source.with_name(f"{source.name}{log}").exists():
            raise DatabaseUnavailable(
                f"{source}{log} shows that {source.name} is in use, or was not closed: set"
                " DATABASE_URL to it, and the command `backup` makes one complete file of it."
            )


@contextmanager
def _hold_exclusively(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Hold the database so that no other process can open it.

    Yields None if there is no file, or one that is no database any more. Raises
    DatabaseUnavailable if a process has it open, or it belongs to another program.
    """
    if not path.exists():
        yield None
        return
    if not path.is_file():
        raise DatabaseUnavailable(f"{path} can't be replaced: it is not a file.")
    for kept in path.parent.glob(f"{path.name}.replaced-*"):
        if kept.samefile(path):  # a restore was killed before its last step
            kept.unlink()
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as driver:
        driver.row_factory = sqlite.as_dict
        yield driver if _lock(path, driver) else None


def _lock(path: Path, driver: sqlite3.Connection) -> bool:
    """Lock the database for this connection alone; return False if it is no database any more."""
    try:
        driver.execute("PRAGMA locking_mode = EXCLUSIVE")  # held until the connection closes
        driver.execute("BEGIN EXCLUSIVE")
        driver.execute("COMMIT")
        application = driver.execute("PRAGMA application_id").fetchone()["application_id"]
        is_empty = driver.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in UNREADABLE:
            return False
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise DatabaseUnavailable(f"{path} is in use: stop the service first.") from error
        raise
    if application != sqlite.APPLICATION_ID and not is_empty:
        raise DatabaseUnavailable(f"{path} is not a database of this service.")
    return True


def _copy(source: Path, temporary: Path, progress: Progress) -> None:
    size = source.stat().st_size
    with source.open("rb") as reader, temporary.open("wb") as writer:
        while chunk := reader.read(CHUNK):
            writer.write(chunk)
            progress(min(writer.tell(), size), size)


def _prepare(
    temporary: Path,
    old: sqlite3.Connection | None,
    prepare: Callable[[Connection], object],
    now: int,
) -> None:
    """Advance the ids beyond all that the backup's and the old database can have used."""
    with closing(Database(temporary)) as database, database.connection() as db, db.transaction():
        newest = db.driver.execute(NEWEST_ROW).fetchone()["newest"]
        leap = max(MIN_ID_LEAP, ID_LEAP_PER_SECOND * (now - newest))
        used = _used_ids(old) if old else {}
        for table, last in _used_ids(db.driver).items():
            row = {"name": table, "seq": min(MAX_ID, max(last + leap, used.get(table, 0)))}
            db.driver.execute("DELETE FROM sqlite_sequence WHERE name = :name", row)
            db.driver.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)", row)
        prepare(db)


def _used_ids(driver: sqlite3.Connection) -> dict[str, int]:
    """Return the highest id ever used in each table that never reuses ids."""
    try:
        rows = driver.execute(
            "SELECT name, coalesce(seq, 0) AS seq FROM sqlite_master"
            " LEFT JOIN sqlite_sequence USING (name)"
            " WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'"
        ).fetchall()
    except sqlite3.DatabaseError:  # empty or damaged
        return {}
    return {row["name"]: row["seq"] for row in rows}


def _replace(
    path: Path, old: sqlite3.Connection | None, temporary: Path, timestamp: str
) -> Path | None:
    """Put the new database in the old one's place; return where the old one is kept.

    At each moment `path` is the old database, complete, or the new one, without a log of the old.
    """
    if old is not None:
        old.execute("PRAGMA journal_mode = DELETE")  # folds the log in
    names = (f"{path.name}.replaced-{timestamp}{f'-{n}' if n else ''}" for n in count())
    kept = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    if path.exists():
        path.chmod(0o600)
        try:
            kept.hardlink_to(path)
        except OSError:  # a file system without hard links
            path.rename(kept)
    for suffix in (*LOGS, "-shm"):
        log = path.with_name(f"{path.name}{suffix}")
        if old is None and suffix in LOGS and log.exists():
            log.rename(kept.with_name(f"{kept.name}{suffix}"))  # may hold what the old file lacks
        else:
            log.unlink(missing_ok=True)
    sync(path.parent)
    publish(temporary, path, replace=True)
    return kept if kept.exists() else None
