"""Types of the fixtures that make apps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from flask import Flask

from jwt_server.config import Settings

MakeApp = Callable[..., Flask]
"""Makes an app of the tests' settings; by name, the settings that differ."""

IdleApps = defaultdict[Settings, list[Flask]]
"""Apps that no test uses, by their settings."""


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
