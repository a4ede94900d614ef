"""`flask users`: manage accounts."""

import json
import sys
from typing import Any

import click

from jwt_server.auth import attempts
from jwt_server.cli.base import (
    Group,
    echo,
    echo_json,
    json_option,
    opened,
    operator_actor,
    print_rows,
    top,
)
from jwt_server.database import Row
from jwt_server.errors import UsernameTaken
from jwt_server.logs import printable
from jwt_server.security import policy
from jwt_server.security.primitives import load_json
from jwt_server.users import names, users
from jwt_server.users.claims import encode as encode_claims
from jwt_server.web.schemas import iso
from jwt_server.web.service import current_service

EXAMPLES = """\b
Examples:
  users add ada                         # prompts for a password
  users add ada --generate              # prints a random one
  users passwd ada --password-stdin < file
  users list --search a"""

generate_option = click.option("--generate", is_flag=True, help="Print and set a random password.")
stdin_option = click.option("--password-stdin", is_flag=True, help="Read it from standard input.")


@top.group("users", cls=Group, epilog=EXAMPLES)
def commands() -> None:
    """Manage accounts.

    Upper and lower case in NAME don't matter. Write -- before a NAME that begins with a dash.
    Passwords are never arguments, which other processes can read.
    """


@commands.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="Make the user an admin.")
@generate_option
@stdin_option
def add(name: str, *, admin: bool, generate: bool, password_stdin: bool) -> None:
    """Add a user.

    Example: users add ada --admin

    NAME has 1 to 64 characters. Prompts for the password, unless an option says otherwise.
    """
    with opened() as db:
        name = names.validate(name)
        if users.find_by_name(db, name):  # before a password is typed
            raise UsernameTaken
        password = _new_password(name, generate=generate, from_stdin=password_stdin)
        hashed = current_service().hasher.hash(password)
        user_id = users.add(db, name, hashed, actor=operator_actor(), admin=admin)
    echo(f"Created: {'admin' if admin else 'user'} {name} (id {user_id})")


@commands.command("list")
@click.option("--search", default="", metavar="PREFIX", help="Only names that begin with PREFIX.")
@json_option
def list_users(search: str, *, as_json: bool) -> None:
    """List users in the order of their names.

    Example: users list --search a

    Times are in UTC. With very many users, --json takes less memory.
    """
    with opened() as db:
        print_rows(map(_described, users.each_by_name(db, search)), as_json=as_json)


@commands.command()
@click.argument("name")
@json_option
def show(name: str, *, as_json: bool) -> None:
    """Show one user.

    Example: users show ada
    """
    with opened() as db:
        user = users.get_by_name(db, name)
    expiry = user["password_expires_at"]
    more = {
        "password_expires_at": expiry and iso(expiry),
        "claims": json.loads(user["claims"]) if as_json else user["claims"],
    }
    print_rows([_described(user) | more], as_json=as_json)


@commands.command()
@click.argument("name")
@generate_option
@stdin_option
def passwd(name: str, *, generate: bool, password_stdin: bool) -> None:
    """Set a user's password, and end all sessions of the user.

    Example: users passwd ada --generate

    Prompts for the password, unless an option says otherwise.
    """
    with opened() as db:
        user = users.get_by_name(db, name)
        password = _new_password(user["username"], generate=generate, from_stdin=password_stdin)
        hashed = current_service().hasher.hash(password)
        ended = users.set_password(db, user["id"], hashed, actor=operator_actor())
    echo(f"Changed: the password of {user['username']} (sessions ended: {ended})")


@commands.command("claims")
@click.argument("name")
@click.argument("claims", metavar="[JSON]", required=False)
def set_claims(name: str, claims: str | None) -> None:
    """Show or set the custom claims in a user's access tokens.

    Example: users claims ada '{"role": "editor"}'

    JSON is an object of at most 1024 bytes; it replaces all claims, and {} removes them. They are
    in the tokens from the next sign-in or refresh on.
    """
    with opened() as db:
        user = users.get_by_name(db, name)
        if claims is not None:
            user["claims"] = _parsed_claims(claims)
            users.set_claims(db, user["id"], claims=user["claims"], actor=operator_actor())
    echo_json(json.loads(user["claims"]))


def _parsed_claims(text: str) -> str:
    try:
        return encode_claims(load_json(text.encode(errors="surrogateescape")))
    except ValueError as error:
        raise click.UsageError(
            f'{error} Write an object such as \'{{"role": "editor"}}\'.'
        ) from error


def _add_switch(command: str, summary: str, state: str, **flag: bool) -> None:
    """Add a command that sets `admin` or `disabled`."""

    @commands.command(command, help=f"{summary}\n\nExample: users {command} ada")
    @click.argument("name")
    def switch(name: str) -> None:
        with opened() as db:
            user = users.get_by_name(db, name)
            users.change(db, user["id"], flag, actor=operator_actor())
        echo(f"{user['username']} {state} now.")


DISABLE = "Disable a user: end all sessions, refuse passwords and tokens."
LAST_ADMIN = "Refused for the last enabled admin."
_add_switch("promote", "Make a user an admin.", "is an admin", admin=True)
_add_switch("demote", f"Take admin rights away. {LAST_ADMIN}", "is not an admin", admin=False)
_add_switch("enable", "Let a disabled user sign in again.", "is enabled", disabled=False)
_add_switch("disable", f"{DISABLE} {LAST_ADMIN}", "is disabled", disabled=True)


@commands.command()
@click.argument("name")
def unlock(name: str) -> None:
    """Clear the failed password attempts at a user's account.

    Example: users unlock ada

    Limits of addresses, from which many names were tried, are not cleared.
    """
    with opened() as db:
        user = users.get_by_name(db, name)
        attempts.unlock(db, current_service().rate_limits, user, actor=operator_actor())
    echo(f"{user['username']} is unlocked now.")


@commands.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def delete(name: str, *, yes: bool) -> None:
    """Delete a user with all pets and sessions. There is no undo.

    Example: users delete ada

    Refused for the last enabled admin.
    """
    with opened() as db:
        user = users.get_by_name(db, name)
        label = printable(f"{user['username']} (id {user['id']})")
        if not yes:
            click.confirm(f"Delete {label} permanently?", abort=True)
        users.remove(db, user["id"], actor=operator_actor())
    echo(f"Deleted: {label}")


def _new_password(username: str, *, generate: bool, from_stdin: bool) -> str:
    """Print a random new password, read one, or prompt for it. Raises InvalidFields if weak."""
    min_length = current_service().settings.password_min_length
    if generate and from_stdin:
        raise click.UsageError("--generate and --password-stdin exclude each other.")
    if generate:
        password = policy.generate_password(min_length)
        echo(f"Password: {password}")  # before it is stored, so that it can't be lost
        return password
    if from_stdin == sys.stdin.isatty():  # a terminal would display it
        raise click.UsageError(
            "Type the password at a terminal, or use --password-stdin with a file or pipe."
        )
    if from_stdin:
        sent = sys.stdin.buffer.read(8192)  # more than the longest password
        password = sent.decode("utf-8-sig", "surrogateescape").removesuffix("\n").removesuffix("\r")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    policy.validate(password, username, min_length)
    return password


def _described(user: Row) -> dict[str, Any]:
    flags = {name: bool(user[name]) for name in ("admin", "disabled")}
    last = user["last_sign_in_at"]
    times = {"created_at": iso(user["created_at"]), "last_sign_in_at": last and iso(last)}
    return {"id": user["id"], "username": user["username"], **flags, **times}
