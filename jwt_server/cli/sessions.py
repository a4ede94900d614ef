"""`flask sessions` and `flask prune`: sign users out, delete expired rows."""

from typing import Final

import click

from jwt_server import audit
from jwt_server.auth import attempts
from jwt_server.auth import sessions as auth_sessions
from jwt_server.cli.base import Group, echo, opened, operator_actor, top
from jwt_server.users import users
from jwt_server.web.service import audit_cutoff, current_service

PRUNE_BATCH: Final = 1000
"""Rows per transaction, so that the service can write in between."""


@top.group(cls=Group)
def sessions() -> None:
    """Sign users out."""


@sessions.command()
@click.option("--user", "name", metavar="NAME", help="End the sessions of this user.")
@click.option("--all", "everyone", is_flag=True, help="End the sessions of all users.")
def end(name: str | None, *, everyone: bool) -> None:
    """End the sessions of one user, or of all users.

    Example: sessions end --user ada

    The service refuses their tokens at once. Other services that verify access tokens accept them
    until they expire.
    """
    if everyone == (name is not None):
        raise click.UsageError("Use either --user NAME or --all.")
    with opened() as db:
        if name is None:
            ended = auth_sessions.sign_out_everyone(db, actor=operator_actor())
        else:
            user_id = users.get_by_name(db, name)["id"]
            ended = auth_sessions.sign_out_all(db, user_id, actor=operator_actor())
    echo(f"Ended: {ended} {'session' if ended == 1 else 'sessions'}")


@top.command()
def prune() -> None:
    """Delete expired rows now.

    Example: prune

    Deletes sessions that ended or expired more than a day ago, expired counts of password attempts,
    addresses without a sign-in for 30 days, and audit rows older than AUDIT_RETENTION. The running
    service deletes them, too, a few at a time.
    """
    now = current_service().now()
    kinds = (
        ("sessions", auth_sessions.prune, now),
        ("attempt counts", attempts.prune, now),
        ("addresses", attempts.prune_addresses, now),
        ("audit rows", audit.prune, audit_cutoff()),
    )
    with opened() as db:
        for label, prune_batch, time in kinds:
            deleted = 0
            while batch := prune_batch(db, time, PRUNE_BATCH):
                deleted += batch
            echo(f"Deleted: {deleted} {label}")
