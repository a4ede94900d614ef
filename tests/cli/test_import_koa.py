"""`flask import-koa`: all of the original's rows, or none and every reason."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
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
from jwt_server.koa.bring import PET_CHARACTERS
from tests.cli.test_users import at_a_terminal
from tests.helpers.factories import add_user
from tests.helpers.server import BASE_ENVIRONMENT, environment, flask

MYPASSWORD = "$2a$10$3pwJNVCM6NKzBOD1HPZHjuFdjX2Dg771aPZNbbBw9jTUbEMS919Te"
PASSWORD = "$2a$10$9ih.rp5cst7821W3F6mmh.XtB7l2/4mtlQSCGkQk4nUA6olU6Ztka"

SCHEMA = """
CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, username TEXT, passwordHash TEXT);
CREATE TABLE pets (id INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER, name TEXT, species TEXT);
"""
USERS = [(3, "travis", MYPASSWORD), (7, "Ünal", PASSWORD)]
PETS = [(1, 3, "Bunny", "dog"), (5, 7, "Ru", None), (9, 3, "Ünal's 🐈", "")]

Import = Callable[..., Result]


def original(path: Path, users: list[Any] = USERS, pets: list[Any] = PETS) -> Path:
    """A database of the original server."""
    with closing(sqlite3.connect(path)) as driver, driver:
        driver.executescript(SCHEMA)
        driver.executemany("INSERT INTO users VALUES (?, ?, ?)", users)
        driver.executemany("INSERT INTO pets VALUES (?, ?, ?, ?)", pets)
    return path


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """An empty database, without the demo user."""
    our_sqlite.create(settings.database)
    with closing(Database(settings.database)) as database:
        yield database


@pytest.fixture
def import_koa(app: Flask) -> Import:
    return lambda path: app.test_cli_runner().invoke(args=["import-koa", str(path)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "koa.db"


def everything(db: Connection) -> list[Any]:
    return [*db.driver.execute("SELECT * FROM users"), *db.driver.execute("SELECT * FROM pets")]


def test_everybody_signs_in_as_before(import_koa: Import, file: Path, client: FlaskClient) -> None:
    done = import_koa(original(file))

    assert done.exit_code == 0
    assert done.stdout == "Imported: 2 users, 3 pets\n"
    token = client.post("/auth", data={"username": "travis", "password": "mypassword"}).text
    pets = client.get("/my-pets", headers={"Authorization": f"Bearer {token}"})
    assert pets.text == '[{"name":"Bunny","species":"dog"},{"name":"Ünal\'s 🐈","species":null}]'
    answer = client.post("/auth", data={"username": "ÜNAL", "password": "password"})
    assert answer.status_code == 200


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


def test_new_ids_come_after_those_brought_over(
    import_koa: Import, file: Path, db: Connection
) -> None:
    import_koa(original(file))

    db.driver.execute("DELETE FROM users WHERE id = 7")

    added = "INSERT INTO users (username, username_key, password_hash, created_at)"
    row = db.driver.execute(f"{added} VALUES ('x', 'x', 'x', 0) RETURNING id").fetchone()
    assert row == {"id": 8}


def test_the_original_is_not_touched(import_koa: Import, file: Path) -> None:
    before = original(file).read_bytes()
    file.chmod(0o400)

    assert import_koa(file).exit_code == 0
    assert file.read_bytes() == before
    assert sorted(path.name for path in file.parent.glob("koa.db*")) == ["koa.db"]


# What is wrong with a row, and what is said of it.
BAD_USERS = {
    "no hash": ((9, "x", None), "User 9 ('x'): the password hash is unusable."),
    "another hash": ((9, "x", "5f4dcc3b"), "User 9 ('x'): the password hash is unusable."),
    "a cut hash": ((9, "x", MYPASSWORD[:29]), "User 9 ('x'): the password hash is unusable."),
    "bytes for a hash": ((9, "x", b"\0"), "User 9 ('x'): the password hash is unusable."),
    "too costly": (
        (9, "x", MYPASSWORD.replace("$10$", "$16$")),
        "User 9 ('x'): the password hash has the cost 16; 15 is the limit.",
    ),
    "no name": ((9, None, MYPASSWORD), "User 9 (None): the name is no text."),
    "bytes for a name": ((9, b"x", MYPASSWORD), "User 9 (b'x'): the name is no text."),
    "an empty name": ((9, "", MYPASSWORD), "User 9 (''): the name can't be one here."),
    "a long name": ((9, "x" * 65, MYPASSWORD), "Longer than 64 characters."),
    "a terminal's code": ((9, "\x1b[2J", MYPASSWORD), "User 9 ('\\x1b[2J'): the name can't be"),
    "a name with spaces": ((9, " x", MYPASSWORD), "Leave out the space"),
    "an id of nothing": ((0, "x", MYPASSWORD), "User 0 ('x'): the id is no whole number of"),
    "a negative id": ((-1, "x", MYPASSWORD), "User -1 ('x'): the id is no whole number of"),
    "an id too long": ((10**18, "x", MYPASSWORD), "the id is no whole number of 1 to 18 digits"),
    "a name twice": ((9, "TRAVIS", MYPASSWORD), "User 9 ('TRAVIS'): user 3 ('travis') has that"),
    "a taken name": ((9, "ADA", MYPASSWORD), "User 9 ('ADA'): user 1 ('ada') has that name"),
    "a taken id": ((1, "x", MYPASSWORD), "User 1 ('x'): user 1 ('ada') has that id already."),
}  # fmt: skip
BAD_PETS = {
    "no owner": ((4, None, "x", "y"), "Pet 4 ('x'): its owner, user None, is not in the file."),
    "an owner of ours": ((4, 1, "x", "y"), "Pet 4 ('x'): its owner, user 1, is not in the file."),
    "no name": ((4, 3, None, "y"), "Pet 4 (None): the name is no text."),
    "an empty name": ((4, 3, "", "y"), "Pet 4 (''): the name is empty."),
    "a long name": ((4, 3, "x" * 101, "y"), "the name is longer than 100 characters."),
    "NUL in a name": ((4, 3, "x\0", "y"), "Pet 4 ('x\\x00'): the name has a NUL in it."),
    "a long species": ((4, 3, "x", "y" * 101), "the species is longer than 100 characters."),
    "NUL in a species": ((4, 3, "x", "y\0"), "Pet 4 ('x'): the species has a NUL in it."),
    "bytes for a species": ((4, 3, "x", b"y"), "Pet 4 ('x'): the species is no text."),
    "an id of nothing": ((0, 3, "x", "y"), "Pet 0 ('x'): the id is no whole number of"),
    "a taken id": ((2, 3, "x", "y"), "Pet 2 ('x'): another pet has that id already."),
}


@pytest.fixture
def ada(db: Connection) -> None:
    """A user of ours, 1, and her pet, 2."""
    add_user(db, "ada")
    db.queries.koa.insert_pet(id=2, user_id=1, name="Tom", species=None, now=0)


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("kind", BAD_USERS)
def test_one_bad_user_and_nothing_comes_over(
    import_koa: Import, file: Path, db: Connection, kind: str
) -> None:
    user, said = BAD_USERS[kind]
    before = everything(db)

    done = import_koa(original(file, [*USERS, user]))

    assert done.exit_code == 1
    assert said in done.output
    assert done.output.endswith("Error: Nothing was imported, for the reasons above (1).\n")
    assert everything(db) == before


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("kind", BAD_PETS)
def test_one_bad_pet_and_nothing_comes_over(
    import_koa: Import, file: Path, db: Connection, kind: str
) -> None:
    pet, said = BAD_PETS[kind]
    before = everything(db)

    done = import_koa(original(file, USERS, [*PETS, pet]))

    assert done.exit_code == 1
    assert said in done.output
    assert "reasons above (1)" in done.output
    assert everything(db) == before


def test_pets_up_to_the_limits_come_over(import_koa: Import, file: Path) -> None:
    pets = [(1, 3, "x" * 100, "y" * 100), (2, 3, "🐈" * 100, None)]

    assert import_koa(original(file, USERS, pets)).exit_code == 0


def test_the_limits_are_the_apis(client: FlaskClient) -> None:
    schemas = client.get("/openapi.json").get_json()["components"]["schemas"]
    fields = schemas["PetFields"]["properties"]

    assert (fields["name"]["minLength"], fields["name"]["maxLength"]) == (1, PET_CHARACTERS)
    assert fields["species"]["maxLength"] == PET_CHARACTERS


@pytest.mark.usefixtures("ada")
def test_every_reason_is_listed_at_once(import_koa: Import, file: Path, db: Connection) -> None:
    users = [
        (1, "Ada", "x"), (9, "BOB", "x"), (10, "", MYPASSWORD), (11, "bob", MYPASSWORD),
        (0, "ADA", None), (12, "fine", MYPASSWORD),
    ]  # fmt: skip
    pets = [
        (2, 9, "of a refused one", b"x"), (0, 1, None, None), (3, 99, "of nobody", None),
        (4, 12, "fine", None),
    ]  # fmt: skip
    before = everything(db)

    done = import_koa(original(file, users, pets))

    reasons = [line for line in done.stderr.splitlines() if line.startswith(("User", "Pet"))]
    no_id = "the id is no whole number of 1 to 18 digits (text in quotes is none)."
    assert reasons == [
        f"User 0 ('ADA'): {no_id}",
        "User 0 ('ADA'): the password hash is unusable.",
        "User 0 ('ADA'): user 1 ('ada') has that name already.",
        "User 1 ('Ada'): the password hash is unusable.",
        "User 1 ('Ada'): user 1 ('ada') has that id and name already.",
        "User 9 ('BOB'): the password hash is unusable.",
        "User 10 (''): the name can't be one here. Use at least one character.",
        "User 11 ('bob'): user 9 ('BOB') has that name already.",
        f"Pet 0 (None): {no_id}",
        "Pet 0 (None): the name is no text.",
        "Pet 2 ('of a refused one'): the species is no text.",
        "Pet 2 ('of a refused one'): another pet has that id already.",
        "Pet 3 ('of nobody'): its owner, user 99, is not in the file.",
    ]
    assert everything(db) == before


def many(path: Path, users: int) -> Path:
    rows = ((number, f"user{number}", MYPASSWORD) for number in range(1, users + 1))
    pets = ((number, number, f"pet{number}", "dog") for number in range(1, users + 1))
    return original(path, rows, pets)  # type: ignore[arg-type]  # as good as lists here


MEASURED = """
import resource, sys
from jwt_server.wsgi import app
done = app.test_cli_runner().invoke(args=["import-koa", sys.argv[1]])
assert done.exit_code == 0, done.output
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_it_needs_no_more_memory_for_more_rows(tmp_path: Path) -> None:
    kilobytes = []
    for number in (100, 20_000):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert flask(folder, BASE_ENVIRONMENT, "init-db").returncode == 0
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-c", MEASURED, str(many(folder / "koa.db", number))],
            cwd=folder, env=environment(folder, BASE_ENVIRONMENT),
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        kilobytes.append(int(done.stdout))

    assert kilobytes[1] < kilobytes[0] + 8 * 1024  # the rows alone are 20 MB as Python has them


