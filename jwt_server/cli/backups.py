"""`flask backup` and `flask restore`: a copy of the database, and its way back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from jwt_server import audit
from jwt_server.audit import Action, Actor
from jwt_server.auth import sessions
from jwt_server.backups import restore as back
from jwt_server.backups import take
from jwt_server.cli.base import Group, operator_actor
from jwt_server.database import Connection
from jwt_server.web.schemas import iso
from jwt_server.web.service import current_service

top = Group()

FILE: Final = click.Path(path_type=Path)


@top.command()
@click.argument("file", type=FILE)
def backup(file: Path) -> None:
    """Make a backup of the database, while the service runs.

    FILE, which must not be there yet, is one SQLite file with all that the database held as this
    began. Nobody waits meanwhile. It is readable by its owner alone, is read through before it
    appears, and appears whole or not at all. The secrets are not in it: keep them elsewhere.
    """
    service = current_service()
    now = service.now()
    with _told("Backing up") as tell:
        made = take.take(service.settings.database, file, tell)
    click.echo(f"Backed up: {made.path} ({made.size} bytes, {made.users} users, {iso(now)})")


@top.command()
@click.argument("file", type=FILE)
def restore(file: Path) -> None:
    """Put a backup in the place of the database.

    Stop the service first. FILE is one that `backup` has made, in this release or an older one; it
    is read through, and stays as it is. The database that was there is kept beside, under another
    name.

    Everyone is signed out, and ids that were ever handed out are not handed out again. All else is
    as it was at the backup: so change passwords, disable and delete once more where that was done
    since.
    """
    service = current_service()
    database, actor = service.settings.database, operator_actor()
    ended: list[int] = []
    with _told("Restoring") as tell:
        done = back.restore(
            file, database, lambda db: ended.append(_prepare(db, actor)),
            now=actor.now, at=iso(actor.now).replace(":", ""), tell=tell,
        )  # fmt: skip
    if done.leapt:
        click.echo(
            "How far the ids had come since can't be told from a present database, so the next ones"
            " are far higher."
        )
    if done.kept:
        click.echo(f"Kept: {done.kept} is the database that was there")
    click.echo(f"Restored: {database} ({done.users} users, sessions ended: {sum(ended)})")


def _prepare(db: Connection, actor: Actor) -> int:
    """What is changed in a restored database, in one transaction, before anybody can open it.

    How many live sessions were ended.
    """
    ended = sessions.end_everyones(db, actor.now)
    sessions.end_everyones(db, 0)  # a clock that is ahead takes live ones for expired
    audit.record(db, actor, Action.DATABASE_RESTORED, sessions_ended=ended)
    return ended


@contextmanager
def _told(label: str) -> Iterator[take.Tell]:
    """A bar that shows how far it is, on a terminal."""
    hidden = not (sys.stderr and sys.stderr.isatty())
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=hidden) as bar:

        def tell(done: int, of: int) -> None:
            bar.length = of
            bar.update(done - bar.pos)

        yield tell
