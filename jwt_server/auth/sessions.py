"""Sessions: opened at sign-in, extended by refreshing, ended by signing out.

Each refresh token is good for one rotation. The token just replaced gets the same successor within
the grace period, for two tabs and lost responses. Any other replaced token is in two hands, and
ends the session for both. Times are Unix times, lifetimes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Final

from jwt_server import audit
from jwt_server.audit import Action, Actor
from jwt_server.auth import attempts
from jwt_server.database import Connection, Row
from jwt_server.errors import (
    RefreshTokenInvalid,
    RefreshTokenReused,
    SessionEnded,
    SessionExpired,
    TooManyAttempts,
)
from jwt_server.security import rate_limits, refresh_tokens
from jwt_server.security.refresh_tokens import RefreshTokens

MAX_SESSIONS_PER_USER: Final = 50
"""Active sessions per user; signing in beyond this ends the oldest."""

RETENTION_SECONDS: Final = 24 * 60 * 60
"""How long an ended or expired session can be told from one that never existed."""

PRUNE_BATCH: Final = 20
"""Sessions past their retention that each sign-in deletes, so that the table stays bounded."""


@dataclass(frozen=True)
class SessionLifetime:
    """How long a session lives without a refresh (`idle`), and with refreshes (`absolute`)."""

    idle: int
    absolute: int
    refreshable: bool


@dataclass(frozen=True)
class Device:
    """The client that opened a session."""

    address: str
    user_agent: str


@dataclass(frozen=True)
class Session:
    """What the tokens of a session are made of."""

    id: str
    user_id: int
    admin: bool
    nonce: bytes
    generation: int
    expires_at: int


def open_session(
    db: Connection, user: Row, lifetime: SessionLifetime, device: Device, now: int
) -> Session:
    """Open a session, inside the transaction that has checked the user.

    Ends the user's oldest sessions beyond the limit, and prunes old ones of all users.
    """
    session = Session(
        id=refresh_tokens.new_session_id(),
        user_id=user["id"],
        admin=bool(user["admin"]),
        nonce=refresh_tokens.new_nonce(),
        generation=1,
        expires_at=now + min(lifetime.idle, lifetime.absolute),
    )
    db.queries.auth.insert(
        id=session.id,
        user_id=session.user_id,
        nonce=session.nonce,
        refreshable=lifetime.refreshable,
        now=now,
        expires_at=session.expires_at,
        ends_at=now + lifetime.absolute,
        address=device.address,
        user_agent=device.user_agent,
    )
    for row in active(db, session.user_id, now)[:-MAX_SESSIONS_PER_USER]:
        end(db, session.user_id, row["id"], now)
    prune(db, now)
    return session


def active(db: Connection, user_id: int, now: int) -> list[Row]:
    """Return a user's active sessions, oldest first."""
    rows: list[Row] = db.queries.auth.active_of_user(user_id=user_id, now=now)
    return sorted(rows, key=itemgetter("number"))


def refresh(
    db: Connection, tokens: RefreshTokens, token: str, *, idle: int, grace: int, actor: Actor
) -> Session:
    """Return the session that a refresh token extends, at the generation of the next token.

    Raises RefreshTokenInvalid, RefreshTokenReused, SessionExpired or SessionEnded; and
    TooManyAttempts, which changes nothing, so that the token stays good.
    """
    now = actor.now
    while True:  # a second time only if another request rotated or ended the session meanwhile
        generation, row = verify(db, tokens, token)
        if not row["refreshable"]:
            raise RefreshTokenInvalid
        if row["ended_at"] is not None or row["disabled"]:
            raise SessionEnded
        if row["expires_at"] <= now:
            raise SessionExpired
        replaced = row["generation"] - generation
        if replaced == 1 and grace and abs(now - row["rotated_at"]) <= grace:
            return _session(row)
        if replaced:
            _end_after_reuse(db, row, actor)
            raise RefreshTokenReused
        if row["blocked_until"] > now:
            raise TooManyAttempts(row["blocked_until"] - now)
        rotated = _rotate(db, row, min(now + idle, row["ends_at"]), actor)
        if rotated is not None:
            return rotated