def test_a_person_sees_how_far_it_is(tmp_path: Path) -> None:
    flask(tmp_path, BASE_ENVIRONMENT, "init-db")

    code, seen = at_a_terminal(tmp_path, [], "import-koa", str(many(tmp_path / "koa.db", 5000)))

    assert code == 0
    assert re.search(r"Importing .*#+-+.* [1-9]\d?%", seen)
    assert "100%" in seen
    assert "Imported: 5000 users, 5000 pets" in seen


def test_what_is_wrong_with_our_database_is_not_said_of_the_file(
    import_koa: Import, file: Path, db: Connection, settings: Settings
) -> None:
    original(file)
    with closing(sqlite3.connect(settings.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        locked = import_koa(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        held = import_koa(file)

    assert locked.output.endswith("Error: The database fails: database is locked.\n")
    assert held.output.endswith(f"Error: {file} can't be read: database is locked.\n")


def test_text_that_is_no_utf_8_is_named(import_koa: Import, file: Path) -> None:
    original(file)
    with closing(sqlite3.connect(file)) as driver, driver:
        driver.execute("UPDATE users SET username = CAST(x'ff' AS TEXT) WHERE id = 7")
        driver.execute("UPDATE users SET passwordHash = passwordHash || CAST(x'ff' AS TEXT)")
        driver.execute("UPDATE pets SET name = CAST(x'ff' AS TEXT) WHERE id = 1")

    done = import_koa(file)

    assert done.exit_code == 1
    assert "User 3 ('travis'): the password hash is unusable." in done.output
    assert "User 7 ('\\udcff'): the name can't be one here." in done.output
    assert "User 7 ('\\udcff'): the password hash is unusable." in done.output
    assert "Pet 1 ('\\udcff'): the name is no text." in done.output
    assert "reasons above (4)" in done.output


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no such table: users"),
        (b"letters to my aunt, and some more of them\n" * 30, "file is not a database"),
        ("CREATE TABLE users (id, username, passwordHash)", "no such table: pets"),
        ("CREATE TABLE users (id); CREATE TABLE pets (id, user_id, name, species)", "no such"),
    ],
)
def test_another_file_is_told_to_be_one(
    import_koa: Import, file: Path, content: str | bytes, why: str
) -> None:
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        with closing(sqlite3.connect(file)) as driver:
            driver.executescript(content)

    done = import_koa(file)

    assert done.exit_code == 1
    assert f"Error: {file} is no database of the original server: {why}" in done.output


def test_there_must_be_a_file(import_koa: Import, tmp_path: Path) -> None:
    assert import_koa(tmp_path / "missing").exit_code == 2
    assert import_koa(tmp_path).exit_code == 2


def test_our_own_database_is_not_the_originals(import_koa: Import, settings: Settings) -> None:
    done = import_koa(settings.database)

    assert done.exit_code == 1
    assert "no such column: passwordHash" in done.output


def test_hashes_up_to_the_limit_come_over(import_koa: Import, file: Path, db: Connection) -> None:
    costly = MYPASSWORD.replace("$10$", "$15$")
    cheap = bcrypt.using(rounds=4).hash("x")

    assert import_koa(original(file, [(1, "a", costly), (2, "b", cheap)], [])).exit_code == 0
    assert [row["password_hash"] for row in everything(db)] == [costly, cheap]


def test_a_user_types_it_and_sees_a_bar_only_at_a_terminal(tmp_path: Path, file: Path) -> None:
    flask(tmp_path, BASE_ENVIRONMENT, "init-db")

    done = flask(tmp_path, BASE_ENVIRONMENT, "import-koa", str(original(file)))

    assert (done.returncode, done.stdout) == (0, "Imported: 2 users, 3 pets\n")
    assert "#" not in done.stderr
