"""`flask audit`: read the audit log."""

import json
import sys
from typing import Any, Final

import click

from jwt_server import audit as audit_log
from jwt_server.cli.base import json_option, opened, print_rows, top
from jwt_server.database import Connection, Row
from jwt_server.security.primitives import parse_id
from jwt_server.users import users
from jwt_server.web.schemas import iso

ACTIONS: Final = click.Choice([each.value for each in audit_log.Action])


@top.command()
@click.option("--user", "name", metavar="NAME", help="Only what was done to this user, or id.")
@click.option("--action", type=ACTIONS, metavar="ACTION", help="Only this action.")
@click.option(
    "--limit", default=50, type=click.IntRange(1, sys.maxsize), help="Number of rows (default 50)."
)
@json_option
def audit(name: str | None, action: str | None, limit: int, *, as_json: bool) -> None:
    """Show the audit log, newest first.

    Example: audit --user ada --action sign_in_failed

    Lists sign-ins, failed sign-ins, lockouts, and changes to accounts, sessions and keys. Times are
    in UTC. Rows of commands have no address. Rows of a deleted user have neither name nor address,
    but the id, which --user takes.
    """
    with opened() as db:
        user_id = None if name is None else _user_id(db, name)
        rows = audit_log.page(db, audit_log.Selection(user_id=user_id, action=action), limit)
    print_rows(map(_json_of if as_json else _text_of, rows), as_json=as_json)


def _user_id(db: Connection, name: str) -> int:
    if not users.find_by_name(db, name) and (user_id := parse_id(name)):
        return user_id
    return int(users.get_by_name(db, name)["id"])


def _json_of(row: Row) -> dict[str, Any]:
    columns = ("id", "at", "action", "actor_id", "user_id", "address", "details")
    return {column: row[column] for column in columns} | {"at": iso(row["at"])}


def _text_of(row: Row) -> dict[str, str]:
    details = (f"{name}={json.dumps(value)}" for name, value in row["details"].items())
    return {
        "at": iso(row["at"]),
        "action": row["action"],
        "user": _label(row["user_id"], row["username"]),
        "by": _label(row["actor_id"], row["actor"]),
        "address": row["address"] or "",
        "details": " ".join(details),
    }


def _label(user_id: int | None, name: str | None) -> str:
    return "" if user_id is None else f"{name or ''} ({user_id})".strip()
