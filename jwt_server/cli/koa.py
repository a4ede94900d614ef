"""`flask import-koa`: the users and pets of the original server."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from jwt_server.cli.base import Group, opened
from jwt_server.koa import original
from jwt_server.koa.bring import Refused, bring_over
from jwt_server.web.service import current_service

top = Group()


@top.command("import-koa")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_koa(file: Path) -> None:
    """Bring over the original server's users and pets.

    FILE is its SQLite database. Ids, names and password hashes are kept, so that everybody signs in
    as before. Nothing is brought over, and every reason listed, where one row can't be: its id or
    name is taken (names are compared without case), its hash is unusable or costs more than 15, a
    pet's name is empty or over 100 characters.

    Nobody can sign in meanwhile, so stop the service; and best start with a new database, without
    the demo user.
    """
    try:
        with original.opened(file) as source, opened() as db:
            length = source.count()
            with click.progressbar(length=length, label="Importing", file=sys.stderr) as bar:
                users, pets = bring_over(db, source, current_service().now(), lambda: bar.update(1))
    except original.NotTheOriginals as error:
        raise click.ClickException(str(error)) from error
    except Refused as refusal:
        for reason in refusal.reasons:
            click.echo(reason, err=True)
        raise click.ClickException(
            f"Nothing was imported, for the reasons above ({len(refusal.reasons)})."
        ) from refusal
    click.echo(f"Imported: {users} users, {pets} pets")
