"""What is done with users' rows. Each function takes the connection it works on."""

from __future__ import annotations

from jwt_server.accounts.usernames import username_key
from jwt_server.database import Connection, Row


def find_by_name(db: Connection, username: str) -> Row | None:
    """The user of that name, however it is spelled, with the password's hash; or None."""
    row: Row | None = db.queries.accounts.find_by_key(username_key=username_key(username))
    return row


def find_by_id(db: Connection, user_id: int) -> Row | None:
    """The user with that id, without the password's hash; or None."""
    row: Row | None = db.queries.accounts.find_by_id(id=user_id)
    return row


def replace_hash(db: Connection, user: Row, new_hash: str) -> None:
    """Store a better hash of the same password, unless the password has changed since."""
    with db.transaction():
        db.queries.accounts.replace_hash(
            id=user["id"], old_hash=user["password_hash"], new_hash=new_hash
        )
