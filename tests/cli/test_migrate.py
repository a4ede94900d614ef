"""`flask db upgrade`: older databases get this release's schema in place."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask

from jwt_server import migrate
from jwt_server import sqlite as our_sqlite
from jwt_server.config import Settings
from jwt_server.errors import DatabaseUnavailable
from jwt_server.sqlite import SCHEMA_VERSION
from tests.helpers.app import MakeApp
from tests.helpers.databases import FIRST_RELEASE, file_of, query, run_scripts
from tests.helpers.factories import CREDENTIALS
from tests.helpers.server import BASE_ENVIRONMENT, flask

STEPS = sorted((migrate.MIGRATIONS / "sqlite").glob("*.sql"))
MISSING = [step.stem for step in STEPS[1:]]  # what a database of the first release lacks
COMMENT = re.compile(r"--[^\n]*")


@pytest.fixture
def old(settings: Settings) -> Path:
    """A database as the first release left it."""
    run_scripts(file_of(settings), FIRST_RELEASE)
    return file_of(settings)


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """An app that makes no database."""
    return make_app()


def structure(path: Path) -> tuple[list[tuple[str, ...]], list[int]]:
    """Tables, columns, checks, indexes and marks; yoyo's of older releases aside."""
    found = query(path, "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")
    ours = [
        (kind, name, table, re.sub(r"[\s]+|(?=[,()])|(?<=[,()])", " ", COMMENT.sub("", sql or "")))
        for kind, name, table, sql in found
        if "yoyo" not in table
    ]
    marks = [query(path, f"PRAGMA {name}")[0][0] for name in ("application_id", "user_version")]
    return [tuple(" ".join(text.split()) for text in row) for row in ours], marks


def test_upgraded_database_equals_a_new_one(old: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.db"
    our_sqlite.create(fresh)

    migrate.upgrade(our_sqlite.Engine(old))

    assert structure(old) == structure(fresh)


def test_all_migrations_make_the_same_as_schema_sql(tmp_path: Path) -> None:
    fresh, stepped = tmp_path / "fresh.db", tmp_path / "stepped.db"
    our_sqlite.create(fresh)

    run_scripts(stepped, *(step.read_text() for step in STEPS))

    assert structure(stepped) == structure(fresh)


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_no_release_has_a_changed_schema(tmp_path: Path, version: int) -> None:
    path = tmp_path / "released.db"
    run_scripts(path, FIRST_RELEASE, *(step.read_text() for step in STEPS[1:version]))

    changes = []
    for _ in range(2):
        with closing(our_sqlite.open_database(path, oldest=1)) as driver:
            changes.append(migrate.find_schema_change(driver))
        migrate.upgrade(our_sqlite.Engine(path))

    assert changes == [None, None]


def test_each_migration_sets_its_number_as_the_version(tmp_path: Path) -> None:
    path = tmp_path / "stepped.db"

    for number, step in enumerate(STEPS, start=1):
        run_scripts(path, step.read_text())
        assert int(step.name.partition(".")[0]) == number
        assert query(path, "PRAGMA user_version") == [(number,)]

    assert len(STEPS) == SCHEMA_VERSION


def test_command_lists_migrations_and_keeps_the_data(app: Flask, old: Path) -> None:
    run = app.test_cli_runner().invoke

    first = run(args=["db", "upgrade"])
    again = run(args=["db", "upgrade"])

    up_to_date = f"Up to date: {old} has schema version {SCHEMA_VERSION}\n"
    assert first.output == "".join(f"Applied: {name}\n" for name in MISSING) + up_to_date
    assert again.output == up_to_date
    assert (first.exit_code, again.exit_code) == (0, 0)
    token = app.test_client().post("/auth", data=CREDENTIALS).text
    pets = app.test_client().get("/my-pets", headers={"Authorization": f"Bearer {token}"})
    assert pets.get_json() == [{"name": "Bunny", "species": "dog"}]
    assert query(old, "SELECT disabled FROM users") == [(0,)]


def test_addresses_of_sessions_become_known_addresses(old: Path) -> None:
    run_scripts(old, *(step.read_text() for step in STEPS[1:3]))
    with closing(sqlite3.connect(old)) as driver, driver:
        driver.executemany(
            "INSERT INTO sessions VALUES (NULL, ?, 1, x'00', 1, 1, ?, 0, 0, 0, 0, 0, NULL, ?, '')",
            [("a", 5, "192.0.2.1"), ("b", 7, "192.0.2.1"), ("c", 6, "192.0.2.2"),
             ("d", 8, ""), ("e", 9, "2001:db8::1")],
        )  # fmt: skip

    migrate.upgrade(our_sqlite.Engine(old))

    known = query(old, "SELECT * FROM known_addresses ORDER BY network")
    assert known == [(1, "192.0.2.1", 7), (1, "192.0.2.2", 6)]


def test_ids_of_deleted_rows_are_not_reused(app: Flask, old: Path) -> None:
    migrate.upgrade(our_sqlite.Engine(old))

    assert query(old, "SELECT seq FROM sqlite_sequence WHERE name = 'pets'") == [(2,)]
    assert query(old, "PRAGMA foreign_key_check") == query(old, "SELECT 1 WHERE 0")
    assert query(old, "PRAGMA integrity_check") == [("ok",)]


def test_older_database_is_refused_with_advice(app: Flask, old: Path) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        our_sqlite.check(old)

    assert caught.value.cause == (
        f"{old} has schema version 1, this release needs {SCHEMA_VERSION}: stop the service,"
        " keep a copy, and run the command `db upgrade`."
    )
    assert app.test_client().get("/readyz").status_code == 503


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 99])
def test_newer_database_is_refused_and_not_changed(app: Flask, old: Path, version: int) -> None:
    run_scripts(old, f"PRAGMA user_version = {version}")
    before = structure(old)

    done = app.test_cli_runner().invoke(args=["db", "upgrade"])

    assert done.exit_code == 1
    assert f"has schema version {version}, this release knows {SCHEMA_VERSION}" in done.output
    assert structure(old) == before


