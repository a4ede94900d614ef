"""Older databases brought up to schema.sql, by the numbered files in migrations/.

yoyo-migrations runs them, each in a transaction. It notes what it ran in a transaction of its
own, which a kill can cut off; so each file sets `user_version` as it ends, and that is what is
believed. A file that has been released is never changed; a new one gets the next number.
"""

from __future__ import annotations

import getpass
import os
import sqlite3
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Final
from urllib.parse import quote

from yoyo import get_backend, read_migrations
from yoyo.backends import DatabaseBackend
from yoyo.exceptions import LockTimeout

from jwt_server import sqlite
from jwt_server.errors import DatabaseUnavailable

MIGRATIONS: Final = Path(__file__).with_name("migrations")

LOCK_SECONDS: Final = 10
"""How long to wait for another upgrade of the same database."""


def upgrade(path: Path, *, break_lock: bool = False) -> list[str]:
    """Bring the database at `path` up to this release's schema; the names of what was run.

    `break_lock` lets go of what an upgrade that was killed still holds. Raises
    DatabaseUnavailable; migrations that are named in no answer then have left nothing behind.
    What is up to date is not written at all, unless there is a lock to let go of.
    """
    if sqlite.schema_version(path) == sqlite.SCHEMA_VERSION and not break_lock:
        return []
    sqlite.check_writable(path)  # else yoyo takes any trouble for a lock of its own
    _have_a_name()
    try:
        with get_backend(f"sqlite:///{quote(str(path))}") as backend:
            if break_lock:
                backend.break_lock()
            with backend.lock(LOCK_SECONDS):
                applied = _apply(backend, sqlite.schema_version(path))
    except LockTimeout as error:
        raise DatabaseUnavailable(
            f"{path} is being upgraded by another process. Where that was killed, run"
            " `db upgrade --break-lock`."
        ) from error
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"{path} can't be upgraded: {error}.") from error
    sqlite.check(path)
    return applied


def _apply(backend: DatabaseBackend, version: int) -> list[str]:
    """Run what comes after `version`, whatever yoyo has noted."""
    migrations = read_migrations(str(MIGRATIONS))
    there = migrations.filter(lambda each: number(each.id) <= version)
    missing = migrations.filter(lambda each: number(each.id) > version)
    backend.mark_migrations(backend.to_apply(there))
    backend.unmark_migrations(backend.to_rollback(missing))
    with redirect_stdout(StringIO()):  # yoyo prints what a statement gives, also where it is empty
        backend.apply_migrations(missing)
    return [each.id for each in missing]


def _have_a_name() -> None:
    """Let yoyo note who ran it: it fails under a user id without a name, as in containers."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = "unknown"


def number(name: str) -> int:
    """The number that the name of a migration begins with."""
    return int(name.partition(".")[0])
