"""`flask init-db`, `seed`, `db upgrade`, `backup` and `restore`."""

from pathlib import Path
from typing import Final

import click

from jwt_server import audit, migrate, sqlite
from jwt_server import backup as backups
from jwt_server.auth import sessions
from jwt_server.cli.base import Group, Refusal, echo, opened, operator_actor, top
from jwt_server.database import Connection
from jwt_server.users import users
from jwt_server.web.schemas import iso
from jwt_server.web.service import current_service

FILE: Final = click.Path(path_type=Path)


@top.command("init-db")
def init_db() -> None:
    """Create the database with its tables, if there is none."""
    engine = current_service().database.engine
    echo(f"{'Created' if engine.create() else 'Already there'}: {engine.name}")


@top.command()
def seed() -> None:
    """Create the demo user travis, with two pets, if missing.

    The password is mypassword and known to everyone: use it for trying things out only.
    """
    service = current_service()
    with opened() as db:
        is_new = users.add_demo_user(db, service.settings.salt_rounds, service.now())
    echo(f"{'Created' if is_new else 'Already there'}: user {users.DEMO_USERNAME}")


@top.group(cls=Group)
def db() -> None:
    """Maintain the database."""


@db.command()
def upgrade() -> None:
    """Migrate an older database to this release's schema.

    Example: db upgrade

    Stop the service and copy the file first: there is no downgrade. A step is complete or undone,
    so after a kill run it again.
    """
    engine = current_service().database.engine
    for name in migrate.upgrade(engine):
        echo(f"Applied: {name}")
    echo(f"Up to date: {engine.name} has schema version {sqlite.SCHEMA_VERSION}")


@top.command()
@click.argument("file", type=FILE)
def backup(file: Path) -> None:
    """Back up the database while the service runs.

    Example: backup /var/backups/jwt-server-$(date +%F).db

    FILE, which must not exist, is one SQLite file that only its owner can read. It is checked, and
    appears complete or not at all. The secrets are not in it: keep them elsewhere.
    """
    service = current_service()
    now = service.now()
    count = backups.take(_sqlite_file(), file)
    size = file.stat().st_size
    echo(f"Backed up: {file.absolute()} ({size} bytes, {count} users, {iso(now)})")


@top.command()
@click.argument("file", type=FILE)
def restore(file: Path) -> None:
    """Replace the database by a backup.

    Example: restore /var/backups/jwt-server-2026-01-31.db

    Stop the service first. FILE was made by `backup`, in this release or an older one. It is
    checked and not changed. The old database is kept beside the new one, under another name.

    Everyone is signed out, and no ID is used twice. Changes since the backup are lost: change
    passwords, disable and delete users again.
    """
    database, actor, ended = _sqlite_file(), operator_actor(), 0

    def end_sessions(db: Connection) -> None:
        nonlocal ended
        ended = sessions.end_everyones(db, actor.now)
        sessions.end_everyones(db, 0)  # also those that seem expired by a clock that is ahead
        audit.record(db, actor, audit.Action.DATABASE_RESTORED, sessions_ended=ended)

    at = iso(actor.now).replace(":", "")
    count, replaced = backups.restore(file, database, end_sessions, now=actor.now, at=at)
    if replaced:
        echo(f"Kept: {replaced} is the old database")
    echo(f"Restored: {database} ({count} users, sessions ended: {ended})")


def _sqlite_file() -> Path:
    path = current_service().settings.database
    if not isinstance(path, Path):
        raise Refusal("This is for SQLite. For PostgreSQL use pg_dump and pg_restore.")
    return path
