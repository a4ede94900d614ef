"""`flask users`: accounts, from the command line."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from tabulate import tabulate

from jwt_server import audit
from jwt_server.audit import Action
from jwt_server.auth import attempts, sessions
from jwt_server.cli.base import Group, opened, operator_actor
from jwt_server.cli.new_passwords import new_password, password_options
from jwt_server.database import Row
from jwt_server.errors import UsernameTaken
from jwt_server.users import names, users
from jwt_server.web.schemas import iso
from jwt_server.web.service import current_service

top = Group()

EPILOG = """\b
Examples:
  users add ada                 # asks for the password, twice
  users add ada --generate      # makes one up and shows it
  users passwd ada --password-stdin < file
  users list --search a

\b
Ends with 0 when what was asked for is so now, 1 with the reason when it is refused,
2 for a wrong command line, 3 for wrong settings. Write -- before a NAME that begins
with a dash."""


@top.group("users", cls=Group, epilog=EPILOG)
def commands() -> None:
    """Add, show and change the people who can sign in.

    A NAME is found however its letters are cased. Passwords never stand on the command line,
    where other processes could read them: they are asked for, read from standard input, or
    made up.
    """


@commands.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="Make the user an admin.")
@password_options
def add(name: str, *, admin: bool, generate: bool, password_stdin: bool) -> None:
    """Add a user called NAME.

    A name has 1 to 64 characters; upper and lower case are one name. The password is asked for
    twice unless an option says otherwise.
    """
    service = current_service()
    with opened() as db:
        name = names.validate(name)
        if users.find_by_name(db, name):  # before anybody types a password
            raise UsernameTaken
        password = new_password(name, generate=generate, from_stdin=password_stdin)
        hashed = service.hasher.hash(password)
        user_id = users.add(db, name, hashed, admin=admin, actor=operator_actor())
    click.echo(f"Created: {'admin' if admin else 'user'} {name} (id {user_id})")
    if generate:
        click.echo(f"Password: {password}")


@commands.command("list")
@click.option("--search", default="", metavar="PREFIX", help="Only names that begin so.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as they are read.")
def list_users(search: str, *, as_json: bool) -> None:
    """List the users by name.

    All of them, or those whose names begin with PREFIX. Times are in UTC. The table is lined up
    when all are read, so of very many users --json, which streams, takes less memory.
    """
    with opened() as db:
        found = (_described(user) for user in users.each_by_name(db, search))
        if as_json:
            for user in found:
                click.echo(json.dumps(user))
            return
        rows = [_cells(user) for user in found]
    if rows:
        click.echo(tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=[1]))
    else:
        click.echo(f"No name begins with {search!r:.80}." if search else "There are no users.")


@commands.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="A JSON object.")
def show(name: str, *, as_json: bool) -> None:
    """Show what is known about NAME."""
    with opened() as db:
        user = _described(users.get_by_name(db, name))
    if as_json:
        click.echo(json.dumps(user))
    else:
        click.echo(tabulate(list(_cells(user).items()), tablefmt="plain", disable_numparse=True))


@commands.command()
@click.argument("name")
@password_options
def passwd(name: str, *, generate: bool, password_stdin: bool) -> None:
    """Give NAME another password.

    It is asked for twice unless an option says otherwise. All sessions of NAME end.
    """
    service = current_service()
    with opened() as db:
        user = users.get_by_name(db, name)
        password = new_password(user["username"], generate=generate, from_stdin=password_stdin)
        hashed = service.hasher.hash(password)
        with db.transaction():
            users.set_hash(db, user["id"], hashed, actor=operator_actor())
            ended = sessions.end_all(db, user["id"], service.now())
    click.echo(f"Changed: the password of {user['username']} (sessions ended: {ended})")
    if generate:
        click.echo(f"Password: {password}")


@commands.command()
@click.argument("name")
def promote(name: str) -> None:
    """Make NAME an admin."""
    with opened() as db:
        user = users.set_admin(
            db, users.get_by_name(db, name)["id"], admin=True, actor=operator_actor()
        )
    _say(user, "is an admin", already=bool(user["admin"]))


@commands.command()
@click.argument("name")
def demote(name: str) -> None:
    """Make NAME an admin no longer.

    Refused for the last enabled admin.
    """
    with opened() as db:
        user = users.set_admin(
            db, users.get_by_name(db, name)["id"], admin=False, actor=operator_actor()
        )
    _say(user, "is no admin", already=not user["admin"])


@commands.command()
@click.argument("name")
def enable(name: str) -> None:
    """Let NAME in again."""
    with opened() as db:
        user = users.get_by_name(db, name)
        users.set_disabled(db, user["id"], disabled=False, actor=operator_actor())
    _say(user, "is enabled", already=not user["disabled"])


@commands.command()
@click.argument("name")
def disable(name: str) -> None:
    """Shut NAME out, and keep everything.

    All sessions of NAME end, and no password and no token is taken from now on, by any worker.
    Refused for the last enabled admin.
    """
    with opened() as db:
        user = users.get_by_name(db, name)
        with db.transaction():
            users.set_disabled(db, user["id"], disabled=True, actor=operator_actor())
            sessions.end_all(db, user["id"], current_service().now())
    _say(user, "is disabled", already=bool(user["disabled"]))


@commands.command()
@click.argument("name")
def unlock(name: str) -> None:
    """Forget the wrong passwords that were tried at NAME.

    So whoever had to wait may try again at once: at signing in, and at giving the password of
    somebody who is signed in. An address that has tried too many names waits on.
    """
    with opened() as db:
        user = users.get_by_name(db, name)
        key = names.username_key(user["username"])
        with db.transaction():
            forgotten = attempts.unlock(db, current_service().rate_limits, user["id"], key)
            if forgotten:
                audit.record(db, operator_actor(), Action.USER_UNLOCKED, user["id"])
    _say(user, "is unlocked", already=not forgotten)


@commands.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Don't ask.")
def delete(name: str, *, yes: bool) -> None:
    """Delete NAME, with the pets.

    Asks first, as there is no way back; `users disable` shuts somebody out and keeps everything.
    Refused for the last enabled admin.
    """
    with opened() as db:
        user = users.get_by_name(db, name)
        if not yes and sys.stdin is None:
            raise click.UsageError("There is nobody to ask: use --yes.")
        if not yes:
            click.confirm(f"Delete {user['username']} (id {user['id']}) for ever?", abort=True)
        users.remove(db, user["id"], actor=operator_actor())
    click.echo(f"Deleted: {user['username']} (id {user['id']})")


def _described(user: Row) -> dict[str, Any]:
    """A user as JSON shows one."""
    return {
        "id": user["id"],
        "username": user["username"],
        "admin": bool(user["admin"]),
        "disabled": bool(user["disabled"]),
        "created_at": _time(user["created_at"]),
        "last_sign_in_at": _time(user["last_sign_in_at"]),
    }


def _cells(user: dict[str, Any]) -> dict[str, Any]:
    """A user as a table shows one: words where JSON has true, false and null."""
    words = {True: "yes", False: "no", None: "never"}
    return {
        name.replace("_", " "): words[value] if isinstance(value, bool | None) else value
        for name, value in user.items()
    }


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else iso(seconds)


def _say(user: Row, state: str, *, already: bool) -> None:
    click.echo(f"{user['username']} {state} {'already' if already else 'now'}.")
