"""What the commands share: how they end, and the database they work on.

A command ends with 0 when what was asked for is so now, 1 with a sentence on standard error
when it was refused, 2 for a wrong command line, and 3 for wrong settings (wsgi.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, Final

import click
from flask.cli import AppGroup

from jwt_server.audit import Actor, operator
from jwt_server.database import Connection
from jwt_server.errors import DatabaseUnavailable, KeysUnavailable, ServiceError
from jwt_server.web.service import current_service

LOST: Final = " The password that was made up is lost, so give another with `users passwd`."


class Command(click.Command):
    """A command that ends with 1 and the reason where the service refuses."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; what is raised for a client becomes a line for the operator."""
        _let_anything_be_written()
        try:
            return super().invoke(ctx)
        except (DatabaseUnavailable, KeysUnavailable) as error:
            raise click.ClickException(error.cause) from error
        except ServiceError as error:
            raise click.ClickException(error.message) from error
        except OSError as error:
            if error.filename is not None:
                raise click.ClickException(f"{error}.") from error
            made_up = bool(ctx.params.get("generate"))
            if isinstance(error, BrokenPipeError) and not made_up:
                raise  # whoever reads has had enough, as `head` has
            # What is left in the buffer would be tried again as Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.ClickException(
                f"The answer can't be written: {error.strerror}. What was asked for may be done."
                + (LOST if made_up else "")
            ) from error


class Group(AppGroup):
    """A group of such commands, each run with the app at hand."""

    command_class = Command


@contextmanager
def opened() -> Iterator[Connection]:
    """A connection to the service's database."""
    with current_service().database.connection() as db:
        yield db


def operator_actor() -> Actor:
    """Who runs this command, for the audit log."""
    return operator(current_service().now())


def _let_anything_be_written() -> None:
    """Write a name that the terminal's encoding lacks as escapes, rather than fail half way."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # None where it is closed
            stream.reconfigure(errors="backslashreplace")
