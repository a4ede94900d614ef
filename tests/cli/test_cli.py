"""`flask init-db` and `flask seed`, and what holds for every command."""

from __future__ import annotations

import stat
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask

from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from tests.helpers.app import MakeApp
from tests.helpers.factories import CREDENTIALS
from tests.helpers.server import flask


@pytest.fixture
def fresh(make_app: MakeApp) -> Flask:
    """An app without a database."""
    return make_app()


def run(app: Flask, *command: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=command)
    return result.exit_code, result.output


def test_init_db_and_seed_can_be_repeated(fresh: Flask, settings: Settings) -> None:
    assert run(fresh, "init-db") == (0, f"Created: {settings.database}\n")
    assert run(fresh, "init-db") == (0, f"Already there: {settings.database}\n")
    assert run(fresh, "seed") == (0, "Created: user travis\n")
    assert run(fresh, "seed") == (0, "Already there: user travis\n")
    assert stat.S_IMODE(settings.database.stat().st_mode) == 0o600


def test_seed_creates_a_deleted_demo_user_again(app: Flask, db: Connection) -> None:
    db.driver.execute("DELETE FROM users")

    assert run(app, "seed") == (0, "Created: user travis\n")
    assert app.test_client().post("/auth", data=CREDENTIALS).status_code == 200


def test_seed_hashes_with_salt_rounds(fresh: Flask, settings: Settings) -> None:
    run(fresh, "init-db")
    run(fresh, "seed")

    with closing(Database(settings.database)) as database, database.connection() as db:
        user = db.queries.users.find_by_key(username_key="travis")
    assert ",r=4$" in user["password_hash"]


def test_a_missing_database_is_reported_with_the_next_step(fresh: Flask) -> None:
    code, output = run(fresh, "seed")

    assert code == 1
    assert output.startswith("Error: No database at ")
    assert "`init-db`" in output


def test_init_db_does_not_change_another_file(fresh: Flask, settings: Settings) -> None:
    content = "This is not a database, and it is longer than a header.\n" * 30
    settings.database.write_text(content)

    code, output = run(fresh, "init-db")

    assert code == 1
    assert "file is not a database" in output
    assert settings.database.read_text() == content


def test_a_wrong_setting_is_one_line_and_exit_code_3(tmp_path: Path) -> None:
    done = flask(tmp_path, {"JWT_SECRET": "short", "SECRET_KEY": "s" * 32}, "init-db")

    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("JWT_SECRET: ")
