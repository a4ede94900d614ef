"""Passwords checked: at sign-in, which opens a session, and of somebody who is signed in."""

from __future__ import annotations

import logging
from dataclasses import replace

from jwt_server import audit
from jwt_server.audit import Action, Actor
from jwt_server.auth import attempts, sessions
from jwt_server.auth.attempts import Charge
from jwt_server.auth.sessions import Device, Session, SessionLifetime
from jwt_server.database import Connection, Database, Row
from jwt_server.errors import WrongCredentials, WrongPassword
from jwt_server.security.passwords import NO_HASH, Hasher, hash_cost
from jwt_server.security.rate_limits import RateLimits, Try
from jwt_server.users import users
from jwt_server.users.names import username_key

log = logging.getLogger(__name__)

TRIES = 3
"""How often a password is verified, where another sign-in replaces its hash meanwhile."""


def sign_in(
    database: Database,
    hasher: Hasher,
    limits: RateLimits,
    username: str,
    password: str,
    *,
    terms: SessionLifetime,
    device: Device,
    now: int,
    audited_since: int,
) -> Session:
    """A session of the user whose name and password these are.

    Raises WrongCredentials, after the same work whether the name exists, is disabled, or not;
    TooManyTries, likewise; HashingBusy. A hash of an older kind, or of another cost than the
    hasher's, is replaced on the way. Who is disabled, or gets another password, while this one is
    being hashed is not let in. Rows of the audit log from before `audited_since` go by and by.
    """
    actor, key = Actor(None, device.address, now), username_key(username)
    attempt = limits.sign_in(key, device.address)
    with attempts.counted(database, hasher.queue, attempt, now) as charge:
        for _ in range(TRIES):
            with database.connection() as db:  # and no longer: others need it while we hash
                user = users.find_by_name(db, username)
            new_hash = hasher.verify_and_renew(password, _hash_of(user))
            if user is None or new_hash is None:
                break
            with database.connection() as db, db.transaction():
                if current := users.note_sign_in(db, user, new_hash, now):
                    attempts.succeed(db, attempt, charge)
                    attempts.know_address(db, user["id"], attempt, now)
                    audit.clear_away(db, audited_since)
                    return _opened(db, current, terms, device, actor)
        with database.connection() as db, db.transaction():
            audit.clear_away(db, audited_since)
            _note_failure(db, actor, charge, user, limits.account_root(key))
    raise WrongCredentials


def _opened(
    db: Connection, user: Row, terms: SessionLifetime, device: Device, actor: Actor
) -> Session:
    session = sessions.open_session(db, user, terms, device, actor.now)
    audit.record(
        db, replace(actor, id=user["id"]), Action.SIGNED_IN, user["id"], session=session.id
    )
    return session


def _note_failure(
    db: Connection, actor: Actor, charge: Charge, user: Row | None, name: str
) -> None:
    """Write down a failed sign-in. `name` stands for a name that nobody has: its keyed hash."""
    user_id, details = (user["id"], {}) if user else (None, {"unknown_name": name})
    audit.record(db, actor, Action.SIGN_IN_FAILED, user_id, **details)
    attempts.fail(db, charge, actor, user_id, **details)


def confirm_password(
    database: Database, hasher: Hasher, attempt: Try, user_id: int, password: str, *, actor: Actor
) -> Row:
    """The signed-in user, whose password this is, as verified.

    Raises WrongPassword, TooManyTries, HashingBusy.
    """
    with attempts.counted(database, hasher.queue, attempt, actor.now) as charge:
        with database.connection() as db:
            user = users.find_by_id(db, user_id)
        right = hasher.verify(password, _hash_of(user))
        with database.connection() as db, db.transaction():
            if user is not None and right:
                attempts.succeed(db, attempt, charge)
                return user
            audit.record(db, actor, Action.PASSWORD_REFUSED, user_id)
            attempts.fail(db, charge, actor, user_id)
    raise WrongPassword


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
