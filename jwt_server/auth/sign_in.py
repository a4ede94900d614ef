"""Passwords checked: at sign-in, which opens a session, and of somebody who is signed in."""

from __future__ import annotations

import logging

from jwt_server.accounts import store
from jwt_server.accounts.usernames import username_key
from jwt_server.auth import sessions, throttle
from jwt_server.auth.sessions import Device, Session, Terms
from jwt_server.database import Database, Row
from jwt_server.errors import WrongCredentials, WrongPassword
from jwt_server.security.passwords import NO_HASH, Hasher, hash_cost
from jwt_server.security.tries import Throttle, Try

log = logging.getLogger(__name__)

TRIES = 3
"""How often a password is verified, where another sign-in replaces its hash meanwhile."""


def sign_in(
    database: Database,
    hasher: Hasher,
    limits: Throttle,
    username: str,
    password: str,
    *,
    terms: Terms,
    device: Device,
    now: int,
) -> Session:
    """A session of the user whose name and password these are.

    Raises WrongCredentials, after the same work whether the name exists, is disabled, or not;
    TooManyTries, likewise; HashingBusy. A hash of an older kind, or of another cost than the
    hasher's, is replaced on the way. Who is disabled, or gets another password, while this one is
    being hashed is not let in.
    """
    attempt = limits.sign_in(username_key(username), device.address)
    with throttle.counted(database, hasher.lane, attempt, now) as keys:
        for _ in range(TRIES):
            with database.connection() as db:  # and no longer: others need it while we hash
                user = store.find_by_name(db, username)
            new_hash = hasher.verify_and_renew(password, _hash_of(user))
            if user is None or new_hash is None:
                raise WrongCredentials
            with database.connection() as db, db.transaction():
                if current := store.note_sign_in(db, user, new_hash, now):
                    throttle.succeed(db, attempt, keys)
                    throttle.know_address(db, user["id"], attempt, now)
                    return sessions.open_session(db, current, terms, device, now)
    raise WrongCredentials


def confirm_password(
    database: Database, hasher: Hasher, attempt: Try, user_id: int, password: str, *, now: int
) -> Row:
    """The signed-in user, whose password this is, as verified.

    Raises WrongPassword, TooManyTries, HashingBusy.
    """
    with throttle.counted(database, hasher.lane, attempt, now) as keys:
        with database.connection() as db:
            user = store.find_by_id(db, user_id)
        if not hasher.verify(password, _hash_of(user)) or user is None:
            raise WrongPassword
        with database.connection() as db:
            throttle.succeed(db, attempt, keys)
    return user


def _hash_of(user: Row | None) -> str:
    """What to verify a password against, in the same time whoever it is, if anybody.

    Of a disabled user nothing is looked at, so that the time tells nothing of the password.
    """
    if user is None or user["disabled"]:
        return NO_HASH
    stored: str = user["password_hash"]
    if hash_cost(stored) is None:
        log.error("user %d: the stored password hash is unusable", user["id"])
    return stored
