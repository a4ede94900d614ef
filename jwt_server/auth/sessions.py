"""Sessions: opened at sign-in, kept up by refreshing, ended by anyone who may.

Each refresh token is good for one rotation. The one just replaced gets the same successor within
the grace, for two tabs and lost answers; any other that was replaced is in two hands, and ends
the session for both. Times are Unix times, lifetimes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter

from jwt_server import audit
from jwt_server.audit import Action, Actor
from jwt_server.auth import attempts
from jwt_server.database import Connection, Row
from jwt_server.errors import (
    RefreshRefused,
    RefreshTokenInvalid,
    RefreshTokenReused,
    SessionEnded,
    SessionExpired,
    TooManyAttempts,
)
from jwt_server.security import rate_limits, refresh_tokens
from jwt_server.security.refresh_tokens import ParsedRefreshToken, RefreshTokens

MOST = 50
"""So many live sessions a user may have; the oldest ends."""

KEPT = 24 * 60 * 60
"""How long a dead session can still be told from one that never was."""

BATCH = 20
"""So many dead sessions each new one clears away, so that the table does not grow for ever."""


@dataclass(frozen=True)
class SessionLifetime:
    """How long a session lives: unrefreshed, and at all."""

    idle: int
    absolute: int
    refreshable: bool


@dataclass(frozen=True)
class Device:
    """Where a session was opened from, as far as one can tell."""

    address: str
    user_agent: str


@dataclass(frozen=True)
class Session:
    """What tokens of a session are made of."""

    id: str
    user_id: int
    admin: bool
    nonce: bytes
    generation: int
    refreshable: bool
    expires_at: int
    ends_at: int


def open_session(
    db: Connection, user: Row, terms: SessionLifetime, device: Device, now: int
) -> Session:
    """Open a session for the user, inside of the transaction that has found the user in order.

    Ends the oldest where there are too many, and clears away some that are long dead.
    """
    session = Session(
        id=refresh_tokens.new_session_id(),
        user_id=user["id"],
        admin=bool(user["admin"]),
        nonce=refresh_tokens.new_nonce(),
        generation=1,
        refreshable=terms.refreshable,
        expires_at=now + min(terms.idle, terms.absolute),
        ends_at=now + terms.absolute,
    )
    db.queries.auth.insert(
        id=session.id,
        user_id=session.user_id,
        nonce=session.nonce,
        refreshable=session.refreshable,
        now=now,
        expires_at=session.expires_at,
        ends_at=session.ends_at,
        address=device.address,
        user_agent=device.user_agent,
    )
    _end_surplus(db, session, now)
    clear_away(db, now, BATCH)
    return session


def _end_surplus(db: Connection, newest: Session, now: int) -> None:
    for row in live(db, newest.user_id, now)[:-MOST]:
        end(db, newest.user_id, row["id"], now)


def live(db: Connection, user_id: int, now: int) -> list[Row]:
    """A user's live sessions, in the order in which they were opened."""
    rows: list[Row] = db.queries.auth.live_of_user(user_id=user_id, now=now)
    return sorted(rows, key=itemgetter("number"))


def rotate(
    db: Connection, tokens: RefreshTokens, token: str, *, idle: int, grace: int, actor: Actor
) -> Session:
    """The session that a refresh token keeps up, with the generation of the token's successor.

    Raises a RefreshRefused that says why there is none; TooManyTries, which changes nothing.
    """
    shown = refresh_tokens.parse(token)
    verified(db, tokens, shown)  # what is not ours takes no write lock
    with db.transaction():
        outcome = _step(db, shown, idle, grace, actor)
    if isinstance(outcome, RefreshRefused | TooManyAttempts):
        raise outcome
    return outcome


def verified(db: Connection, tokens: RefreshTokens, shown: ParsedRefreshToken) -> Row:
    """The row of the session that a refresh token names, live or dead.

    Raises RefreshTokenInvalid where the token is not ours.
    """
    row: Row | None = db.queries.auth.find(id=shown.session_id)
    if row is None or not tokens.verify(shown, row["nonce"]):
        raise RefreshTokenInvalid
    return row


def _step(
    db: Connection, shown: ParsedRefreshToken, idle: int, grace: int, actor: Actor
) -> Session | RefreshRefused | TooManyAttempts:
    """What a verified token does to its session; returned, as a refusal may be a change, too."""
    now = actor.now
    row: Row | None = db.queries.auth.find(id=shown.session_id)
    if row is not None and not row["refreshable"]:
        return RefreshTokenInvalid()  # nobody was given one
    if row is None or row["ended_at"] is not None or row["disabled"]:
        return SessionEnded()
    if row["expires_at"] <= now:
        return SessionExpired()
    age = row["generation"] - shown.generation
    if age == 0:
        return _next(db, row, idle, actor)
    if age == 1 and grace and abs(now - row["rotated_at"]) <= grace:
        return _session(row)
    end(db, row["user_id"], row["id"], now)
    audit.record(db, actor, Action.REFRESH_TOKEN_REUSED, row["user_id"], session=row["id"])
    return RefreshTokenReused()


def _next(db: Connection, row: Row, idle: int, actor: Actor) -> Session | TooManyAttempts:
    """The session, one generation on, unless it has come to that too often this minute."""
    now = actor.now
    if row["blocked_until"] > now:
        return TooManyAttempts(row["blocked_until"] - now)
    if attempts.count(db, rate_limits.refreshes_of(row["id"]), now):
        details = {"limit": "refresh", "session": row["id"]}
        audit.record(db, actor, Action.LOCKED_OUT, row["user_id"], **details)
    expires_at = min(now + idle, row["ends_at"])
    db.queries.auth.rotate(
        id=row["id"], generation=row["generation"], expires_at=expires_at, now=now
    )
    return _session(row | {"generation": row["generation"] + 1, "expires_at": expires_at})


def end(db: Connection, user_id: int, session_id: str, now: int) -> bool:
    """End one live session of a user; whether there was one."""
    with db.transaction():
        ended: int = db.queries.auth.end_one(user_id=user_id, id=session_id, now=now)
    return ended > 0


def end_all(db: Connection, user_id: int, now: int, spared: str = "") -> int:
    """End a user's live sessions, but for one; how many."""
    with db.transaction():
        ended: int = db.queries.auth.end_of_user(user_id=user_id, spared=spared, now=now)
    return ended


def end_everyones(db: Connection, now: int) -> int:
    """End all live sessions there are; how many."""
    with db.transaction():
        ended: int = db.queries.auth.end_everyones(now=now)
    return ended


def clear_away(db: Connection, now: int, most: int) -> int:
    """Delete up to `most` sessions that are long dead; how many."""
    with db.transaction():
        cleared: int = db.queries.auth.clear_away(before=now - KEPT, most=most)
    return cleared


def _session(row: Row) -> Session:
    return Session(
        id=row["id"],
        user_id=row["user_id"],
        admin=bool(row["admin"]),
        nonce=row["nonce"],
        generation=row["generation"],
        refreshable=bool(row["refreshable"]),
        expires_at=row["expires_at"],
        ends_at=row["ends_at"],
    )
