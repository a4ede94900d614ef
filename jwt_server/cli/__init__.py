"""The `flask` commands, a module for each group."""

from importlib import import_module
from typing import Final

import click
from flask import Flask
from flask.cli import AppGroup

MODULES: Final = {
    "audit": "audit",
    "backup": "database",
    "copy-to": "copy_to",
    "db": "database",
    "doctor": "doctor",
    "import-koa": "import_koa",
    "init-db": "database",
    "keys": "keys",
    "prune": "sessions",
    "restore": "database",
    "seed": "database",
    "sessions": "sessions",
    "users": "users",
}
"""The module of each command of the first level."""


class Commands(AppGroup):
    """Imports a command's module when it is used: the service needs none, and some take long."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(MODULES)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return a command, or None if there is none of that name."""
        if name not in MODULES:
            return None
        top: click.Group = import_module(f"{__name__}.{MODULES[name]}").top
        return top.get_command(ctx, name)


def init_app(app: Flask) -> None:
    """Put the commands on `flask --app wsgi`."""
    app.cli = Commands(app.name)
