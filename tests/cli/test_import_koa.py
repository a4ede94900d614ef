"""`flask import-koa`: imports all rows of the original server, or none and lists every reason."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from passlib.hash import bcrypt

from jwt_server import sqlite as our_sqlite
from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from tests.helpers.databases import create_empty_database, file_of
from tests.helpers.factories import add_user, execute
from tests.helpers.server import BASE_ENVIRONMENT, environment
from tests.helpers.sql import lock_writers_out

MYPASSWORD = "$2a$10$3pwJNVCM6NKzBOD1HPZHjuFdjX2Dg771aPZNbbBw9jTUbEMS919Te"
PASSWORD = "$2a$10$9ih.rp5cst7821W3F6mmh.XtB7l2/4mtlQSCGkQk4nUA6olU6Ztka"

SCHEMA = """
CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, username TEXT, passwordHash TEXT);
CREATE TABLE pets (id INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER, name TEXT, species TEXT);
"""
USERS = [(3, "travis", MYPASSWORD), (7, "Ünal", PASSWORD)]
PETS = [(1, 3, "Bunny", "dog"), (5, 7, "Ru", None), (9, 3, "Ünal's 🐈", "")]

Rows = Iterable[tuple[Any, ...]]
Import = Callable[..., Result]


def original(path: Path, users: Rows = USERS, pets: Rows = PETS) -> Path:
    """Create a database of the original server."""
    with closing(sqlite3.connect(path)) as driver, driver:
        driver.executescript(SCHEMA)
        driver.executemany("INSERT INTO users VALUES (?, ?, ?)", users)
        driver.executemany("INSERT INTO pets VALUES (?, ?, ?, ?)", pets)
    return path


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """An empty database, without the demo user."""
    create_empty_database(settings.database)
    with closing(Database(settings.database)) as database:
        yield database


@pytest.fixture
def import_koa(app: Flask) -> Import:
    return lambda path: app.test_cli_runner().invoke(args=["import-koa", str(path)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "koa.db"


@pytest.fixture
def ada(db: Connection) -> None:
    """A user of the service, 1, with a pet, 2."""
    add_user(db, "ada")
    db.queries.cli.insert_pet(id=2, user_id=1, name="Tom", species=None, now=0)


def rows(db: Connection) -> list[Any]:
    return [
        *execute(db, "SELECT * FROM users ORDER BY id"),
        *execute(db, "SELECT * FROM pets ORDER BY id"),
    ]


def test_imported_users_sign_in_with_their_passwords(
    import_koa: Import, file: Path, client: FlaskClient
) -> None:
    done = import_koa(original(file))

    assert (done.exit_code, done.stdout) == (0, "Imported: 2 users, 3 pets\n")
    token = client.post("/auth", data={"username": "travis", "password": "mypassword"}).text
    pets = client.get("/my-pets", headers={"Authorization": f"Bearer {token}"})
    assert pets.text == '[{"name":"Bunny","species":"dog"},{"name":"Ünal\'s 🐈","species":null}]'
    response = client.post("/auth", data={"username": "ÜNAL", "password": "password"})
    assert response.status_code == 200


def test_ids_and_hashes_are_kept(import_koa: Import, file: Path, db: Connection) -> None:
    import_koa(original(file))

    users = db.driver.execute("SELECT id, username, username_key, password_hash, admin FROM users")
    assert [tuple(row.values()) for row in users] == [
        (3, "travis", "travis", MYPASSWORD, 0),
        (7, "Ünal", "ünal", PASSWORD, 0),
    ]
    pets = db.driver.execute("SELECT id, user_id, name, species FROM pets ORDER BY id")
    assert [tuple(row.values()) for row in pets] == [
        (1, 3, "Bunny", "dog"), (5, 7, "Ru", None), (9, 3, "Ünal's 🐈", None)
    ]  # fmt: skip


def test_imported_ids_are_not_reused(import_koa: Import, file: Path, db: Connection) -> None:
    import_koa(original(file))

    db.driver.execute("DELETE FROM users WHERE id = 7")

    assert add_user(db, "x") == 8


def test_the_original_file_is_not_changed(import_koa: Import, file: Path) -> None:
    before = original(file).read_bytes()
    file.chmod(0o400)

    assert import_koa(file).exit_code == 0
    assert file.read_bytes() == before
    assert sorted(path.name for path in file.parent.glob("koa.db*")) == ["koa.db"]


BAD_USERS = [
    ((-1, "negative id", MYPASSWORD), "the id is not an integer of 1 to 18 digits."),
    ((0, "ADA", MYPASSWORD), "the id is not an integer of 1 to 18 digits."),
    ((0, "ADA", MYPASSWORD), "user 1 ('ada') has that id or name already."),
    ((1, "x", MYPASSWORD), "user 1 ('ada') has that id or name already."),
    ((9, "BOB", None), "the password hash is unusable."),
    ((10, "bob", MYPASSWORD), "user 9 ('BOB') has that id or name already."),
    ((11, "TRAVIS", MYPASSWORD), "user 3 ('travis') has that id or name already."),
    ((12, "another hash", "5f4dcc3b"), "the password hash is unusable."),
    ((13, "cut", MYPASSWORD[:29]), "the password hash is unusable."),
    ((14, "bytes", b"\0"), "the password hash is unusable."),
    ((16, None, MYPASSWORD), "the name can't be used. It is not text."),
    ((17, b"x", MYPASSWORD), "the name can't be used. It is not text."),
    ((18, "", "x"), "the name can't be used. "),
    ((18, "", "x"), "the password hash is unusable."),
    ((19, "x" * 65, MYPASSWORD), "the name can't be used. Longer than 64 characters."),
    ((20, "\x1b[2J", MYPASSWORD), "the name can't be used. "),
    ((21, "\N{DIAERESIS}x", MYPASSWORD), "the name can't be used. "),
    ((10**18, "id too long", MYPASSWORD), "the id is not an integer of 1 to 18 digits."),
]
BAD_NAME = "the name can't be used. "
BAD_SPECIES = "the species can't be used. "
BAD_PETS = [
    ((0, 3, "zero", "y"), "the id is not an integer of 1 to 18 digits."),
    ((2, 9, "ada's id", "y" * 101), BAD_SPECIES),
    ((2, 9, "ada's id", "y" * 101), "another pet has that id already."),
    ((10, None, "x", "y"), "its owner, user None, is not in the file."),
    ((11, 1, "ada's", "y"), "its owner, user 1, is not in the file."),
    ((12, 3, None, "y"), BAD_NAME),
    ((13, 3, "", "y"), BAD_NAME),
    ((14, 3, "x" * 101, "y"), BAD_NAME),
    ((15, 3, "x\0", "y"), BAD_NAME),
    ((16, 3, "long species", "y" * 101), BAD_SPECIES),
    ((17, 3, "NUL in species", "y\0"), BAD_SPECIES),
]


def reported(done: Result) -> list[str]:
    """The reasons for which the import was refused."""
    assert done.exit_code == 1
    _, found, reasons = done.stderr.partition("Error: Nothing was imported:\n")
    assert found
    return reasons.splitlines()


def assert_reported(done: Result, kind: str, bad: list[tuple[tuple[Any, ...], str]]) -> None:
    for reason, (row, expected) in zip(reported(done), bad, strict=True):
        name = row[1] if kind == "User" else row[2]
        assert reason.startswith(f"{kind} {row[0]} ({name!r:.80}): {expected}")


@pytest.mark.usefixtures("ada")
def test_bad_users_are_all_reported_and_nothing_is_imported(
    import_koa: Import, file: Path, db: Connection
) -> None:
    before = rows(db)

    done = import_koa(original(file, [*USERS, *dict(BAD_USERS)], PETS))

    assert_reported(done, "User", BAD_USERS)
    assert rows(db) == before


@pytest.mark.usefixtures("ada")
def test_bad_pets_are_all_reported_and_nothing_is_imported(
    import_koa: Import, file: Path, db: Connection
) -> None:
    before = rows(db)

    done = import_koa(original(file, [*USERS, (9, "bob", PASSWORD)], [*PETS, *dict(BAD_PETS)]))

    assert_reported(done, "Pet", BAD_PETS)
    assert rows(db) == before


def test_a_pet_of_a_refused_user_is_not_a_second_reason(import_koa: Import, file: Path) -> None:
    done = import_koa(original(file, [(3, "travis", None)], [(1, 3, "Bunny", "dog")]))

    assert reported(done) == ["User 3 ('travis'): the password hash is unusable."]


def test_values_at_the_limits_are_imported(import_koa: Import, file: Path, db: Connection) -> None:
    costly = MYPASSWORD.replace("$10$", "$15$")
    cheap = bcrypt.using(rounds=4).hash("x")
    pets = [(1, 1, "x" * 100, "y" * 100), (10**18 - 1, 2, "🐈" * 100, None)]

    done = import_koa(original(file, [(1, "a", costly), (2, "b", cheap)], pets))

    assert done.exit_code == 0
    assert [row["password_hash"] for row in rows(db)[:2]] == [costly, cheap]


def test_text_that_is_not_utf_8_is_reported(import_koa: Import, file: Path) -> None:
    original(file)
    with closing(sqlite3.connect(file)) as driver, driver:
        driver.execute("UPDATE users SET username = CAST(x'ff' AS TEXT) WHERE id = 7")
        driver.execute("UPDATE users SET passwordHash = passwordHash || CAST(x'ff' AS TEXT)")
        driver.execute("UPDATE pets SET name = CAST(x'ff' AS TEXT) WHERE id = 1")

    reasons = reported(import_koa(file))

    assert [reason.partition(":")[0] for reason in reasons] == [
        "User 3 ('travis')", "User 7 ('\\udcff')", "User 7 ('\\udcff')", "Pet 1 ('\\udcff')"
    ]  # fmt: skip


def test_a_locked_database_and_a_locked_file_are_told_apart(
    import_koa: Import, file: Path, db: Connection
) -> None:
    original(file)
    lock_writers_out(db)
    locked = import_koa(file)
    db.driver.rollback()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        held = import_koa(file)

    assert locked.exit_code == held.exit_code == 1
    assert re.search("database is locked|lock timeout", locked.output)
    assert str(file) not in locked.output
    assert f"{file} can't be read" in held.output


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no such table: users"),
        (b"This is not a database, and it is longer than a header.\n" * 30, "not a database"),
        ("CREATE TABLE users (id, username, passwordHash)", "no such table: pets"),
        ("CREATE TABLE users (id); CREATE TABLE pets (id, user_id, name, species)", "no such"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    import_koa: Import, file: Path, content: str | bytes, why: str
) -> None:
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        with closing(sqlite3.connect(file)) as driver:
            driver.executescript(content)

    done = import_koa(file)

    assert done.exit_code == 1
    assert f"Error: {file} can't be read as a database of the original server: " in done.output
    assert why in done.output


ENDLESS = """
WITH RECURSIVE x (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM x)
SELECT id, id AS username, '' AS passwordHash, id AS user_id, '' AS name, '' AS species FROM x
"""


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (f"DROP TABLE users; CREATE VIEW Users AS {ENDLESS}", "users is no table"),
        (f"DROP TABLE pets; CREATE VIEW pets AS {ENDLESS}", "pets is no table"),
        ("DROP TABLE pets; CREATE VIRTUAL TABLE pets USING fts4 (id, user_id, name, species)",
         "pets is no table"),
    ],
)  # fmt: skip
def test_only_tables_are_imported(
    import_koa: Import, file: Path, db: Connection, script: str, why: str
) -> None:
    with closing(sqlite3.connect(original(file))) as driver:
        driver.executescript(script)

    done = import_koa(file)

    assert (done.exit_code, why in done.output) == (1, True)
    assert rows(db) == []


def test_a_missing_file_or_a_folder_is_a_wrong_command_line(
    import_koa: Import, tmp_path: Path
) -> None:
    assert import_koa(tmp_path / "missing").exit_code == 2
    assert import_koa(tmp_path).exit_code == 2


def test_the_services_own_database_is_refused(import_koa: Import, settings: Settings) -> None:
    done = import_koa(file_of(settings))

    assert done.exit_code == 1
    assert "no such column: passwordHash" in done.output


def many(path: Path, users: int) -> Path:
    return original(
        path,
        ((number, f"user{number}", MYPASSWORD) for number in range(1, users + 1)),
        ((number, number, f"pet{number}", "dog") for number in range(1, users + 1)),
    )


MEASURED = """
import os, resource, sys
from jwt_server.app import create_app
from jwt_server.config import process_settings
for folder in sys.argv[1:]:
    os.chdir(folder)
    process_settings.cache_clear()
    done = create_app().test_cli_runner().invoke(args=["import-koa", "koa.db"])
    assert done.exit_code == 0, done.output
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    folders = [tmp_path / "few", tmp_path / "many"]
    for folder, number in zip(folders, (100, 10_000), strict=True):
        folder.mkdir()
        our_sqlite.create(folder / "server.db")
        many(folder / "koa.db", number)
    extra = BASE_ENVIRONMENT | {"DATABASE_URL": "sqlite:///server.db"}
    done = subprocess.run(  # noqa: S603 - a fixed command
        [sys.executable, "-c", MEASURED, *map(str, folders)],
        cwd=tmp_path, env=environment(tmp_path, extra),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    few, most = map(int, done.stdout.split())

    assert most < few + 5 * 1024  # the rows alone take 10 MB in Python
