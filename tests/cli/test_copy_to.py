"""`flask copy-to`: from SQLite to PostgreSQL."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient

from jwt_server import copying
from jwt_server.database import Database
from jwt_server.errors import DatabaseUnavailable
from jwt_server.postgresql import Engine
from tests.helpers.app import Clock, MakeApp
from tests.helpers.auth import DEFAULT_LIMITS, access, guesses, refresh, sign_in
from tests.helpers.databases import TABLES, cluster, create_database, run_scripts
from tests.helpers.factories import CREDENTIALS, add_user, execute
from tests.helpers.postgresql import PASSWORD
from tests.helpers.server import ROOT
from tests.helpers.terminal import run_at_terminal


@pytest.fixture
def source(tmp_path: Path, clock: Clock) -> Path:
    """A SQLite database with the demo user, who is signed in."""
    path = tmp_path / "server.db"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tests.helpers.databases.ON_POSTGRESQL", False)
        create_database(path, int(clock()))
    return path


@pytest.fixture
def target() -> Iterator[str]:
    """The URL of an empty PostgreSQL database, without tables."""
    url = cluster().create_database("copied")
    yield url
    cluster().drop_database("copied")


@pytest.fixture
def old(make_app: MakeApp, source: Path) -> Flask:
    return make_app(database=source, **DEFAULT_LIMITS)


@pytest.fixture
def new(make_app: MakeApp, target: str) -> FlaskClient:
    return make_app(database=target, **DEFAULT_LIMITS).test_client()


def copy(app: Flask, monkeypatch: pytest.MonkeyPatch, target: str) -> tuple[int, str]:
    """Run the command with the target in the environment; return exit code and output."""
    monkeypatch.setenv("TARGET_DATABASE_URL", target)
    done = app.test_cli_runner().invoke(args=["copy-to"])
    return done.exit_code, done.output


def rows(where: Path | str) -> dict[str, list[tuple[object, ...]]]:
    with closing(Database(where)) as database, database.connection() as db:
        return {
            table: [
                tuple(row.values())
                for row in execute(db, f"SELECT * FROM {table} ORDER BY 1, 2")  # noqa: S608 - ours
            ]
            for table in TABLES
        }


def test_users_tokens_counts_and_the_audit_log_stay_valid(
    old: Flask, new: FlaskClient, source: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = old.test_client()
    tokens = sign_in(client)
    guess = guesses(client)
    blocked = [guess().status_code for _ in range(6)]
    before = rows(source)

    code, output = copy(old, monkeypatch, target)

    assert code == 0, output
    assert rows(target) == before
    assert len(before["throttle"]) > 0
    assert len(before["audit"]) > 5
    assert access(new, tokens) == 200
    assert "access_token" in refresh(new, tokens["refresh_token"])
    assert blocked[-1] == guesses(new)().status_code == 429
    assert new.post("/auth", data=CREDENTIALS).status_code == 200


def test_ids_of_deleted_rows_are_not_used_again(
    old: Flask, source: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Database(source)) as database, database.connection() as db:
        last = add_user(db, "ada", password_hash="*")
        execute(db, "DELETE FROM users WHERE id = ?", last)
        execute(db, "DELETE FROM pets")
        execute(db, "DELETE FROM sqlite_sequence WHERE name = 'sessions'")

    assert copy(old, monkeypatch, target)[0] == 0

    with closing(Database(target)) as database, database.connection() as db:
        assert add_user(db, "bob", password_hash="*") == last + 1
        insert = "INSERT INTO pets (user_id, name, created_at) VALUES (1, 'Rex', 0) RETURNING id"
        assert execute(db, insert) == [{"id": 3}]  # the demo user had two
        [session] = execute(db, "SELECT nextval('sessions_number_seq') AS number")
        assert session["number"] == 2


ODD = """
INSERT INTO throttle VALUES ('é', 1, 2, 3), ('Z', 1, 2, 3), ('a', 1, 2, 3), ('_', 1, 2, 3),
    ('💂', 1, 2, 3), ('～', 9223372036854775807, -1, 0);
