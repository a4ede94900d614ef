"""`flask sessions` and `flask prune`: signing people out, and clearing away what is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import click

from jwt_server import audit
from jwt_server.auth import attempts
from jwt_server.auth import sessions as auth_sessions
from jwt_server.cli.base import Group, opened, operator_actor
from jwt_server.database import Connection
from jwt_server.users import users
from jwt_server.web.service import audit_cutoff, current_service

top = Group()

BATCH = 1000
"""So many rows go in one transaction, so that others get their turn to write."""

OVER: Final[Mapping[str, Callable[[Connection, int, int], int]]] = {
    "dead sessions": auth_sessions.prune,
    "counts of tries": attempts.prune,
    "old addresses": attempts.prune_addresses,
    "rows of the audit log": lambda db, _now, most: audit.prune(db, audit_cutoff(), most),
}


@top.group(cls=Group)
def sessions() -> None:
    """Sign people out."""


@sessions.command()
@click.option("--user", "name", metavar="NAME", help="The sessions of this user.")
@click.option("--all", "everyones", is_flag=True, help="Everyone's.")
def end(name: str | None, *, everyones: bool) -> None:
    """End sessions: those of one user, or everyone's.

    Their tokens are refused by this service from now on; a service that verifies tokens by itself
    takes them until they expire.
    """
    if everyones == (name is not None):
        raise click.UsageError("Say either --user NAME or --all.")
    with opened() as db:
        if name is None:
            ended = auth_sessions.sign_out_all(db, None, actor=operator_actor())
        else:
            user_id = users.get_by_name(db, name)["id"]
            ended = auth_sessions.sign_out_all(db, user_id, actor=operator_actor())
    click.echo(f"Ended: {ended} {'session' if ended == 1 else 'sessions'}")


@top.command()
def prune() -> None:
    """Delete what is over.

    Sessions that ended or expired more than a day ago, counts of tries that are forgotten,
    addresses that nobody has signed in from for 30 days, and rows of the audit log that are older
    than AUDIT_RETENTION. The service does so by and by; this does it at once, while it runs.
    """
    now = current_service().now()
    with opened() as db:
        for what, clear_away in OVER.items():
            cleared = sum(iter(partial(clear_away, db, now, BATCH), 0))
            click.echo(f"Deleted: {cleared} {what}")
