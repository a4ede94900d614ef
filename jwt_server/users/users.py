"""Functions on the rows of users. Changes take the actor, for the audit log."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from jwt_server import audit
from jwt_server.audit import Action, Actor
from jwt_server.auth import sessions
from jwt_server.database import Connection, Row
from jwt_server.errors import LastAdmin, NotFound, UsernameTaken
from jwt_server.security.passwords import hash_password, verify_password
from jwt_server.security.rate_limits import DAY
from jwt_server.users import names
from jwt_server.users.names import username_key

PAGE_SIZE: Final = 1000
"""Users read at a time when all are listed."""

TEMPORARY_PASSWORD_SECONDS: Final = 7 * DAY
"""How long a password that an admin has set is valid."""

DEMO_USERNAME: Final = "travis"
DEMO_PASSWORD: Final = "mypassword"  # noqa: S105 - published, to try the service out locally


def find_by_name(db: Connection, username: str, *, lock: bool = False) -> Row | None:
    """Return the user of that name, in any spelling, with the password hash; or None.

    With `lock` the user stays as it is until the end of the transaction.
    """
    if names.find_problem(username) is not None:
        return None  # nobody can have it, and some such names take long to normalize
    find = db.queries.users.lock_by_key if lock else db.queries.users.find_by_key
    row: Row | None = find(username_key=username_key(username))
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


def lock_by_id(db: Connection, user_id: int) -> Row:
    """Return the user as `get_by_id`, unchanged until the end of the transaction."""
    user: Row | None = db.queries.users.lock_by_id(id=user_id)
    if user is None:
        raise NotFound(f"There is no user {user_id}.")
    return user


def page_by_name(
    db: Connection, prefix: str, limit: int, after: str = "", *,
    admin: bool | None = None, disabled: bool | None = None,
) -> list[Row]:  # fmt: skip
    """Return up to `limit` users whose names begin with `prefix`, in any spelling, sorted by name.

    `after` is the `username_key` of the last user of the page before. The flags `admin` and
    `disabled` select users, unless they are None.
    """
    if prefix.strip() and names.find_problem(prefix):
        return []  # no valid name begins so
    key = username_key(prefix)
    first = max(key, f"{after}\1") if after else key
    end = key + "\U0010ffff"  # no name contains a control character or the last one
    rows: list[Row] = db.queries.users.page_by_key(
        first=first, end=end, limit=limit, admin=admin, disabled=disabled
    )
    return rows


def each_by_name(db: Connection, prefix: str = "") -> Iterator[Row]:
    """Yield all users as `page_by_name`."""
    after = ""
    while page := page_by_name(db, prefix, PAGE_SIZE, after):
        yield from page
        after = page[-1]["username_key"]


def add(
    db: Connection, username: str, password_hash: str, *, actor: Actor,
    admin: bool = False, claims: str = "{}", password_expires_at: int | None = None,
) -> int:  # fmt: skip
    """Create a user; return the id. Raises InvalidFields, UsernameTaken.

    `claims` is JSON. A password that expires is temporary.
    """
    name = names.validate(username)
    with db.transaction():
        row: Row | None = db.queries.users.insert(
            username=name,
            username_key=username_key(name),
            password_hash=password_hash,
            password_expires_at=password_expires_at,
            admin=admin,
            claims=claims,
            now=actor.now,
        )
        if row is None:
            raise UsernameTaken
        is_sign_up = actor.id is None and not actor.is_operator
        action = Action.SIGNED_UP if is_sign_up else Action.USER_ADDED
        details = {} if claims == "{}" else {"claims": json.loads(claims)}
        audit.record(db, actor, action, row["id"], username=name, admin=admin, **details)
    return int(row["id"])


def replace_hash(
    db: Connection, user: Row, new_hash: str, signed_in_at: int | None = None
) -> Row | None:
    """Replace a verified password hash; return what sessions need of the user as it is now.

    With `signed_in_at` it is a hash of the same password, else that of a new one, which is not
    temporary. None if the user, as verified, has since been disabled, deleted, or given another
    password.
    """
    row: Row | None = db.queries.users.replace_hash(
        id=user["id"],
        verified_hash=user["password_hash"],
        new_hash=new_hash,
        expires_at=None if signed_in_at is None else user["password_expires_at"],
        signed_in_at=signed_in_at,
    )
    return row


def set_password(
    db: Connection, user_id: int, password_hash: str, *, actor: Actor, expires_at: int | None = None
) -> int:
    """Replace a user's password, whatever it was, and end all sessions of the user.

    A password that expires is temporary. Returns the number of ended sessions. Raises NotFound.
    """
    with db.transaction():
        lock_by_id(db, user_id)
        db.queries.users.set_hash(id=user_id, password_hash=password_hash, expires_at=expires_at)
        ended = sessions.end_all(db, user_id, actor.now)
        audit.record(db, actor, Action.PASSWORD_SET, user_id, sessions_ended=ended)
    return ended


def rename(db: Connection, user_id: int, username: str, *, actor: Actor) -> None:
    """Change a user's name. Raises NotFound, InvalidFields, UsernameTaken."""
    name = names.validate(username)
    with db.transaction():
        former = lock_by_id(db, user_id)["username"]
        if not db.queries.users.rename(id=user_id, username=name, username_key=username_key(name)):
            raise UsernameTaken
        if name != former:
            details = {"username": name, "former_username": former}
            audit.record(db, actor, Action.USER_RENAMED, user_id, **details)


