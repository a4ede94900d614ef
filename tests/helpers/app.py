"""Types of the fixtures that make apps, and the commands of an app."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import click
from flask import Flask

from jwt_server.config import Settings

MakeApp = Callable[..., Flask]
"""Makes an app of the tests' settings; by name, the settings that differ."""

IdleApps = defaultdict[Settings, list[Flask]]
"""Apps that no test uses, by their settings."""


def commands_of(group: click.Group) -> dict[str, click.Command]:
    """The commands of a group, imported if they are not yet."""
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command}


class Clock:
    """Unix time that moves when a test says so."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.time = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds
