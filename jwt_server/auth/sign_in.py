"""Passwords checked: at sign-in, which opens a session, and of somebody who is signed in."""

from __future__ import annotations

import logging

from jwt_server.accounts import store
from jwt_server.auth import sessions
from jwt_server.auth.sessions import Device, Session, Terms
from jwt_server.database import Connection, Row
from jwt_server.errors import WrongCredentials, WrongPassword
from jwt_server.security.passwords import (
    NO_HASH,
    hash_cost,
    hash_password,
    needs_rehash,
    verify_password,
)

log = logging.getLogger(__name__)

TRIES = 3
"""How often a password is verified, where another sign-in replaces its hash meanwhile."""


def sign_in(
    db: Connection,
    username: str,
    password: str,
    *,
    rounds: int,
    terms: Terms,
    device: Device,
    now: int,
) -> Session:
    """A session of the user whose name and password these are.

    Raises WrongCredentials, after the same work whether the name exists, is disabled, or not.
    A hash of an older kind, or of another cost than `rounds` (log2), is replaced on the way.
    Who is disabled, or gets another password, while this one is being hashed is not let in.
    """
    for _ in range(TRIES):
        user, new_hash = _verified(db, username, password, rounds)
        with db.transaction():
            if current := store.note_sign_in(db, user, new_hash, now):
                return sessions.open_session(db, current, terms, device, now)
    raise WrongCredentials


def confirm_password(db: Connection, user_id: int, password: str, rounds: int) -> Row:
    """The signed-in user, whose password this is, as verified. Raises WrongPassword."""
    user = store.find_by_id(db, user_id)
    if not _is_password_of(user, password, rounds) or user is None:
        raise WrongPassword
    return user


def _verified(db: Connection, username: str, password: str, rounds: int) -> tuple[Row, str]:
    """The user, and the hash that is to be stored from now on."""
    user = store.find_by_name(db, username)
    if not _is_password_of(user, password, rounds) or user is None:
        raise WrongCredentials
    stored = user["password_hash"]
    return user, hash_password(password, rounds) if needs_rehash(stored, rounds) else stored


def _is_password_of(user: Row | None, password: str, rounds: int) -> bool:
    """Whether it is; in the same time whoever it is, and whether or not there is one.

    Of a disabled user nothing is looked at, so that the time tells nothing of the password.
    """
    if user is None or user["disabled"]:
        return verify_password(password, NO_HASH, rounds)
    if hash_cost(user["password_hash"]) is None:
        log.error("user %d: the stored password hash is unusable", user["id"])
    return verify_password(password, user["password_hash"], rounds)
