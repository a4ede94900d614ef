"""`flask init-db`, `seed`, `db upgrade`, `db restored`, `backup` and `restore`."""

from pathlib import Path
from typing import Final

import click

from jwt_server import audit, migrate, sqlite
from jwt_server import backup as backups
from jwt_server.auth import sessions
from jwt_server.cli.base import Group, Refusal, echo, opened, operator_actor, sqlite_file, top
from jwt_server.database import Connection
from jwt_server.security.primitives import MAX_ID
from jwt_server.users import users
from jwt_server.web.schemas import iso
from jwt_server.web.service import current_service

FILE: Final = click.Path(path_type=Path)

DUMP: Final = "  pg_dump --format=custom --file=FILE --dbname={}"
RESTORE: Final = """\
  pg_restore --single-transaction --clean --if-exists --no-owner --dbname={} FILE
  flask --app jwt_server.wsgi db restored

Stop the service on all hosts first."""


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


@db.command()
def restored() -> None:
    """Finish a restore with pg_restore: end all sessions, and use no ID twice.

    Example: db restored

    Run it before the service starts. Changes since the dump are lost: change passwords, disable
    and delete users again.
    """
    if isinstance(current_service().database.where, Path):
        raise Refusal("This is for PostgreSQL. For SQLite, `restore` does it.")
    actor = operator_actor()
    start, leap = actor.now * backups.IDS_PER_SECOND, backups.MIN_ID_LEAP
    with opened() as db, db.transaction():
        db.queries.cli.advance_ids(leap=leap, start=start, max_id=MAX_ID)
        ended = _end_sessions(db, actor)
    echo(f"Ready: sessions ended: {ended}")


def _end_sessions(db: Connection, actor: audit.Actor) -> int:
    """Sign everyone out of a restored database, record it, and return the number of sessions."""
    ended = sessions.end_everyones(db, actor.now)
    sessions.end_everyones(db, 0)  # also those that seem expired by a clock that is ahead
    audit.record(db, actor, audit.Action.DATABASE_RESTORED, sessions_ended=ended)
    return ended


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
    count = backups.take(sqlite_file(DUMP), file)
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
    database, actor, ended = sqlite_file(RESTORE), operator_actor(), 0

    def end_sessions(db: Connection) -> None:
        nonlocal ended
        ended = _end_sessions(db, actor)

    at = iso(actor.now).replace(":", "")
    count, replaced = backups.restore(file, database, end_sessions, now=actor.now, at=at)
    if replaced:
        echo(f"Kept: {replaced} is the old database")
    echo(f"Restored: {database} ({count} users, sessions ended: {ended})")