def test_missing_and_other_databases_are_refused(app: Flask, settings: Settings) -> None:
    run = app.test_cli_runner().invoke
    missing = run(args=["db", "upgrade"])
    run_scripts(file_of(settings), "CREATE TABLE letters (text)")
    another = run(args=["db", "upgrade"])

    assert (missing.exit_code, another.exit_code) == (1, 1)
    assert "No database at" in missing.output
    assert "is not a database of this service" in another.output
    assert query(file_of(settings), "SELECT name FROM sqlite_master") == [("letters",)]


def test_current_database_is_not_written(app: Flask, settings: Settings) -> None:
    fresh = file_of(settings)
    our_sqlite.create(fresh)
    before = fresh.read_bytes()

    done = app.test_cli_runner().invoke(args=["db", "upgrade"])

    assert (done.exit_code, done.output.count("\n")) == (0, 1)
    assert fresh.read_bytes() == before


def test_failed_migration_changes_nothing(old: Path) -> None:
    run_scripts(old, "CREATE TABLE enabled_admins (id)")  # in the way of an index of that name
    before = structure(old)

    with pytest.raises(DatabaseUnavailable) as caught:
        migrate.upgrade(our_sqlite.Engine(old))

    assert "can't be upgraded: there is already a table named enabled_admins" in caught.value.cause
    assert structure(old) == before
    run_scripts(old, "DROP TABLE enabled_admins")
    assert migrate.upgrade(our_sqlite.Engine(old)) == MISSING


def test_second_of_two_upgrades_at_once_fails(old: Path) -> None:
    migrate.upgrade(our_sqlite.Engine(old))
    run_scripts(old, "PRAGMA user_version = 1")

    with pytest.raises(DatabaseUnavailable, match="be upgraded: ") as caught:
        migrate.upgrade(our_sqlite.Engine(old))

    assert "can't be upgraded: duplicate column name: disabled" in caught.value.cause


def test_locked_database_is_refused(old: Path) -> None:
    with closing(sqlite3.connect(old, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailable) as caught:
            migrate.upgrade(our_sqlite.Engine(old))

    assert caught.value.cause == f"{old} can't be written: database is locked."


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "%20.db", "ü#1.db"])
def test_upgrade_works_with_special_characters_in_the_file_name(tmp_path: Path, name: str) -> None:
    run_scripts(tmp_path / name, FIRST_RELEASE)

    assert migrate.upgrade(our_sqlite.Engine(tmp_path / name)) == MISSING
    our_sqlite.check(tmp_path / name)
    assert {path.name.removesuffix("-wal").removesuffix("-shm") for path in tmp_path.iterdir()} == {
        name
    }


def test_upgrade_works_from_the_command_line(tmp_path: Path) -> None:
    run_scripts(tmp_path / "server.db", FIRST_RELEASE)

    own = {"DATABASE_URL": f"sqlite:///{tmp_path}/server.db"}  # on any database of the tests
    done = flask(tmp_path, BASE_ENVIRONMENT | own, "db", "upgrade")

    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == f"Applied: {MISSING[0]}"
