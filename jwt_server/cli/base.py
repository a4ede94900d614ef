"""What the commands share: exit codes, and the service's database.

A command ends with 0 when done, 1 with the reason on standard error when refused, 2 for a wrong
command line, and 3 for wrong settings (wsgi.py).
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final

import click
from flask.cli import AppGroup
from tabulate import tabulate

from jwt_server.audit import Actor
from jwt_server.database import Connection
from jwt_server.errors import ServiceError
from jwt_server.logs import printable
from jwt_server.web.service import current_service

HEADINGS: Final = {
    "created_at": "created at",
    "last_sign_in_at": "last sign-in",
    "password_expires_at": "password expires",
}
"""Headings of tables that differ from the names in JSON."""

OK, NOTE, WARNING, UNSAFE = "ok", "note", "WARNING", "UNSAFE"
"""Levels of what `doctor` finds. The service should not run with anything UNSAFE."""

Finding = tuple[str, str, str]
"""A level, a text, and advice or ""."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print a JSON object per line.")


class Refusal(click.ClickException):
    """The reason why a command ends with exit code 1."""

    def format_message(self) -> str:
        """Return it safe to print, as it may have names from a database."""
        return "\n".join(map(printable, self.message.split("\n")))


def echo(line: str, *, err: bool = False) -> None:
    """Print a line, with control characters made visible: a name could steer the terminal."""
    click.echo(printable(line), err=err)


def echo_json(value: Mapping[str, Any]) -> None:
    """Print a line of JSON in ASCII, with control characters escaped."""
    click.echo(json.dumps(value).replace("\x7f", r"\u007f"))


class Command(click.Command):
    """A command that ends with exit code 1 on errors of the service and of files."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        if isinstance(sys.stdout, TextIOWrapper):  # escape what the terminal's encoding lacks
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except ServiceError as error:
            raise Refusal(str(error)) from error
        except BrokenPipeError:
            raise  # click ends silently: the reader had enough, as `head` has
        except OSError as error:
            if error.filename is None:  # Python would write buffered output again at exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Refusal(f"{error}.") from error


class Group(AppGroup):
    """A group of such commands, each run in the app's context."""

    command_class = Command


top = Group()
"""The commands of the first level; each module adds its own."""


def opened() -> AbstractContextManager[Connection]:
    """Open a connection to the service's database."""
    return current_service().database.connection()


def sqlite_file(instead: str) -> Path:
    """Return the path of the SQLite file; else refuse, and name the commands to use instead.

    `{}` in them stands for how to connect.
    """
    database = current_service().database
    if isinstance(database.where, Path):
        return database.where
    commands = instead.format(database.engine.address)
    raise Refusal(f"This is for SQLite. For PostgreSQL:\n\n{commands}")


def operator_actor() -> Actor:
    """Return the actor of the audit log who runs this command."""
    return Actor(None, None, current_service().now())


def print_rows(rows: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print a JSON object per row as soon as it is read, or a table when all are read."""
    if as_json:
        for row in rows:
            echo_json(row)
        return
    cells = [{name: _cell(value) for name, value in row.items()} for row in rows]
    table = tabulate(cells, headers=HEADINGS, tablefmt="simple", disable_numparse=True)
    click.echo(table if cells else "Nothing found.")


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else printable(str(value))
