"""Sign-in: a password is checked and a session opened."""

import logging
from dataclasses import replace
from typing import Final

from jwt_server import audit
from jwt_server.audit import Action, Actor
from jwt_server.auth import attempts, sessions
from jwt_server.auth.attempts import CountedAttempt
from jwt_server.auth.sessions import NewSession
from jwt_server.database import Connection, Database, Row
from jwt_server.errors import WrongCredentials
from jwt_server.security.passwords import NO_HASH, Hasher, hash_cost
from jwt_server.security.rate_limits import RateLimits
from jwt_server.users import users
from jwt_server.users.names import username_key

log = logging.getLogger(__name__)

MAX_VERIFICATIONS: Final = 3
"""How often a password is verified if another sign-in replaces its hash meanwhile."""


def sign_in(
    database: Database,
    hasher: Hasher,
    limits: RateLimits,
    username: str,
    password: str,
    *,
    new: NewSession,
    audit_cutoff: int,
) -> Row:
    """Check a password and open a session; prune the audit log up to `audit_cutoff`.

    Raises WrongCredentials, after the same work whether the user exists, is disabled, or neither;
    TooManyAttempts, likewise; HashingBusy. A hash of an older kind or of another cost is replaced.
    """
    actor, key = Actor(None, new.address, new.now), username_key(username)
    attempt = limits.sign_in(key, new.address)
    with attempts.count_attempt(database, hasher.queue, attempt, new.now) as counted:
        for _ in range(MAX_VERIFICATIONS):
            with database.connection() as db:  # released before hashing
                user = users.find_by_name(db, username)
            new_hash = hasher.verify_and_renew(password, hash_to_verify(user, new.now))
            if user is None or new_hash is None:
                break
            with database.connection() as db, db.transaction():
                if current := users.replace_hash(db, user, new_hash, new.now):
                    attempts.remember_address(db, user["id"], attempt, new.now)
                    audit.prune(db, audit_cutoff)
                    session = sessions.open_session(db, current, new)
                    actor = replace(actor, id=user["id"])
                    audit.record(db, actor, Action.SIGNED_IN, user["id"], session=session["id"])
                    attempts.record_success(db, counted)  # last: others wait for the address's row
                    return session
        with database.connection() as db, db.transaction():
            _record_failure(db, counted, actor, username, limits.account_root(key))
            audit.prune(db, audit_cutoff)  # after the user's row is locked, as in a deletion
    raise WrongCredentials


def _record_failure(
    db: Connection, counted: CountedAttempt, actor: Actor, username: str, account: str
) -> None:
    """Record a failed sign-in; of a user who was deleted meanwhile as of an unknown one."""
    user = users.find_by_name(db, username, lock=True)
    user_id, details = None, {"unknown_name": account}
    if user:
        user_id, details = user["id"], {}
        expiry = user["password_expires_at"]
        if user["disabled"] or (expiry is not None and expiry <= actor.now):
            details["reason"] = "disabled" if user["disabled"] else "temporary_password_expired"
    audit.record(db, actor, Action.SIGN_IN_FAILED, user_id, **details)
    attempts.record_failure(db, counted, actor, user_id, **details)


def hash_to_verify(user: Row | None, now: int) -> str:
    """Return the hash to verify a password against, so that it takes the same time for all users.

    NO_HASH stands for an unknown user, for a disabled one, and for an expired temporary password.
    """
    if user is None or user["disabled"]:
        return NO_HASH
    if user["password_expires_at"] is not None and user["password_expires_at"] <= now:
        return NO_HASH
    stored: str = user["password_hash"]
    if hash_cost(stored) is None:
        log.error("user %d: the stored password hash is unusable", user["id"])
    return stored
