"""`flask import-koa`: import the users and pets of the original server, a Koa app."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import aiosql
import click

from jwt_server import audit
from jwt_server.cli.base import Refusal, echo, opened, operator_actor, top
from jwt_server.database import Connection, Row
from jwt_server.pets.routes import PetFieldsSchema
from jwt_server.security.passwords import NO_HASH, hash_cost
from jwt_server.security.primitives import MAX_ID
from jwt_server.sqlite import BUSY_SECONDS, as_dict
from jwt_server.users import names

SOURCE: Final = aiosql.from_path(Path(__file__).with_name("import_koa.sql"), "sqlite3")

PET_FIELDS: Final = PetFieldsSchema()
BAD_ID: Final = "the id is not an integer of 1 to 18 digits."


@top.command("import-koa")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_koa(file: Path) -> None:
    """Import the users and pets of the original server.

    Example: import-koa server.sqlite3

    FILE is the SQLite database of that server. Ids, names and password hashes are kept, so
    everyone signs in as before. If one row can't be imported, nothing is, and every reason is
    listed: the id or name is taken (names are compared without case), the hash is unusable, a
    pet's name is empty or longer than 100 characters.

    Stop the service first. Start with a new database, without the demo user.
    """
    problems: list[str] = []
    users = pets = 0
    actor = operator_actor()
    with opened() as db, _opened_source(file) as source, db.transaction():
        for user in SOURCE.users(source):
            problems += _import_user(db, user, actor.now)
            users += 1
        for pet in SOURCE.pets(source):
            problems += _import_pet(db, pet, actor.now, dry_run=bool(problems))
            pets += 1
        if problems:
            raise Refusal("\n".join(["Nothing was imported:", *problems]))
        db.queries.cli.continue_ids()
        audit.record(db, actor, audit.Action.USERS_IMPORTED, users=users, pets=pets)
    echo(f"Imported: {users} users, {pets} pets")


@contextmanager
def _opened_source(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the original's file for reading only, as one snapshot."""
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as driver:
            driver.row_factory = as_dict
            # Text that is not UTF-8 is reported with its row.
            driver.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
            driver.execute("BEGIN")
            for table in ("users", "pets"):  # a view may have rows without end
                types = [row["type"] for row in driver.execute(f"PRAGMA table_list({table})")]
                if types not in ([], ["table"]):
                    raise Refusal(f"{path} can't be imported: {table} is no table.")
            driver.execute("SELECT 1 FROM users, pets")  # fails for a file of another kind
            yield driver
    except sqlite3.Error as error:
        raise Refusal(
            f"{path} can't be read as a database of the original server: {error}."
        ) from error


def _import_user(db: Connection, user: Row, now: int) -> list[str]:
    """Insert a user, and return the reasons why the user can't be imported.

    A user with an unusable hash is inserted all the same, so that conflicts of later rows with it
    are found, too.
    """
    user_id, name, stored = _valid_id(user["id"]), user["username"], user["password_hash"]
    problems = [] if user_id else [BAD_ID]
    bad_name = names.find_problem(name) if isinstance(name, str) else "It is not text."
    if bad_name:
        problems.append(f"the name can't be used. {bad_name}")
    cost = hash_cost(stored) if isinstance(stored, str) and stored.isascii() else None
    if cost is None:
        problems.append("the password hash is unusable.")
    key = None if bad_name else names.username_key(name)
    conflicts = db.queries.cli.conflicting_users(id=user_id, username_key=key)
    problems += [
        f"user {_label(other['id'], other['username'])} has that id or name already."
        for other in conflicts
    ]
    if user_id and key and not conflicts:
        db.queries.cli.insert_user(
            id=user_id,
            username=names.normalize(name),
            username_key=key,
            password_hash=NO_HASH if cost is None else stored,
            now=now,
        )
    return [f"User {_label(user['id'], name)}: {problem}" for problem in problems]


def _import_pet(db: Connection, pet: Row, now: int, *, dry_run: bool) -> list[str]:
    """Insert a pet unless `dry_run`, and return the reasons why it can't be imported."""
    pet_id = _valid_id(pet["id"])
    fields = {name: pet[name] for name in PET_FIELDS.fields if name in pet}
    problems = [] if pet_id else [BAD_ID]
    if pet["owner"] is None:
        problems.append(f"its owner, user {pet['user_id']!r:.40}, is not in the file.")
    for field, messages in PET_FIELDS.validate(fields).items():
        problems.append(f"the {field} can't be used. {' '.join(messages)}")
    if db.queries.cli.pet_exists(id=pet_id):
        problems.append("another pet has that id already.")
    if not problems and not dry_run:
        loaded = PET_FIELDS.load(fields)
        db.queries.cli.insert_pet(id=pet_id, user_id=pet["owner"], now=now, **loaded)
    return [f"Pet {_label(pet['id'], pet['name'])}: {problem}" for problem in problems]


def _valid_id(value: Any) -> int | None:
    return value if isinstance(value, int) and 1 <= value <= MAX_ID else None


def _label(row_id: Any, name: Any) -> str:
    """Name a row by id and name, escaped and cut so that it is safe to print to a terminal."""
    return f"{row_id!r:.40} ({name!r:.80})"
