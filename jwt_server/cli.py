"""The `flask` commands."""

from __future__ import annotations

import click
from flask import Flask
from flask.cli import with_appcontext

from jwt_server import sqlite
from jwt_server.accounts import demo
from jwt_server.errors import DatabaseUnavailable
from jwt_server.web.service import current_service


@click.command("init-db")
@with_appcontext
def init_db() -> None:
    """Create the database with its tables, where there is none."""
    path = current_service().settings.database
    try:
        made = sqlite.create(path)
    except DatabaseUnavailable as error:
        raise click.ClickException(error.cause) from error
    click.echo(f"{'Created' if made else 'Already there'}: {path}")


@click.command()
@with_appcontext
def seed() -> None:
    """Create the demo user travis, with two pets, where missing.

    The password is mypassword and known to everyone: for trying things out only.
    """
    service = current_service()
    try:
        with service.database.connection() as db:
            made = demo.add_demo_user(db, service.settings.salt_rounds, service.now())
    except DatabaseUnavailable as error:
        raise click.ClickException(error.cause) from error
    click.echo(f"{'Created' if made else 'Already there'}: user {demo.USERNAME}")


def register(app: Flask) -> None:
    """Put the commands on `flask --app wsgi`."""
    app.cli.add_command(init_db)
    app.cli.add_command(seed)
