"""The commands that make the database, bring it up to date, and put the demo data into it."""

from __future__ import annotations

import click

from jwt_server import migrate, sqlite
from jwt_server.cli.base import Group, opened
from jwt_server.users import demo
from jwt_server.web.service import current_service

top = Group()


@top.command("init-db")
def init_db() -> None:
    """Create the database with its tables, where there is none."""
    path = current_service().settings.database
    made = sqlite.create(path)
    click.echo(f"{'Created' if made else 'Already there'}: {path}")


@top.command()
def seed() -> None:
    """Create the demo user travis, with two pets, where missing.

    The password is mypassword and known to everyone: for trying things out only.
    """
    service = current_service()
    with opened() as db:
        made = demo.add_demo_user(db, service.settings.salt_rounds, service.now())
    click.echo(f"{'Created' if made else 'Already there'}: user {demo.USERNAME}")


@top.group(cls=Group)
def db() -> None:
    """Care for the database."""


@db.command()
@click.option("--break-lock", is_flag=True, help="Go on where an upgrade was killed.")
def upgrade(*, break_lock: bool) -> None:
    """Bring an older database to this release's schema.

    Stop the service first, and keep a copy of the file: there is no way back but the copy.
    Each step is done whole or not at all, and what is up to date is left alone.
    """
    path = current_service().settings.database
    for name in migrate.upgrade(path, break_lock=break_lock):
        click.echo(f"Applied: {name}")
    click.echo(f"Up to date: {path} has schema version {sqlite.SCHEMA_VERSION}")
