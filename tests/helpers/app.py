"""Types of the fixtures that make apps."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask

MakeApp = Callable[..., Flask]
"""Makes an app of the tests' settings; by name, the settings that differ."""


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
