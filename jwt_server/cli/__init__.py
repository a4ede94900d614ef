"""The `flask` commands, a module for each group."""

from __future__ import annotations

from flask import Flask

from jwt_server.cli import audit, databases, keys, koa, sessions, users


def register(app: Flask) -> None:
    """Put the commands on `flask --app wsgi`."""
    for group in (audit.top, databases.top, keys.top, koa.top, sessions.top, users.top):
        for command in group.commands.values():
            app.cli.add_command(command)
