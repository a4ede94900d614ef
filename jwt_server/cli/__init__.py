"""The `flask` commands, a module for each group."""

from flask import Flask

from jwt_server.cli import audit, database, doctor, import_koa, keys, sessions, users  # noqa: F401 - they add their commands to `top`
from jwt_server.cli.base import top


def init_app(app: Flask) -> None:
    """Put the commands on `flask --app wsgi`."""
    for command in top.commands.values():
        app.cli.add_command(command)
