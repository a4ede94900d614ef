"""How a new password comes in at the command line: typed twice, piped, or made up."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import click

from jwt_server.errors import InvalidFields
from jwt_server.security import policy
from jwt_server.security.passwords import MAX_CHARACTERS
from jwt_server.web.service import current_service

MOST_BYTES: Final = 4 * MAX_CHARACTERS + len("\r\n")
"""What the longest password may take on standard input, in UTF-8; what has more is too long."""


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
    least = current_service().settings.password_min_length
    if generate and sys.stdout is None:
        raise click.UsageError("There is no standard output to show the password on.")
    if generate:
        return policy.generate_password(least)
    if from_stdin:
        password = _read_password()
    elif sys.stdin is not None and sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt="The same again")
    else:
        raise click.UsageError(
            "There is no terminal to ask at: use --password-stdin or --generate."
        )
    wrong = policy.find_problem(password, username, least)
    if wrong is not None:
        raise InvalidFields({"password": [wrong]})
    return str(password)


def _read_password() -> str:
    """Standard input without the line end that `echo` and editors put there."""
    if sys.stdin is None:
        raise click.UsageError("There is no standard input to read the password from.")
    if sys.stdin.isatty():  # it would be shown as it is typed
        raise click.UsageError("To type the password, leave out --password-stdin.")
    # What is no UTF-8, or was cut here, is refused by the policy.
    text = sys.stdin.buffer.read(MOST_BYTES + 1).decode("utf-8", "surrogateescape")
    return text.removesuffix("\n").removesuffix("\r")
