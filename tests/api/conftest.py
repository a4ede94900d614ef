"""Shares apps among the tests of routes, as creating one costs more than most tests.

The database is a new file for each test, at one path.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from jwt_server.app import create_app
from jwt_server.config import Settings
from jwt_server.web.service import EXTENSION
from tests.helpers.app import Clock, MakeApp

IdleApps = defaultdict[Settings, list[Flask]]


@pytest.fixture(scope="session")
def database_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("database")


@pytest.fixture(scope="session")
def shared_clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def idle_apps() -> IdleApps:
    """The apps that no test uses."""
    return defaultdict(list)


@pytest.fixture
def clock(shared_clock: Clock) -> Clock:
    shared_clock.reset()
    return shared_clock


@pytest.fixture
def settings(settings: Settings, database_folder: Path) -> Settings:
    for path in database_folder.iterdir():
        path.unlink()
    return replace(settings, database=database_folder / "test.db")


@pytest.fixture
def make_app(settings: Settings, clock: Clock, idle_apps: IdleApps) -> Iterator[MakeApp]:
    """Take apps with the tests' settings, some of them changed; put back after the test."""
    taken: list[tuple[Settings, Flask]] = []

    def make(**changes: Any) -> Flask:
        changed = replace(settings, **changes)
        app = idle_apps[changed].pop() if idle_apps[changed] else create_app(changed, clock)
        taken.append((changed, app))
        return app

    yield make
    for changed, app in taken:
        app.extensions[EXTENSION].database.close()
        idle_apps[changed].append(app)
