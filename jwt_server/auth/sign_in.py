"""Username and password in, user out."""

from __future__ import annotations

import logging

from jwt_server.accounts import store
from jwt_server.database import Connection, Row
from jwt_server.errors import WrongCredentials
from jwt_server.security.passwords import (
    NO_HASH,
    hash_cost,
    hash_password,
    needs_rehash,
    verify_password,
)

log = logging.getLogger(__name__)


def sign_in(db: Connection, username: str, password: str, rounds: int) -> Row:
    """The user whose name and password these are.

    Raises WrongCredentials, after the same work whether or not the name exists. A hash of an
    older kind, or of another cost than `rounds` (log2), is replaced on the way.
    """
    user = store.find_by_name(db, username)
    stored = user["password_hash"] if user else NO_HASH
    if user and hash_cost(stored) is None:
        log.error("user %d can't sign in: the stored password hash is unusable", user["id"])
    if not verify_password(password, stored, rounds) or user is None:
        raise WrongCredentials
    if needs_rehash(stored, rounds):
        store.replace_hash(db, user, hash_password(password, rounds))
    return user
