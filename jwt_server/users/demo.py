"""The demo user, with a published password, for trying the service out locally."""

from typing import Final

from jwt_server import audit
from jwt_server.audit import Action, operator
from jwt_server.database import Connection, Row
from jwt_server.security.passwords import hash_password, verify_password
from jwt_server.users import users

USERNAME: Final = "travis"
PASSWORD: Final = "mypassword"  # noqa: S105 - published on purpose


def add_demo_user(db: Connection, rounds: int, now: int) -> bool:
    """Create the demo user and two pets unless the user exists; return whether it did so."""
    if users.find_by_name(db, USERNAME):
        return False
    password_hash = hash_password(PASSWORD, rounds)
    with db.transaction():
        user: Row | None = db.queries.seed.insert_demo_user(password_hash=password_hash, now=now)
        if user is not None:
            db.queries.seed.insert_demo_pets(user_id=user["id"], now=now)
            audit.record(db, operator(now), Action.USER_ADDED, user["id"], username=USERNAME)
    return user is not None


def demo_user_can_sign_in(db: Connection, rounds: int) -> bool:
    """Whether the demo user exists with the published password."""
    user = users.find_by_name(db, USERNAME)
    return user is not None and verify_password(PASSWORD, user["password_hash"], rounds)
