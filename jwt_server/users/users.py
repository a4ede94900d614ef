"""Functions on the rows of users. Changes take the actor, for the audit log."""

from collections.abc import Iterator
from typing import Final

from jwt_server import audit
from jwt_server.audit import Action, Actor
from jwt_server.database import Connection, Row
from jwt_server.errors import LastAdmin, NotFound, UsernameTaken
from jwt_server.security.passwords import hash_password, verify_password
from jwt_server.users import names
from jwt_server.users.names import username_key

PAGE_SIZE: Final = 1000
"""Users read at a time when all are listed."""

FLAG_ACTIONS: Final = {
    ("admin", True): Action.USER_PROMOTED,
    ("admin", False): Action.USER_DEMOTED,
    ("disabled", True): Action.USER_DISABLED,
    ("disabled", False): Action.USER_ENABLED,
}

DEMO_USERNAME: Final = "travis"
DEMO_PASSWORD: Final = "mypassword"  # noqa: S105 - published, to try the service out locally


def find_by_name(db: Connection, username: str) -> Row | None:
    """Return the user of that name, in any spelling, with the password hash; or None."""
    if names.find_problem(username) is not None:
        return None  # nobody can have it, and some such names take long to normalize
    row: Row | None = db.queries.users.find_by_key(username_key=username_key(username))
    return row


def get_by_name(db: Connection, username: str) -> Row:
    """Return the user as `find_by_name`. Raises NotFound."""
    user = find_by_name(db, username)
    if user is None:
        raise NotFound(f"There is no user {username!r:.80}.")
    return user


def find_by_id(db: Connection, user_id: int) -> Row | None:
    """Return the user with that id, with the password hash; or None."""
    row: Row | None = db.queries.users.find_by_id(id=user_id)
    return row


def get_by_id(db: Connection, user_id: int) -> Row:
    """Return the user as `find_by_id`. Raises NotFound."""
    user = find_by_id(db, user_id)
    if user is None:
        raise NotFound(f"There is no user {user_id}.")
    return user


def each_by_name(db: Connection, prefix: str = "") -> Iterator[Row]:
    """Yield the users whose names begin with `prefix`, in any spelling, sorted by name."""
    if not names.fits(prefix) or not prefix.isprintable():
        return  # no valid name begins so
    first = username_key(prefix)
    end = first + "\U0010ffff"  # no name contains the first or last character in sort order
    while page := db.queries.users.page_by_key(first=first, end=end, limit=PAGE_SIZE):
        yield from page
        first = page[-1]["username_key"] + "\0"


def add(db: Connection, username: str, password_hash: str, *, admin: bool, actor: Actor) -> int:
    """Create a user; return the id. Raises InvalidFields, UsernameTaken."""
    name = names.validate(username)
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
        is_sign_up = actor.id is None and not actor.is_operator
        action = Action.SIGNED_UP if is_sign_up else Action.USER_ADDED
        audit.record(db, actor, action, row["id"], username=name, admin=admin)
    return int(row["id"])


def replace_hash(
    db: Connection, user: Row, new_hash: str, signed_in_at: int | None = None
) -> Row | None:
    """Replace a verified password hash, and note a sign-in; return the current id and admin.

    None if the user, as verified, has since been disabled, deleted, or given another password.
    """
    row: Row | None = db.queries.users.replace_hash(
        id=user["id"],
        verified_hash=user["password_hash"],
        new_hash=new_hash,
        signed_in_at=signed_in_at,
    )
    return row


def set_hash(db: Connection, user_id: int, password_hash: str, *, actor: Actor) -> None:
    """Replace a user's password hash, whatever it was. Raises NotFound."""
    with db.transaction():
        db.queries.users.set_hash(id=get_by_id(db, user_id)["id"], password_hash=password_hash)
        audit.record(db, actor, Action.PASSWORD_SET, user_id)


def rename(db: Connection, user_id: int, username: str, *, actor: Actor) -> None:
    """Change a user's name. Raises NotFound, InvalidFields, UsernameTaken."""
    name = names.validate(username)
    with db.transaction():
        former = get_by_id(db, user_id)["username"]
        if not db.queries.users.rename(id=user_id, username=name, username_key=username_key(name)):
            raise UsernameTaken
        if name != former:
            details = {"username": name, "former_username": former}
            audit.record(db, actor, Action.USER_RENAMED, user_id, **details)


def set_flag(db: Connection, user_id: int, *, actor: Actor, **flag: bool) -> Row:
    """Set `admin` or `disabled`; return the user as before. Raises NotFound, LastAdmin."""
    [(name, value)] = flag.items()
    with db.transaction():
        user = get_by_id(db, user_id)
        if flag in ({"admin": False}, {"disabled": True}):
            _require_another_admin(db, user)
        if value != user[name]:
            getattr(db.queries.users, f"set_{name}")(id=user_id, **flag)
            audit.record(db, actor, FLAG_ACTIONS[name, value], user_id)
    return user


def remove(db: Connection, user_id: int, *, actor: Actor) -> None:
    """Delete a user and everything that belongs to it. Raises NotFound, LastAdmin.

    Of the audit log, only the row of the deletion keeps the name.
    """
    with db.transaction():
        user = get_by_id(db, user_id)
        _require_another_admin(db, user)
        db.queries.users.remove(id=user_id)
        audit.anonymize_user(db, user_id)
        audit.record(db, actor, Action.USER_DELETED, user_id, username=user["username"])


def _require_another_admin(db: Connection, user: Row) -> None:
    """Raise LastAdmin if the user is the only enabled admin."""
    is_enabled_admin = user["admin"] and not user["disabled"]
    if is_enabled_admin and db.queries.users.another_admin(id=user["id"]) is None:
        raise LastAdmin


def add_demo_user(db: Connection, rounds: int, now: int) -> bool:
    """Create the demo user and two pets unless the user exists; return whether it did so."""
    if find_by_name(db, DEMO_USERNAME):
        return False
    password_hash = hash_password(DEMO_PASSWORD, rounds)
    with db.transaction():
        user: Row | None = db.queries.seed.insert_demo_user(password_hash=password_hash, now=now)
        if user is not None:
            db.queries.seed.insert_demo_pets(user_id=user["id"], now=now)
            audit.record(
                db, Actor(None, None, now), Action.USER_ADDED, user["id"], username=DEMO_USERNAME
            )
    return user is not None


def demo_user_can_sign_in(db: Connection, rounds: int) -> bool:
    """Return whether the demo user exists with the published password."""
    user = find_by_name(db, DEMO_USERNAME)
    return user is not None and verify_password(DEMO_PASSWORD, user["password_hash"], rounds)
