"""`backup`, `restore` and `db restored` on PostgreSQL, with pg_dump and pg_restore."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient

from jwt_server.database import Database
from tests.helpers.app import Clock, MakeApp
from tests.helpers.auth import access, refresh, sign_in
from tests.helpers.databases import cluster
from tests.helpers.factories import add_user, everything, execute
from tests.helpers.postgresql import PASSWORD
from tests.helpers.postgresql_programs import command

pytestmark = pytest.mark.hosts


@pytest.fixture
def url() -> Iterator[str]:
    """A new database with the tables."""
    url = cluster().create_database("dumped")
    Database(url).engine.create()
    yield url
    cluster().drop_database("dumped")


@pytest.fixture
def app(make_app: MakeApp, url: str) -> Flask:
    app = make_app(database=f"{url}?pool=3&prepared_statements=true&connect_timeout=9")
    assert app.test_cli_runner().invoke(args=["seed"]).exit_code == 0
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def run(app: Flask, *words: str) -> tuple[int, str]:
    done = app.test_cli_runner().invoke(args=words)
    return done.exit_code, done.output


def commands_of(text: str, program: str, file: Path) -> list[list[str]]:
    """The commands of a program that a refusal names, to be run with a file."""
    lines = re.findall(rf"^  ({program} .*)$", text, re.MULTILINE)
    words = [shlex.split(line.replace("FILE", str(file))) for line in lines]
    return [[*command(program), *rest] for _, *rest in words]


def execute_command(words: list[str]) -> None:
    environment = {"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD}
    subprocess.run(words, env=environment, check=True)  # noqa: S603 - as the command has named it


def dump_and_restore(app: Flask, file: Path) -> Iterator[None]:
    """Dump as `backup` says, then, when asked for the next item, restore as `restore` says."""
    for word, program in (("backup", "pg_dump"), ("restore", "pg_restore")):
        code, output = run(app, word, str(file))
        assert code == 1
        assert PASSWORD not in output
        [words] = commands_of(output, program, file)
        execute_command(words)
        yield


def test_a_dump_is_restored_with_every_row_without_sessions_and_with_higher_ids(
    app: Flask, client: FlaskClient, url: str, tmp_path: Path, clock: Clock
) -> None:
    steps = dump_and_restore(app, tmp_path / "x.dump")
    tokens = sign_in(client)
    with closing(Database(url)) as database, database.connection() as db:
        before = everything(db)
        next(steps)
        later = add_user(db, "later", password_hash="*")
        execute(db, "DELETE FROM pets")
    app.extensions["jwt-server"].database.close()

    next(steps)
    assert run(app, "db", "restored") == (0, "Ready: sessions ended: 1\n")

    with closing(Database(url)) as database, database.connection() as db:
        after = everything(db)
        assert after["sessions"] == [
            row | {"ended_at": int(clock()), "expires_at": int(clock())}
            for row in before["sessions"]
        ]
        assert after | {"sessions": []} == before | {"sessions": []}
        assert add_user(db, "next", password_hash="*") >= int(clock()) * 1000 > later
        for sequence in ("sessions_number_seq", "audit_id_seq", "pets_id_seq"):
            [row] = execute(db, "SELECT nextval(CAST(? AS REGCLASS)) AS id", sequence)
            assert row["id"] > int(clock()) * 1000
        last = execute(db, "SELECT action, details FROM audit ORDER BY id DESC LIMIT 1")
        assert last == [{"action": "database_restored", "details": '{"sessions_ended": 1}'}]
    assert access(client, tokens) == 401
    assert "access_token" not in refresh(client, tokens["refresh_token"])
    assert access(client, sign_in(client)) == 200


def test_ids_stay_above_those_of_a_clock_that_was_ahead(app: Flask, url: str, clock: Clock) -> None:
    ahead = int(clock()) * 5000
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT setval('users_id_seq', %s)", [ahead])
        connection.execute("SELECT setval('pets_id_seq', %s)", [10**18 - 5])

    assert run(app, "db", "restored")[0] == 0

    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("SELECT nextval('users_id_seq'), nextval('pets_id_seq')")
        assert found.fetchone() == (ahead + 1_000_001, 10**18)  # the last id that is valid, and 1


def test_a_failed_restore_changes_nothing(app: Flask, url: str, tmp_path: Path) -> None:
    steps = dump_and_restore(app, tmp_path / "x.dump")
    next(steps)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE VIEW names AS SELECT username FROM users")  # needs its table

    with pytest.raises(subprocess.CalledProcessError):
        next(steps)

    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT username FROM names").fetchall() == [("travis",)]


def test_restored_is_refused_on_sqlite(make_app: MakeApp, tmp_path: Path) -> None:
    code, output = run(make_app(database=tmp_path / "x.db"), "db", "restored")

    assert (code, output) == (1, "Error: This is for PostgreSQL. For SQLite, `restore` does it.\n")
