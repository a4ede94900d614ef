"""All of the original's users and pets into our database, or none and every reason why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from jwt_server import audit
from jwt_server.audit import Action, operator
from jwt_server.database import Connection, Row
from jwt_server.koa.original import Original
from jwt_server.security.passwords import NO_HASH, hash_cost
from jwt_server.security.primitives import MAX_ID
from jwt_server.users import names

MAX_COST: Final = 15
"""A hash that is costlier (log2) would hold a core for seconds at every sign-in."""

PET_CHARACTERS: Final = 100
"""The longest name, and the longest species, that the API takes for a pet."""

NO_ID: Final = "the id is no whole number of 1 to 18 digits (text in quotes is none)."


class Refused(Exception):
    """Nothing was brought over; `reasons` holds one sentence for each row that can't be."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(f"{len(reasons)} reasons")
        self.reasons = reasons


@dataclass
class _Import:
    db: Connection
    now: int
    reasons: list[str] = field(default_factory=list)
    users: int = 0
    pets: int = 0


def bring_over(
    db: Connection, original: Original, now: int, tell: Callable[[], object]
) -> tuple[int, int]:
    """Take over the original's rows, ids and hashes kept; how many users and pets there were.

    `tell` is called after each row. All is one transaction, and at most one row is held at a
    time. A row that can't come over is put in all the same, with stand-ins for what is wrong, so
    that what clashes with it is found, too; then everything is undone.
    Raises Refused, NotTheOriginals, DatabaseUnavailable.
    """
    work = _Import(db, now)
    with db.transaction():
        for user in original.users():
            _bring_user(work, user)
            tell()
        for pet in original.pets():
            _bring_pet(work, pet)
            tell()
        if work.reasons:
            raise Refused(work.reasons)
        imported = {"users": work.users, "pets": work.pets}
        audit.record(db, operator(now), Action.USERS_IMPORTED, **imported)
    return work.users, work.pets


def _bring_user(work: _Import, user: Row) -> None:
    wrong = [*_wrong_with_user(user), *_insert_user(work, user)]
    work.reasons += [f"User {_shown(user['id'], user['username'])}: {text}" for text in wrong]
    work.users += 1


def _wrong_with_user(user: Row) -> Iterator[str]:
    if not _is_id(user["id"]):
        yield NO_ID
    if not isinstance(user["username"], str):
        yield "the name is no text."
    elif complaint := names.complaint(user["username"]):
        yield f"the name can't be one here. {complaint}"
    cost = hash_cost(user["password_hash"]) if _is_text(user["password_hash"]) else None
    if cost is None:
        yield "the password hash is unusable."
    elif cost > MAX_COST:
        yield f"the password hash has the cost {cost}; {MAX_COST} is the limit."


def _insert_user(work: _Import, user: Row) -> Iterator[str]:
    """Put the user in; what is in the way."""
    named = isinstance(user["username"], str) and not names.complaint(user["username"])
    username = names.normalized(user["username"]) if named else f"\0{user['id']!r}"
    row_id, key = user["id"] if _is_id(user["id"]) else 0, names.username_key(username)
    queries = work.db.queries.koa
    if row_id and queries.insert_user(
        id=row_id,
        username=username,
        username_key=key,
        password_hash=user["password_hash"] if _is_text(user["password_hash"]) else NO_HASH,
        now=work.now,
    ):
        return
    for other in queries.users_in_the_way(id=row_id, username_key=key):
        same = [
            what for what, ours in (("id", row_id), ("username_key", key)) if other[what] == ours
        ]
        what = " and ".join(same).replace("username_key", "name")
        yield f"user {_shown(other['id'], other['username'])} has that {what} already."


def _bring_pet(work: _Import, pet: Row) -> None:
    wrong = [*_wrong_with_pet(pet), *_insert_pet(work, pet)]
    work.reasons += [f"Pet {_shown(pet['id'], pet['name'])}: {text}" for text in wrong]
    work.pets += 1


def _wrong_with_pet(pet: Row) -> Iterator[str]:
    if not _is_id(pet["id"]):
        yield NO_ID
    if pet["owner"] is None:
        yield f"its owner, user {pet['user_id']!r:.40}, is not in the file."
    if complaint := _complaint(pet["name"], least=1):
        yield f"the name {complaint}."
    if pet["species"] is not None and (complaint := _complaint(pet["species"], least=0)):
        yield f"the species {complaint}."


def _complaint(text: Any, *, least: int) -> str | None:
    """What keeps this from being a pet's name or species here; or None."""
    if not _is_text(text):
        return "is no text"
    if len(text) < least:
        return "is empty"
    if len(text) > PET_CHARACTERS:
        return f"is longer than {PET_CHARACTERS} characters"
    return "has a NUL in it" if "\0" in text else None


def _insert_pet(work: _Import, pet: Row) -> Iterator[str]:
    """Put the pet in; what is in the way."""
    if not _is_id(pet["id"]) or not _is_id(pet["owner"]):
        return
    if not work.db.queries.koa.insert_pet(
        id=pet["id"],
        user_id=pet["owner"],
        name=pet["name"] if _is_text(pet["name"]) else "",
        species=pet["species"] if _is_text(pet["species"]) and pet["species"] else None,
        now=work.now,
    ):
        yield "another pet has that id already."


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and 1 <= value <= MAX_ID


def _is_text(value: Any) -> bool:
    """Whether it is text that the database can hold: no bytes that were no UTF-8."""
    return isinstance(value, str) and not any("\ud800" <= each <= "\udfff" for each in value)


def _shown(row_id: Any, name: Any) -> str:
    """A row as it may stand on a terminal, whatever is in it."""
    return f"{row_id!r:.40} ({name!r:.80})"
