"""What the tests share: an app with a real database and a clock, and a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jwt_server import sqlite
from jwt_server.app import create_app
from jwt_server.config import Settings, process_settings
from jwt_server.database import Connection, Database
from jwt_server.logs import formatter
from jwt_server.users import demo
from jwt_server.web.service import EXTENSION, Service
from tests.helpers.app import Clock, MakeApp
from tests.helpers.description import documented
from tests.helpers.factories import (
    JWT_SECRET,
    SECRET_KEY,
    SETTINGS,
    UNTHROTTLED,
    bearer,
    open_session,
    token,
)
from tests.helpers.http import Send, send_to_app, send_to_server
from tests.helpers.leaks import leaks
from tests.helpers.server import BASE_ENVIRONMENT, Server, running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        secret_keys=(SECRET_KEY,),
        jwt_secrets=(JWT_SECRET,),
        database=tmp_path / "test.db",
        salt_rounds=4,
        **UNTHROTTLED,
    )


@pytest.fixture
def database(settings: Settings, clock: Clock) -> Iterator[Database]:
    """The database with the demo user in it, as after `flask init-db` and `flask seed`, and signed
    in with the session of `token`.
    """
    sqlite.create(settings.database)
    with closing(Database(settings.database)) as database:
        with database.connection() as db:
            demo.add_demo_user(db, settings.salt_rounds, int(clock()))
        open_session(settings.database, int(clock()))
        yield database


@pytest.fixture
def make_app(settings: Settings, clock: Clock) -> Iterator[MakeApp]:
    """Makes an app of the tests' settings but for some; its connections end with the test."""
    made: list[Flask] = []

    def make(**changes: Any) -> Flask:
        made.append(create_app(replace(settings, **changes), clock))
        return made[-1]

    yield make
    for app in made:
        service: Service = app.extensions[EXTENSION]
        service.database.close()


@pytest.fixture
def app(make_app: MakeApp, database: Database) -> Flask:
    """The app, with the demo user in its database."""
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def db(database: Database) -> Iterator[Connection]:
    """A connection of the test's own to the app's database."""
    with database.connection() as connection:
        yield connection


@pytest.fixture
def travis(clock: Clock) -> dict[str, str]:
    """The Authorization header of the demo user."""
    return bearer(token(now=int(clock())))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real gunicorn with the demo user, for all tests that only read or clean up."""
    with running(tmp_path_factory.mktemp("server"), BASE_ENVIRONMENT) as server:
        yield server


@pytest.fixture(params=["app", "gunicorn"])
def send(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Send]:
    """Send requests to the app in this process, then in a second run to gunicorn over a socket.

    Checks that no request leaves a stack trace in the log, and that each response is one that the
    OpenAPI description has.
    """
    app: Flask = request.getfixturevalue("app")
    if request.param == "app":
        # The same real clock as the server's, so that one token is good for both.
        request.getfixturevalue("clock").time = time.time()
        yield documented(app, partial(send_to_app, app.test_client()))
        assert "Traceback" not in caplog.text
        assert not any(record.exc_info for record in caplog.records)
    else:
        server: Server = request.getfixturevalue("server")
        before = len(server.log())
        yield documented(app, partial(send_to_server, server))
        assert "Traceback" not in server.log()[before:]


@pytest.fixture(autouse=True)
def no_leak(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test has a password, a token or a secret logged; those of gunicorn see tests/server.py."""
    yield
    written = formatter("json").format
    for phase in ("setup", "call"):
        for record in caplog.get_records(phase):
            assert leaks(written(record)) == []


@pytest.fixture(scope="session", autouse=True)
def no_leak_in_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The same of all that servers and commands have logged into files, however they were run."""
    yield
    for path in tmp_path_factory.getbasetemp().rglob("*.log"):
        if path.is_file():
            assert leaks(path.read_text(errors="replace")) == [], path


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the settings or the instance folder of whoever runs it."""
    monkeypatch.chdir(tmp_path)
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    process_settings.cache_clear()
