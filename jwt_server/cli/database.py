"""The commands that create, upgrade, seed, back up and restore the database."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from jwt_server import audit, backup, migrate, sqlite
from jwt_server.audit import Action
from jwt_server.auth import sessions
from jwt_server.backup import Progress
from jwt_server.cli.base import Group, opened, operator_actor
from jwt_server.database import Connection
from jwt_server.users import demo
from jwt_server.web.schemas import iso
from jwt_server.web.service import current_service

top = Group()

FILE: Final = click.Path(path_type=Path)


@top.command("init-db")
def init_db() -> None:
    """Create the database with its tables, unless it exists."""
    path = current_service().settings.database
    created = sqlite.create(path)
    click.echo(f"{'Created' if created else 'Already there'}: {path}")


@top.command()
def seed() -> None:
    """Create the demo user travis, with two pets, unless it exists.

    The password is mypassword and everyone knows it: use it for trying things out only.
    """
    service = current_service()
    with opened() as db:
        created = demo.add_demo_user(db, service.settings.salt_rounds, service.now())
    click.echo(f"{'Created' if created else 'Already there'}: user {demo.USERNAME}")


@top.group("db", cls=Group)
def commands() -> None:
    """Maintain the database."""


@commands.command()
@click.option("--break-lock", is_flag=True, help="Continue after an upgrade was killed.")
def upgrade(*, break_lock: bool) -> None:
    """Upgrade an older database to this release's schema.

    Stop the service first, and keep a copy of the file: it is the only way back. Each step is
    done completely or not at all.
    """
    path = current_service().settings.database
    for name in migrate.upgrade(path, break_lock=break_lock):
        click.echo(f"Applied: {name}")
    click.echo(f"Up to date: {path} has schema version {sqlite.SCHEMA_VERSION}")


@top.command("backup")
@click.argument("file", type=FILE)
def back_up(file: Path) -> None:
    """Back up the database, while the service runs.

    Example: backup /var/backups/jwt-server-$(date +%F).db

    FILE must not exist. It is one SQLite file with all that the database held when the command
    began, readable by its owner alone, and verified before it appears. The secrets are not in it:
    keep them elsewhere.
    """
    service = current_service()
    now = service.now()
    with _progress_bar("Backing up") as progress:
        made = backup.take(service.settings.database, file, progress)
    click.echo(f"Backed up: {made.path} ({made.size} bytes, {made.users} users, {iso(now)})")


@top.command()
@click.argument("file", type=FILE)
def restore(file: Path) -> None:
    """Replace the database by a backup.

    Example: restore /var/backups/jwt-server-2026-11-28.db

    Stop the service first. FILE was made by `backup`, in this release or an older one; it is
    verified and not changed. The old database is kept beside the new one, under another name.

    Every session ends, and no id that was ever used is used again. Everything else is as it was at
    the backup: change passwords, and disable and delete users, once more if that was done since.
    """
    service = current_service()
    ended: list[int] = []
    timestamp = iso(service.now()).replace(":", "")
    with _progress_bar("Restoring") as progress:
        done = backup.restore(
            file,
            service.settings.database,
            lambda db: ended.append(_end_sessions(db)),
            now=service.now(),
            timestamp=timestamp,
            progress=progress,
        )
    if done.kept:
        click.echo(f"Kept: {done.kept} is the old database")
    click.echo(f"Restored: {done.path} ({done.users} users, sessions ended: {sum(ended)})")


def _end_sessions(db: Connection) -> int:
    """End every session of a restored database; return how many were active."""
    actor = operator_actor()
    ended = sessions.end_everyones(db, actor.now)
    sessions.end_everyones(db, 0)  # a wrong clock, ahead, takes active sessions for expired
    audit.record(db, actor, Action.DATABASE_RESTORED, sessions_ended=ended)
    return ended


@contextmanager
def _progress_bar(label: str) -> Iterator[Progress]:
    """Show a progress bar on a terminal."""
    hidden = not (sys.stderr and sys.stderr.isatty())
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=hidden) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield progress