def set_admin(db: Connection, user_id: int, *, admin: bool, actor: Actor) -> None:
    """Promote or demote a user. Raises NotFound, LastAdmin."""
    with db.transaction():
        db.queries.users.lock_admins()
        user = lock_by_id(db, user_id)
        if not admin:
            _require_another_admin(db, user)
        if admin != user["admin"]:
            db.queries.users.set_admin(id=user_id, admin=admin)
            action = Action.USER_PROMOTED if admin else Action.USER_DEMOTED
            audit.record(db, actor, action, user_id)


def set_disabled(db: Connection, user_id: int, *, disabled: bool, actor: Actor) -> None:
    """Disable a user, and end all sessions; or enable. Raises NotFound, LastAdmin."""
    with db.transaction():
        db.queries.users.lock_admins()
        user = lock_by_id(db, user_id)
        if disabled:
            _require_another_admin(db, user)
        if disabled != user["disabled"]:
            db.queries.users.set_disabled(id=user_id, disabled=disabled)
            sessions.end_all(db, user_id, actor.now)
            action = Action.USER_DISABLED if disabled else Action.USER_ENABLED
            audit.record(db, actor, action, user_id)


def set_claims(db: Connection, user_id: int, claims: str, *, actor: Actor) -> None:
    """Set the custom claims, from `claims.encode`, of a user's next tokens. Raises NotFound."""
    with db.transaction():
        if claims != lock_by_id(db, user_id)["claims"]:
            db.queries.users.set_claims(id=user_id, claims=claims)
            audit.record(db, actor, Action.USER_CLAIMS_SET, user_id, claims=json.loads(claims))


CHANGES: Final[Mapping[str, Callable[..., None]]] = {
    "username": rename, "admin": set_admin, "disabled": set_disabled, "claims": set_claims,
}  # fmt: skip


def change(db: Connection, user_id: int, changes: Mapping[str, Any], *, actor: Actor) -> None:
    """Set several columns, each as its function in CHANGES: all or none."""
    with db.transaction():
        db.queries.users.lock_admins()  # before the user, as the functions do
        for column, value in changes.items():
            CHANGES[column](db, user_id, **{column: value}, actor=actor)


def remove(db: Connection, user_id: int, *, actor: Actor) -> None:
    """Delete a user and everything that belongs to it. Raises NotFound, LastAdmin.

    Of the audit log, only the row of the deletion keeps the name.
    """
    with db.transaction():
        db.queries.users.lock_admins()
        user = lock_by_id(db, user_id)
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
