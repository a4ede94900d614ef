"""How a new password comes in at the command line: typed twice, piped, or made up."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from jwt_server.errors import InvalidFields
from jwt_server.security import policy
from jwt_server.web.service import current_service


def password_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The two other ways for a password to come in."""
    for option, text in (
        ("--generate", "Make up a password, and show it once."),
        ("--password-stdin", "Read the password from standard input."),
    ):
        command = click.option(option, is_flag=True, help=text)(command)
    return command


def new_password(username: str, *, generate: bool, from_stdin: bool) -> str:
    """The password that a user is to have from now on, by the way that the options name.

    Raises InvalidFields where it is not good enough.
    """
    if generate and from_stdin:
        raise click.UsageError("--generate and --password-stdin exclude each other.")
    if generate:
        return policy.generated()
    if from_stdin:
        password = _read_password()
    elif sys.stdin is not None and sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt="The same again")
    else:
        raise click.UsageError(
            "There is no terminal to ask at: use --password-stdin or --generate."
        )
    wrong = policy.complaint(password, username, current_service().settings.password_min_length)
    if wrong is not None:
        raise InvalidFields({"password": [wrong]})
    return str(password)


def _read_password() -> str:
    """Standard input without the line end that `echo` and editors put there."""
    if sys.stdin is None:
        raise click.UsageError("There is no standard input to read the password from.")
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidFields({"password": ["Send it in UTF-8."]}) from error
    return text.removesuffix("\n").removesuffix("\r")
