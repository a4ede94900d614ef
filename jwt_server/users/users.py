"""What is done with users' rows. Each function takes the connection it works on.

Who changes something says `by` whom it is done, for the audit log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from jwt_server import audit
from jwt_server.audit import Action, Actor
from jwt_server.database import Connection, Row
from jwt_server.errors import LastAdmin, NotFound, UsernameTaken
from jwt_server.users.names import checked, complaint, fits, username_key

PAGE: Final = 1000
"""How many users are read at a time where all are asked for."""

FIRST_CHARACTER: Final = "\0"
LAST_CHARACTER: Final = "\U0010ffff"
"""Come before and after every other: no key has them, as no name may."""


def find_by_name(db: Connection, username: str) -> Row | None:
    """The user of that name, however it is spelled, with the password's hash; or None."""
    if complaint(username) is not None:
        return None  # nobody can have it, and some such take long to normalize
    row: Row | None = db.queries.users.find_by_key(username_key=username_key(username))
    return row


def get_by_name(db: Connection, username: str) -> Row:
    """The user of that name, with the password's hash; raises NotFound."""
    user = find_by_name(db, username)
    if user is None:
        raise NotFound(f"There is no user {username!r:.80}.")
    return user


def find_by_id(db: Connection, user_id: int) -> Row | None:
    """The user with that id, with the password's hash; or None."""
    row: Row | None = db.queries.users.find_by_id(id=user_id)
    return row


def get_by_id(db: Connection, user_id: int) -> Row:
    """The user with that id, with the password's hash; raises NotFound."""
    user = find_by_id(db, user_id)
    if user is None:
        raise NotFound(f"There is no user {user_id}.")
    return user


def each_by_name(db: Connection, prefix: str = "") -> Iterator[Row]:
    """The users whose names begin with `prefix`, however it is spelled, in their order."""
    if not fits(prefix) or not prefix.isprintable():
        return  # no name begins so
    first = username_key(prefix)
    end = first + LAST_CHARACTER
    while page := db.queries.users.page_by_key(first=first, end=end, most=PAGE):
        yield from page
        first = page[-1]["username_key"] + FIRST_CHARACTER


def add(db: Connection, username: str, password_hash: str, *, admin: bool, actor: Actor) -> int:
    """Make a user; the id. Raises InvalidFields for a name that can't be one, UsernameTaken."""
    name = checked(username)
    with db.transaction():
        row: Row | None = db.queries.users.insert(
            username=name,
            username_key=username_key(name),
            password_hash=password_hash,
            admin=admin,
            now=actor.now,
        )
        if row is None:
            raise UsernameTaken
        action = Action.SIGNED_UP if actor.is_stranger else Action.USER_ADDED
        audit.record(db, actor, action, row["id"], username=name, admin=admin)
    return int(row["id"])


def note_sign_in(db: Connection, user: Row, new_hash: str, now: int) -> Row | None:
    """Keep when a user last signed in, and the hash to store from now on; id and admin, as of now.

    None where the user, as verified, is so no longer: disabled, gone, or of another password.
    """
    row: Row | None = db.queries.users.note_sign_in(
        id=user["id"], verified_hash=user["password_hash"], new_hash=new_hash, now=now
    )
    return row


def change_hash(db: Connection, user: Row, new_hash: str) -> Row | None:
    """Give a user another password; id and admin, as of now.

    None where the user, as verified, is so no longer.
    """
    row: Row | None = db.queries.users.change_hash(
        id=user["id"], verified_hash=user["password_hash"], new_hash=new_hash
    )
    return row


def set_hash(db: Connection, user_id: int, password_hash: str, *, actor: Actor) -> None:
    """Give a user another password, whatever it was. Raises NotFound."""
    with db.transaction():
        db.queries.users.set_hash(id=get_by_id(db, user_id)["id"], password_hash=password_hash)
        audit.record(db, actor, Action.PASSWORD_SET, user_id)


def rename(db: Connection, user_id: int, username: str, *, actor: Actor) -> None:
    """Give a user another name. Raises NotFound, InvalidFields, UsernameTaken."""
    name = checked(username)
    with db.transaction():
        former = get_by_id(db, user_id)["username"]
        renamed: int = db.queries.users.rename(
            id=user_id, username=name, username_key=username_key(name)
        )
        if not renamed:
            raise UsernameTaken
        if name != former:
            names = {"username": name, "former_username": former}
            audit.record(db, actor, Action.USER_RENAMED, user_id, **names)


def set_admin(db: Connection, user_id: int, *, admin: bool, actor: Actor) -> Row:
    """Make a user an admin, or one no longer; the user as it was. Raises NotFound, LastAdmin."""
    with db.transaction():
        user = get_by_id(db, user_id)
        if not admin:
            _keep_an_admin(db, user)
        if admin != user["admin"]:
            db.queries.users.set_admin(id=user_id, admin=admin)
            audit.record(db, actor, Action.USER_PROMOTED if admin else Action.USER_DEMOTED, user_id)
    return user


def set_disabled(db: Connection, user_id: int, *, disabled: bool, actor: Actor) -> Row:
    """Shut a user out, or let one in again; the user as it was. Raises NotFound, LastAdmin."""
    with db.transaction():
        user = get_by_id(db, user_id)
        if disabled:
            _keep_an_admin(db, user)
        if disabled != user["disabled"]:
            db.queries.users.set_disabled(id=user_id, disabled=disabled)
            action = Action.USER_DISABLED if disabled else Action.USER_ENABLED
            audit.record(db, actor, action, user_id)
    return user


def remove(db: Connection, user_id: int, *, actor: Actor) -> None:
    """Delete a user with all that is the user's. Raises NotFound, LastAdmin.

    The row that tells so is the only one left with the name.
    """
    with db.transaction():
        user = get_by_id(db, user_id)
        _keep_an_admin(db, user)
        db.queries.users.remove(id=user_id)
        audit.forget(db, user_id)
        audit.record(db, actor, Action.USER_DELETED, user_id, username=user["username"])


def _keep_an_admin(db: Connection, user: Row) -> None:
    if not user["admin"] or user["disabled"]:
        return
    if db.queries.users.another_admin(id=user["id"]) is None:
        raise LastAdmin
