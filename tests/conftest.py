"""Fixtures for all tests: an app with a real database and a clock, and a gunicorn."""

from __future__ import annotations

import gc
import os
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jwt_server import postgresql
from jwt_server.app import create_app
from jwt_server.config import Settings, process_settings
from jwt_server.database import Connection, Database
from jwt_server.logs import formatter
from jwt_server.web.service import EXTENSION
from tests.helpers import processes
from tests.helpers.app import Clock, IdleApps, MakeApp
from tests.helpers.databases import (
    ON_POSTGRESQL,
    close_cluster,
    create_database,
    database_in,
    keep_connections,
    reset_database,
    take_connection,
)
from tests.helpers.description import documented
from tests.helpers.factories import (
    JWT_SECRET,
    SECRET_KEY,
    SETTINGS,
    UNTHROTTLED,
    bearer,
    token,
)
from tests.helpers.http import Send, send_to_app, send_to_server
from tests.helpers.secrets import find_secrets
from tests.helpers.server import BASE_ENVIRONMENT, Server, running

# A busy machine takes longer than the limits of time that the service has; tests of these unset it.
os.environ["PGCONNECT_TIMEOUT"] = "60"
if ON_POSTGRESQL:
    os.environ["PGOPTIONS"] = "-c statement_timeout=60s -c lock_timeout=60s"
    postgresql.Driver.patience = 60

LOG_FORMAT = formatter("json")
DESELECTED = {
    "not slow and not hosts": re.compile(r"^pytestmark = .*\b(slow|hosts)\b", re.MULTILINE),
    "slow": re.compile(r"\A(?!.*\bmark\.slow\b)", re.DOTALL),
    "hosts": re.compile(r"\A(?!.*\bmark\.hosts\b)", re.DOTALL),
}
"""Matches the modules whose tests would all be deselected, by the expression of `-m`."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Don't import modules, and fixtures of folders, whose tests would all be deselected."""
    if (deselected := DESELECTED.get(config.option.markexpr)) is None:
        return None
    modules = [collection_path] if collection_path.is_file() else collection_path.glob("test_*.py")
    found = [bool(deselected.search(each.read_text())) for each in modules if each.suffix == ".py"]
    return (found != [] and all(found)) or None


def pytest_sessionfinish() -> None:
    """End the process that servers and commands were forked from, and the cluster."""
    processes.stop_forker()
    close_cluster()


def pytest_collection_finish() -> None:
    """Have the garbage collector skip all tests, which stay until the end, and run less often."""
    gc.freeze()
    gc.set_threshold(10_000, 20)


@pytest.fixture(scope="session")
def shared_clock() -> Clock:
    return Clock()


@pytest.fixture
def clock(shared_clock: Clock) -> Clock:
    shared_clock.reset()
    return shared_clock


@pytest.fixture(scope="session")
def database_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("database")


@pytest.fixture
def settings(database_folder: Path) -> Settings:
    """Settings with a database that does not exist, in an empty folder.

    Its path is the same for all tests, so that they can share apps.
    """
    shutil.rmtree(database_folder)
    database_folder.mkdir()
    return Settings(
        secret_keys=(SECRET_KEY,),
        jwt_secrets=(JWT_SECRET,),
        database=database_in(database_folder, "test.db"),
        salt_rounds=4,
        **UNTHROTTLED,
    )


@pytest.fixture
def database(settings: Settings, clock: Clock) -> Iterator[Database]:
    """The database with the demo user, signed in with the session of `token()`."""
    if isinstance(settings.database, str):
        reset_database(settings.database, int(clock()))
    else:
        create_database(settings.database, int(clock()))
    database = Database(settings.database)
    take_connection(database)
    yield database
    keep_connections(database)


@pytest.fixture(scope="session")
def idle_apps() -> IdleApps:
    """The apps that no test uses. To create one costs more than most tests."""
    return defaultdict(list)


@pytest.fixture
def make_app(settings: Settings, clock: Clock, idle_apps: IdleApps) -> Iterator[MakeApp]:
    """Take apps with the tests' settings, some of them changed; put back after the test."""
    taken: list[tuple[Settings, Flask]] = []

    def make(**changes: Any) -> Flask:
        changed = replace(settings, **changes)
        app = idle_apps[changed].pop() if idle_apps[changed] else create_app(changed, clock)
        taken.append((changed, app))
        take_connection(app.extensions[EXTENSION].database)
        return app

    yield make
    for changed, app in taken:
        keep_connections(app.extensions[EXTENSION].database)
        idle_apps[changed].append(app)


@pytest.fixture
def app(make_app: MakeApp, database: Database) -> Flask:
    """The app, with the demo user in its database."""
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def db(database: Database) -> Iterator[Connection]:
    """The test's own connection to the app's database."""
    with database.connection() as connection:
        yield connection


@pytest.fixture
def travis(clock: Clock) -> dict[str, str]:
    """The Authorization header of the demo user."""
    return bearer(token(now=int(clock())))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gunicorn with the demo user, shared by tests that only read or clean up."""
    with running(tmp_path_factory.mktemp("server"), BASE_ENVIRONMENT) as server:
        yield server


@pytest.fixture
def send(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Send]:
    """Send requests to the app in this process, or with the parameter "gunicorn" over a socket.

    Checks that no request leaves a stack trace in the log, and that each response is one that the
    OpenAPI description has.
    """
    if getattr(request, "param", "app") == "app":
        client: FlaskClient = request.getfixturevalue("client")
        # The same real clock as the server's, so that one token is good for both.
        request.getfixturevalue("clock").time = time.time()
        yield documented(partial(send_to_app, client))
        assert "Traceback" not in caplog.text
        assert not any(record.exc_info for record in caplog.records)
    else:
        server: Server = request.getfixturevalue("server")
        before = len(server.log())
        yield documented(partial(send_to_server, server))
        assert "Traceback" not in server.log()[before:]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Drop the captured logs of tests that pass, for pytest-xdist to send less; escape lone
    surrogates in others, which it can't send.
    """
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode())
        for name, text in report.sections
        if not report.passed
    ]
    return report


@pytest.fixture(autouse=True)
def no_secret_in_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that no test logs a password, a token or a key."""
    yield
    records = [record for phase in ("setup", "call") for record in caplog.get_records(phase)]
    if records:
        assert find_secrets("\n".join(map(LOG_FORMAT.format, records))) == []


@pytest.fixture(scope="session", autouse=True)
def no_secret_in_log_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Check the same of all files that servers and commands have logged to."""
    yield
    for path in tmp_path_factory.getbasetemp().rglob("*.log"):
        if path.is_file():
            assert find_secrets(path.read_text(errors="replace")) == [], path


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the settings and the instance folder of the developer from the tests."""
    monkeypatch.chdir(tmp_path)
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    process_settings.cache_clear()
