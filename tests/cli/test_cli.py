"""`flask init-db` and `flask seed`, and what holds for every command."""

from __future__ import annotations

import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask

from jwt_server import audit
from jwt_server.audit import Actor
from jwt_server.cli.base import top
from jwt_server.database import Connection, Database
from tests.helpers.app import MakeApp, commands_of
from tests.helpers.databases import (
    about_sqlite,
    create_database_without_tables,
    database_in,
)
from tests.helpers.factories import CREDENTIALS, add_user, execute
from tests.helpers.server import ROOT, flask


@pytest.fixture
def missing(tmp_path: Path) -> Path | str:
    """A database without tables; a file that does not exist."""
    where = database_in(tmp_path)
    create_database_without_tables(where)
    return where


@pytest.fixture
def fresh(make_app: MakeApp, missing: Path | str) -> Flask:
    """An app without a database."""
    return make_app(database=missing)


def run(app: Flask, *command: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=command)
    return result.exit_code, result.output


def test_init_db_and_seed_can_be_repeated(fresh: Flask, missing: Path | str) -> None:
    name = Database(missing).engine.name
    assert run(fresh, "init-db") == (0, f"Created: {name}\n")
    assert run(fresh, "init-db") == (0, f"Already there: {name}\n")
    assert run(fresh, "seed") == (0, "Created: user travis\n")
    assert run(fresh, "seed") == (0, "Already there: user travis\n")
    if isinstance(missing, Path):
        assert stat.S_IMODE(missing.stat().st_mode) == 0o600


def test_seed_creates_a_deleted_demo_user_again(app: Flask, db: Connection) -> None:
    db.driver.execute("DELETE FROM users")

    assert run(app, "seed") == (0, "Created: user travis\n")
    assert app.test_client().post("/auth", data=CREDENTIALS).status_code == 200


def test_seed_hashes_with_salt_rounds(fresh: Flask, missing: Path | str) -> None:
    run(fresh, "init-db")
    run(fresh, "seed")

    with closing(Database(missing)) as database, database.connection() as db:
        user = db.queries.users.find_by_key(username_key="travis")
    assert ",r=4$" in user["password_hash"]


def test_every_command_is_listed_with_its_module(app: Flask) -> None:
    assert commands_of(app.cli) == top.commands


def test_the_service_does_not_import_what_only_some_commands_and_new_passwords_need() -> None:
    imported = subprocess.run(
        [sys.executable, "-c", "import sys, jwt_server.app; print(*sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip

    assert "jwt_server.cli" in imported
    assert not {"jwt_server.cli.base", "tabulate", "yoyo", "zxcvbn"} & {*imported}


HOSTILE = "ada\x1b[2J\x07\x9b31m\u202e\u2066\u200b\x7f\nadmin"
"""A name that no request can set, but a database from elsewhere can have."""


@pytest.mark.parametrize(
    "command",
    [
        "users list", "users list --json", "users show ada", "users passwd ada --generate",
        "users promote ada", "users demote ada", "users disable ada", "users enable ada",
        "users unlock ada", "users delete ada", "users delete ada --yes",
        "sessions end --user ada", "audit", "audit --json",
        pytest.param("doctor", marks=about_sqlite),  # names tables that are not the service's
    ],
)  # fmt: skip
def test_no_command_prints_control_characters(app: Flask, db: Connection, command: str) -> None:
    add_user(db, "ada")
    execute(db, "UPDATE users SET username = ? WHERE username_key = 'ada'", HOSTILE)
    details = {HOSTILE: HOSTILE}
    audit.record(db, Actor(2, HOSTILE, 0), audit.Action.USER_RENAMED, 2, **details)
    execute(db, f'CREATE TABLE "{HOSTILE}" (x INTEGER)')

    done = app.test_cli_runner().invoke(args=command.split(), input="y\n")
    execute(db, f'DROP TABLE "{HOSTILE}"')

    assert (done.exit_code, done.exception) == (0, None) or command == "doctor"
    assert "".join(done.output.split("\n")).isprintable()
    assert "\nadmin" not in done.output
    if command != "sessions end --user ada":
        assert r"ada\x1b[2J\x07\x9b31m\u202e\u2066\u200b\x7f\nadmin" in done.output or (
            r"ada\u001b[2J\u0007\u009b31m\u202e\u2066\u200b\u007f\nadmin" in done.output
        )


def test_reason_of_a_refusal_has_no_control_characters(app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "koa.db"
    with closing(sqlite3.connect(file)) as driver:
        driver.execute('CREATE TABLE users ("id\x1b[2J")')
        driver.execute("CREATE VIEW pets AS SELECT 1")
        driver.execute("PRAGMA writable_schema = ON")
        driver.execute("UPDATE sqlite_master SET sql = 'CREATE broken', name = 'x\x1b[2J'")
        driver.commit()

    code, output = run(app, "import-koa", str(file))

    assert code == 1
    assert r"x\x1b[2J" in output
    assert "\x1b" not in output


def test_a_missing_database_is_reported_with_the_next_step(fresh: Flask) -> None:
    code, output = run(fresh, "seed")

    assert code == 1
    assert re.match(r"Error: No database at |Error: postgresql://\S+ has no tables", output)
    assert "`init-db`" in output


@about_sqlite
def test_init_db_does_not_change_another_file(fresh: Flask, missing: Path) -> None:
    content = "This is not a database, and it is longer than a header.\n" * 30
    missing.write_text(content)

    code, output = run(fresh, "init-db")

    assert code == 1
    assert "file is not a database" in output
    assert missing.read_text() == content


def test_a_wrong_setting_is_one_line_and_exit_code_3(tmp_path: Path) -> None:
    done = flask(tmp_path, {"JWT_SECRET": "short", "SECRET_KEY": "s" * 32}, "init-db")

    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("JWT_SECRET: ")