INSERT INTO known_addresses VALUES (1, 'b', 1), (1, 'B', 1), (1, '::/64', 1);
INSERT INTO users (id, username, username_key, password_hash, created_at, claims)
    VALUES (77, 'tab	back\\slash', 'line
end \\N', '*', 0, '{"ü":"\\u0000"}');
UPDATE sessions SET nonce = x'00ff5c2e000a', retry_key_hash = x'', address = '\\.';
INSERT INTO pets (user_id, name, created_at) WITH RECURSIVE n (i) AS
    (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) SELECT 77, 'pet ' || i, i FROM n;
"""


def test_every_value_is_copied_as_it_is(
    old: Flask, source: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_scripts(source, ODD)

    code, output = copy(old, monkeypatch, target)

    assert code == 0, output
    assert rows(target) == rows(source)


def test_it_prints_what_was_verified_and_the_next_steps(
    old: Flask, target: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARGET_DATABASE_URL", target)
    done = old.test_cli_runner().invoke(args=["copy-to"])

    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["users", "1", "verified"] in lines
    assert ["pets", "2", "verified"] in lines
    assert ["Copied:", str(source)] in [line[:2] for line in lines]
    assert "stop it" in done.stdout
    assert "DATABASE_URL" in done.stdout
    assert PASSWORD not in done.output
    steps = done.stderr.split("\n")
    assert [step.split() for step in steps[:2]] == [["Copying", "users"], ["Verifying", "users"]]


def test_a_terminal_shows_progress(source: Path, target: str, tmp_path: Path) -> None:
    passfile = tmp_path / "passwords"
    passfile.touch(mode=0o600)
    passfile.write_text(f"*:*:*:*:{PASSWORD}\n")
    url = f"{target.replace(f':{PASSWORD}', '')}?passfile={quote(str(passfile))}"

    command = (sys.executable, "-m", "flask", "--app", str(ROOT / "wsgi.py"), "copy-to", url)
    own = f"DATABASE_URL=sqlite:///{source}"
    code, displayed = run_at_terminal(tmp_path, [], "env", own, *command)

    assert code == 0, displayed
    assert "100%" in displayed
    assert "verified" in displayed


def test_empty_tables_are_filled(
    old: Flask, source: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Engine(target).create()

    assert copy(old, monkeypatch, target)[0] == 0

    assert rows(target) == rows(source)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("INSERT INTO throttle VALUES ('x', 1, 2, 3)", "has rows in throttle"),
        ("UPDATE schema_version SET version = 1", "has schema version 1"),
        ("UPDATE schema_version SET version = 99", "has schema version 99"),
        ("DROP TABLE schema_version", 'set up: relation "users" already exists'),
        (
            "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN NEW.name = upper(NEW.name); RETURN NEW; END $$;"
            "CREATE TRIGGER spoil BEFORE INSERT ON pets FOR EACH ROW EXECUTE FUNCTION spoil()",
            "The rows of pets differ from those that were copied",
        ),
        (
            "CREATE RULE nothing AS ON INSERT TO pets DO INSTEAD NOTHING;"
            "ALTER TABLE users DROP COLUMN claims",
            "can't be filled",
        ),
    ],
)
def test_another_target_is_refused_and_unchanged(
    old: Flask, target: str, monkeypatch: pytest.MonkeyPatch, statement: str, reason: str
) -> None:
    Engine(target).create()
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute(statement.encode())

    code, output = copy(old, monkeypatch, target)

    assert code == 1
    assert reason in output
    with psycopg.connect(target) as connection:
        for table in ("users", "sessions", "audit", "pets"):
            count = f"SELECT count(*) FROM {table}"  # noqa: S608 - ours
            assert connection.execute(count.encode()).fetchone() == (0,)


SELF_KILL = """
import os, signal, sys
from pathlib import Path
from jwt_server import copying
from jwt_server.postgresql import Engine

def show(label, count, batches):
    for batch in batches:
        yield batch
        if label == "Copying pets":
            os.kill(os.getpid(), signal.SIGKILL)

copying.copy(Path(sys.argv[1]), Engine(os.environ["URL"]), show)
"""


def test_a_kill_leaves_no_rows_and_the_next_copy_succeeds(
    old: Flask, source: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", SELF_KILL, str(source)],
        env={"PYTHONPATH": str(ROOT), "URL": target, "PATH": os.environ["PATH"]}, check=False,
    )  # fmt: skip

    assert done.returncode == -signal.SIGKILL
    assert not any(rows(target).values())
    assert copy(old, monkeypatch, target)[0] == 0


def test_rows_that_are_written_meanwhile_are_not_copied(source: Path, target: str) -> None:
    def show(label: str, _count: int, batches: copying.Batches) -> copying.Batches:
        if label == "Copying users":
            with closing(Database(source)) as database, database.connection() as db:
                add_user(db, "late", password_hash="*")
                execute(db, "DELETE FROM pets")
        yield from batches

    before = rows(source)
    copying.copy(source, Engine(target), show)

    assert rows(target) == before


def test_an_unreadable_row_leaves_the_target_empty(source: Path, target: str) -> None:
    run_scripts(source, "UPDATE users SET username = CAST(x'ff' AS TEXT)")

    with pytest.raises(DatabaseUnavailable, match="can't be read"):
        copying.copy(source, Engine(target), lambda _label, _count, batches: batches)

    assert not any(rows(target).values())


def test_a_database_in_use_is_a_warning(
    old: Flask, source: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(source)) as driver:
        driver.execute("SELECT * FROM users").fetchone()
        code, output = copy(old, monkeypatch, target)

    assert (code, f"WARNING: {source} is in use" in output) == (0, True)


@pytest.mark.parametrize(
    ("url", "code", "reason"),
    [
        ("postgresql://me:secret@127.0.0.1/x", 1, "PGPASSWORD"),
        ("postgresql://127.0.0.1/x?password=secret", 1, "PGPASSWORD"),
        ("postgresql://127.0.0.1/x?nonsense=1", 1, "It is not a URL of PostgreSQL"),
        ("postgresql://127.0.0.1:1/x", 1, "can't be opened"),
        ("sqlite:///other.db", 2, "postgresql://USER@HOST/DATABASE"),
        ("", 2, "postgresql://USER@HOST/DATABASE"),
    ],
)
def test_a_wrong_target_is_refused(old: Flask, url: str, code: int, reason: str) -> None:
    done = old.test_cli_runner().invoke(args=["copy-to", url])

    assert done.exit_code == code
    assert reason in done.output
    assert "secret" not in done.output


def test_a_missing_source_creates_no_tables(
    old: Flask, source: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.unlink()

    code, output = copy(old, monkeypatch, target)

    assert (code, "No database at" in output) == (1, True)
    with psycopg.connect(target) as connection:
        assert connection.execute("SELECT to_regclass('users')").fetchone() == (None,)


def test_the_password_may_come_from_the_environment(
    old: Flask, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)

    done = old.test_cli_runner().invoke(args=["copy-to", target.replace(f":{PASSWORD}", "")])

    assert done.exit_code == 0, done.output


def test_a_postgresql_database_is_copied_by_pg_dump(make_app: MakeApp, target: str) -> None:
    done = make_app(database=f"{target}?pool=2").test_cli_runner().invoke(args=["copy-to", "x"])

    assert done.exit_code == 1
    assert "pg_dump --format=custom --dbname='user=jwt_server" in done.output
    assert PASSWORD not in done.output
    assert "pool" not in done.output


def test_the_tables_are_those_of_the_schema() -> None:
    schema = (ROOT / "schema.postgresql.sql").read_text()

    assert {f"CREATE TABLE {table} (" in schema for table in copying.TABLES} == {True}
    assert schema.count("CREATE TABLE") == len(copying.TABLES) + 1  # schema_version
    assert schema.count("AS IDENTITY") == len(copying.WITH_IDS)
