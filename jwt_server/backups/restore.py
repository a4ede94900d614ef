"""A backup's way back, in place of the database that is there, while the service is stopped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jwt_server import migrate, sqlite
from jwt_server.backups import contents, drafts, present
from jwt_server.backups.contents import Ids
from jwt_server.backups.present import Present
from jwt_server.backups.take import Tell
from jwt_server.database import Connection, Database
from jwt_server.errors import DatabaseUnavailable
from jwt_server.security.primitives import MAX_ID

CHUNK: Final = 1024 * 1024

LEAP: Final = 1_000_000
"""So many ids are left out at the least, where nobody knows how far the lost database had come."""

LEAP_A_SECOND: Final = 1000
"""So many for each second since the newest row of the backup: far more than can be handed out. The
later a restore, the higher it leaps; so of two, no matter of which backups, the later hands out no
id that the earlier has handed out."""

NEWEST: Final = (
    "SELECT coalesce(max(created_at), 0) AS newest FROM ("
    "SELECT * FROM (SELECT created_at FROM users ORDER BY id DESC LIMIT 1) UNION ALL"
    " SELECT * FROM (SELECT created_at FROM pets ORDER BY id DESC LIMIT 1) UNION ALL"
    " SELECT * FROM (SELECT created_at FROM sessions ORDER BY number DESC LIMIT 1))"
)

SAME_USER: Final = (
    "SELECT 1 FROM users"
    " WHERE id = :id AND username_key = :username_key AND created_at = :created_at"
)

Prepare = Callable[[Connection], object]
"""Changes a restored database before anybody else can open it."""


@dataclass(frozen=True)
class Restored:
    """What was done."""

    users: int
    kept: Path | None
    leapt: bool
    """Whether ids were left out, as the present database's could not be told."""


def restore(
    file: Path, database: Path, prepare: Prepare, *, now: int, at: str, tell: Tell
) -> Restored:
    """Put a backup in the place of the database, which need not be there.

    The backup stays as it is. One of an older release is brought up to date. `prepare` is called in
    the transaction that also sees to the ids. `now` is Unix time, `at` the same as part of a file's
    name. Raises DatabaseUnavailable, and has changed nothing then.
    """
    source, target = file.resolve(), database.resolve()
    _require_backup(source, target)
    with present.held(target) as old, drafts.draft(target) as draft:
        _copy(source, draft, tell)
        with contents.told_as(file, draft):
            users = contents.require_whole(draft)
            migrate.upgrade(draft)
            leapt = _change(draft, old, prepare, now)
            sqlite.check(draft)
            contents.require_whole(draft)
        _give_to_owner(draft, target)
        kept = present.replace(old, draft, at)
    return Restored(users, kept, leapt)


def _require_backup(source: Path, target: Path) -> None:
    if not source.is_file():
        raise DatabaseUnavailable(f"{source} is no file.")
    if target.exists() and source.samefile(target):
        raise DatabaseUnavailable(f"{source} is the database itself.")
    for log in present.LOGS:
        beside = source.with_name(f"{source.name}{log}")
        if beside.exists():
            raise DatabaseUnavailable(
                f"{beside} shows that {source.name} is in use, or was not closed. Name it in"
                " DATABASE_URL, and the command `backup` makes a whole file of it."
            )
    driver = sqlite.open_immutable(source)  # before gigabytes of something else are copied
    driver.close()


def _copy(source: Path, draft: Path, tell: Tell) -> None:
    size = source.stat().st_size
    with source.open("rb") as reader, draft.open("wb") as writer:
        while chunk := reader.read(CHUNK):
            writer.write(chunk)
            tell(min(writer.tell(), size), size)


def _change(draft: Path, old: Present, prepare: Prepare, now: int) -> bool:
    """Make the draft fit to be opened, in one transaction; whether ids were left out."""
    with (
        closing(Database(draft)) as database,
        database.connection() as db,
        db.transaction(),
    ):
        handed_out = contents.ids(db.driver)
        known = _ids_since(old, db.driver, handed_out)
        leap = max(LEAP, LEAP_A_SECOND * (now - db.driver.execute(NEWEST).fetchone()["newest"]))
        for table, seq in handed_out.items():
            least = known.get(table, 0) if known is not None else min(seq + leap, MAX_ID)
            _raise(db.driver, table, max(seq, least))
        prepare(db)
    return known is None


def _ids_since(old: Present, backup: Any, handed_out: Ids) -> Ids | None:
    """How far the ids have come since the backup, by the present database.

    None where that one can't be read, or has not come from the same past: there must be a user that
    both have, and no id that the backup has gone past.
    """
    found = present.read_ids(old)
    if found is None or old.driver is None:
        return None
    if any(found.get(table, 0) < seq for table, seq in handed_out.items()):
        return None
    for user in backup.execute("SELECT id, username_key, created_at FROM users ORDER BY id"):
        if old.driver.execute(SAME_USER, user).fetchone():
            return found
    return None


def _raise(driver: Any, table: str, seq: int) -> None:
    driver.execute("DELETE FROM sqlite_sequence WHERE name = :name", {"name": table})
    driver.execute(
        "INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)", {"name": table, "seq": seq}
    )


def _give_to_owner(draft: Path, target: Path) -> None:
    """Let root restore for the service's user."""
    if os.geteuid() == 0:
        owner = (target if target.exists() else target.parent).stat()
        shutil.chown(draft, owner.st_uid, owner.st_gid)