def verify(db: Connection, tokens: RefreshTokens, token: str) -> tuple[int, Row]:
    """Return a refresh token's generation and its session's row, active or not; takes no lock.

    Raises RefreshTokenInvalid unless this service has issued the token.
    """
    parsed = refresh_tokens.parse(token)
    row: Row | None = db.queries.auth.find(id=parsed.session_id)
    if row is None or not tokens.verify(parsed, row["nonce"]):
        raise RefreshTokenInvalid
    return parsed.generation, row


def _rotate(db: Connection, row: Row, expires_at: int, actor: Actor) -> Session | None:
    """Count the refresh and move to the next generation; None if the session has changed."""
    with db.transaction():
        rotated = db.queries.auth.rotate(
            id=row["id"], generation=row["generation"], expires_at=expires_at, now=actor.now
        )
        if not rotated:
            return None
        if attempts.count(db, rate_limits.refresh_limit(row["id"]), actor.now):
            details = {"limit": "refresh", "session": row["id"]}
            audit.record(db, actor, Action.LOCKED_OUT, row["user_id"], **details)
    return _session(row | {"generation": row["generation"] + 1, "expires_at": expires_at})


def _end_after_reuse(db: Connection, row: Row, actor: Actor) -> None:
    """End the session of a reused token. Raises SessionEnded if another request was first."""
    with db.transaction():
        if not end(db, row["user_id"], row["id"], actor.now):
            raise SessionEnded
        audit.record(db, actor, Action.REFRESH_TOKEN_REUSED, row["user_id"], session=row["id"])


def _session(row: Row) -> Session:
    return Session(
        id=row["id"],
        user_id=row["user_id"],
        admin=bool(row["admin"]),
        nonce=row["nonce"],
        generation=row["generation"],
        expires_at=row["expires_at"],
    )


def end(db: Connection, user_id: int, session_id: str, now: int) -> bool:
    """End one active session of a user; return whether there was one."""
    with db.transaction():
        ended: int = db.queries.auth.end_one(user_id=user_id, id=session_id, now=now)
    return ended > 0


def end_all(db: Connection, user_id: int, now: int, spared: str = "") -> int:
    """End a user's active sessions but one; return how many."""
    with db.transaction():
        ended: int = db.queries.auth.end_of_user(user_id=user_id, spared=spared, now=now)
    return ended


def end_everyones(db: Connection, now: int) -> int:
    """End all active sessions of all users; return how many."""
    with db.transaction():
        ended: int = db.queries.auth.end_everyones(now=now)
    return ended


def sign_out(
    db: Connection,
    user_id: int,
    session_id: str,
    *,
    actor: Actor,
    action: Action = Action.SIGNED_OUT,
) -> bool:
    """End one session and record it in the audit log; return whether it was active."""
    with db.transaction():
        ended = end(db, user_id, session_id, actor.now)
        if ended:
            audit.record(db, actor, action, user_id, session=session_id)
    return ended


def sign_out_by_token(db: Connection, tokens: RefreshTokens, token: str, *, actor: Actor) -> None:
    """End the session of a refresh token of any generation; ignore a token that is not valid."""
    try:
        _, row = verify(db, tokens, token)
    except RefreshTokenInvalid:
        return
    sign_out(db, row["user_id"], row["id"], actor=replace(actor, id=row["user_id"]))


def sign_out_everywhere(db: Connection, user_id: int, *, actor: Actor, spared: str = "") -> int:
    """End a user's sessions but one and record it in the audit log; return how many."""
    with db.transaction():
        ended = end_all(db, user_id, actor.now, spared)
        if ended:
            audit.record(db, actor, Action.SESSIONS_ENDED, user_id, sessions=ended)
    return ended


def sign_out_everyone(db: Connection, *, actor: Actor) -> int:
    """End all sessions of all users and record it in the audit log; return how many."""
    with db.transaction():
        ended = end_everyones(db, actor.now)
        if ended:
            audit.record(db, actor, Action.SESSIONS_ENDED, sessions=ended)
    return ended


def prune(db: Connection, now: int, limit: int = PRUNE_BATCH) -> int:
    """Delete up to `limit` sessions past their retention; return how many."""
    with db.transaction():
        deleted: int = db.queries.auth.prune_sessions(before=now - RETENTION_SECONDS, limit=limit)
    return deleted
