"""The commands, in this process and as a user types them."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask

from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from tests.helpers.app import MakeApp
from tests.helpers.factories import CREDENTIALS
from tests.helpers.server import BASE_ENVIRONMENT, flask


@pytest.fixture
def fresh(make_app: MakeApp) -> Flask:
    """An app whose database is still to be made."""
    return make_app()


def run(app: Flask, *command: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=command)
    return result.exit_code, result.output


def test_init_db_and_seed_make_what_is_missing_and_keep_what_is_there(
    fresh: Flask, settings: Settings
) -> None:
    assert run(fresh, "init-db") == (0, f"Created: {settings.database}\n")
    assert run(fresh, "init-db") == (0, f"Already there: {settings.database}\n")
    assert run(fresh, "seed") == (0, "Created: user travis\n")
    assert run(fresh, "seed") == (0, "Already there: user travis\n")


def test_seed_makes_a_deleted_demo_user_again(app: Flask, db: Connection) -> None:
    db.driver.execute("DELETE FROM users")

    assert run(app, "seed") == (0, "Created: user travis\n")
    assert app.test_client().post("/auth", data=CREDENTIALS).status_code == 200


def test_seed_hashes_at_the_cost_in_force(fresh: Flask, settings: Settings) -> None:
    run(fresh, "init-db")
    run(fresh, "seed")

    with closing(Database(settings.database)) as database, database.connection() as db:
        user = db.queries.users.find_by_key(username_key="travis")
    assert ",r=4$" in user["password_hash"]


def test_seed_without_a_database_says_what_to_do(fresh: Flask) -> None:
    code, output = run(fresh, "seed")

    assert code == 1
    assert output.startswith("Error: No database at ")
    assert "the command `init-db` makes one" in output


def test_seed_of_a_locked_database_says_so(fresh: Flask, settings: Settings) -> None:
    run(fresh, "init-db")
    with closing(sqlite3.connect(settings.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        assert run(fresh, "seed") == (1, "Error: The database fails: database is locked.\n")


def test_init_db_leaves_another_file_alone(fresh: Flask, settings: Settings) -> None:
    settings.database.write_text("letters to my aunt, and some more of them\n" * 30)

    code, output = run(fresh, "init-db")

    assert code == 1
    assert "file is not a database" in output
    assert settings.database.read_text().startswith("letters")


def test_a_user_types_them(tmp_path: Path) -> None:
    made = flask(tmp_path, BASE_ENVIRONMENT, "init-db")
    seeded = flask(tmp_path, BASE_ENVIRONMENT, "seed")
    helped = flask(tmp_path, BASE_ENVIRONMENT, "--help")

    assert (made.returncode, seeded.returncode, helped.returncode) == (0, 0, 0)
    assert stat.S_IMODE((tmp_path / "server.db").stat().st_mode) == 0o600
    assert "init-db" in helped.stdout
    assert "seed" in helped.stdout


def test_a_wrong_setting_is_one_line_for_a_command_too(tmp_path: Path) -> None:
    done = flask(tmp_path, {"JWT_SECRET": "short", "SECRET_KEY": "s" * 32}, "init-db")

    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "JWT_SECRET: 5 bytes are too few, at least 32 are needed: try `openssl rand -base64 48`."
    ]
