"""The `flask` commands, a module for each group."""

from flask import Flask

from jwt_server.cli import audit, database, doctor, import_koa, keys, sessions, users


def init_app(app: Flask) -> None:
    """Put the commands on `flask --app wsgi`."""
    for module in (audit, database, doctor, import_koa, keys, sessions, users):
        for command in module.top.commands.values():
            app.cli.add_command(command)
