"""`flask audit`: the audit log, read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import click
from tabulate import tabulate

from jwt_server import audit as audit_log
from jwt_server.cli.base import Group, opened
from jwt_server.database import Connection, Row
from jwt_server.security.primitives import MAX_ID
from jwt_server.users import users
from jwt_server.web.schemas import iso

top = Group()

ACTIONS: Final = [each.value for each in audit_log.Action]

PAGE: Final = 1000
"""So many rows are read at a time."""


@top.command()
@click.option("--user", "who", metavar="NAME", help="What was done to this user: a name, or an id.")
@click.option("--action", type=click.Choice(ACTIONS), metavar="ACTION", help="Only this.")
@click.option("--limit", default=50, type=click.IntRange(1), help="So many rows at the most; 50.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as they are read.")
def audit(who: str | None, action: str | None, limit: int, *, as_json: bool) -> None:
    """Show the audit log, the newest first.

    Who did what to whom, when and from where: signing in and failing to, lockouts, and every
    change to accounts, sessions and keys. Times are in UTC. A row without an address was written by
    a command, or is of a user who was deleted; of them the id is left, which --user takes.
    """
    with opened() as db:
        user_id = None if who is None else _id_of(db, who)
        rows = islice(_rows(db, user_id, action), limit)
        if as_json:
            for row in rows:
                click.echo(json.dumps(_object(row)))
            return
        cells = [_cells(row) for row in rows]
    if cells:
        click.echo(tabulate(cells, headers="keys", tablefmt="simple", disable_numparse=True))
    else:
        click.echo("There are no such rows." if who or action else "The audit log is empty.")


def _id_of(db: Connection, who: str) -> int:
    user = users.find_by_name(db, who)
    if user is None and who.isascii() and who.isdecimal() and int(who) <= MAX_ID:
        return int(who)
    return int(users.get_by_name(db, who)["id"])


def _rows(db: Connection, user_id: int | None, action: str | None) -> Iterator[Row]:
    before = sys.maxsize
    while rows := audit_log.page(db, user_id=user_id, action=action, before=before, limit=PAGE):
        yield from rows
        before = rows[-1]["id"]


def _object(row: Row) -> dict[str, Any]:
    """A row as JSON shows one."""
    names = ("id", "at", "action", "actor_id", "user_id", "address", "details")
    return {name: iso(row[name]) if name == "at" else row[name] for name in names}


def _cells(row: Row) -> dict[str, str]:
    """A row as a table shows one."""
    details = (f"{name}={json.dumps(value)}" for name, value in row["details"].items())
    return {
        "at": iso(row["at"]),
        "action": row["action"],
        "user": _shown(row["user_id"], row["username"]),
        "by": _shown(row["actor_id"], row["actor"]),
        "address": row["address"] or "",
        "details": " ".join(details),
    }


def _shown(user_id: int | None, name: str | None) -> str:
    if user_id is None:
        return ""
    return f"{name} ({user_id})" if name else f"({user_id})"
