"""Sessions: opened at sign-in, extended by refreshing, ended by signing out.

Each refresh token can be used once. The token replaced last gets the same successor again, so that
two tabs or a lost response do no harm: with the same retry key until the successor is used, without
it within the grace period, from the same place; from elsewhere it is then refused. Any other
replaced token is in two hands, and ends the session for both. Times are Unix times, lifetimes
seconds.
"""

import secrets
from contextlib import suppress
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Final

from jwt_server import audit, errors
from jwt_server.audit import PRUNE_BATCH, Action, Actor
from jwt_server.auth import attempts
from jwt_server.database import Connection, Row
from jwt_server.security import rate_limits, refresh_tokens
from jwt_server.security.rate_limits import SITE_PREFIX, network_of
from jwt_server.security.refresh_tokens import RefreshTokens, Retry

MAX_SESSIONS_PER_USER: Final = 50
"""Active sessions per user; signing in beyond this ends the oldest."""

END_BATCH: Final = 1000
"""Sessions that end in one transaction, when all users are signed out."""

RETENTION_SECONDS: Final = 24 * 60 * 60
"""How long the row of an ended session is kept, so that its tokens get `session_ended`."""


@dataclass(frozen=True)
class Client:
    """Who refreshes; `retry_key` is empty if none was sent."""

    actor: Actor
    user_agent: str = ""
    retry_key: str = field(default="", repr=False)

    @property
    def place(self) -> str:
        """What a retry without the key must share: the user agent, and an IPv4 /24 or IPv6 /48."""
        address = self.actor.address or ""
        is_ipv6 = ":" in address
        network = network_of(address, SITE_PREFIX) if is_ipv6 else address.rpartition(".")[0]
        return f"{network} {self.user_agent}"


@dataclass(frozen=True)
class NewSession:
    """A session to open: `idle` seconds without a refresh, `absolute` seconds in all."""

    refreshable: bool
    idle: int
    absolute: int
    address: str
    user_agent: str
    now: int
    client_id: str = ""


def open_session(db: Connection, user: Row, new: NewSession) -> Row:
    """Open a session, inside the transaction that has checked the user; return what its tokens are
    made of, with the user's columns.

    It ends with a temporary password. Ends the user's oldest sessions beyond the limit, and prunes
    old ones of all users.
    """
    ends_at = new.now + new.absolute
    if user["password_expires_at"] is not None:
        ends_at = min(ends_at, user["password_expires_at"])
    session = {
        "id": secrets.token_urlsafe(16),
        "user_id": user["id"],
        "nonce": secrets.token_bytes(16),
        "client_id": new.client_id,
        "expires_at": min(new.now + new.idle, ends_at),
    }
    db.queries.auth.insert(
        refreshable=new.refreshable,
        now=new.now,
        ends_at=ends_at,
        address=new.address,
        user_agent=new.user_agent,
        **session,
    )
    for oldest in list_active(db, user["id"], new.now)[:-MAX_SESSIONS_PER_USER]:
        db.queries.auth.end_one(user_id=user["id"], id=oldest["id"], now=new.now)
    prune(db, new.now)
    return user | session | {"generation": 1}


def list_active(db: Connection, user_id: int, now: int) -> list[Row]:
    """Return a user's active sessions as `hide_refreshes`."""
    return hide_refreshes(db.queries.auth.active_of_user(user_id=user_id, now=now))


def hide_refreshes(sessions: list[Row]) -> list[Row]:
    """Return sessions, oldest first, with the times that a refresh sets rounded down to the hour.

    They, or their order, would tell a thief when a refresh token is within the grace.
    """
    names = {"rotated_at", "last_used_at", "expires_at"}
    return [
        session
        | {
            name: max(session["created_at"], session[name] // rate_limits.HOUR * rate_limits.HOUR)
            for name in names & session.keys()
        }
        for session in sorted(sessions, key=itemgetter("number"))
    ]


def refresh(
    db: Connection, tokens: RefreshTokens, token: str, client: Client, *, idle: int, grace: int
) -> Row:
    """Use a refresh token; return its session with the generation and expiry of the next one.

    `retry` in it tells why a replaced token gets its successor again; it is None for a new one.
    Raises RefreshTokenInvalid, RefreshTokenReused, SessionExpired or SessionEnded; and
    TooManyAttempts, which changes nothing: the token stays valid.
    """
    now = client.actor.now
    while True:  # a second time only if another request rotated or ended the session meanwhile
        generation, row = verify(db, tokens, token)
        _require_refreshable(row, now)
        if row["generation"] == generation + 1:
            retry = _retry(tokens, row, client, grace)
            is_race = retry in {Retry.OTHER_KEY, Retry.ELSEWHERE} and not row["raced"]
            if is_race and not _record_race(db, row, client.actor):
                continue
            if retry is Retry.ELSEWHERE:
                raise errors.RefreshTokenInvalid
            if retry is not None:
                return row | {"retry": retry}
        if row["generation"] != generation:
            action = Action.REFRESH_TOKEN_REUSED
            ended = end(db, row["user_id"], row["id"], actor=client.actor, action=action)
            raise errors.RefreshTokenReused if ended else errors.SessionEnded
        if row["blocked_until"] > now:
            raise errors.TooManyAttempts(row["blocked_until"] - now)
        rotated = _rotate(db, tokens, row, client, min(now + idle, row["ends_at"]))
        if rotated is not None:
            return rotated | {"retry": None}


def _require_refreshable(row: Row, now: int) -> None:
    if not row["refreshable"]:
        raise errors.RefreshTokenInvalid
    if row["ended_at"] is not None or row["disabled"]:
        raise errors.SessionEnded
    if row["expires_at"] <= now:
        raise errors.SessionExpired


def _retry(tokens: RefreshTokens, row: Row, client: Client, grace: int) -> Retry | None:
    """Return whether a token that was just replaced gets its successor again; None for a reuse."""
    key_hash, by_hash = row["retry_key_hash"], row["rotated_by_hash"]
    if client.retry_key and key_hash and tokens.matches(key_hash, row["id"], client.retry_key):
        return Retry.SAME_KEY
    if not grace or abs(client.actor.now - row["rotated_at"]) > grace:
        return None
    if by_hash and not tokens.matches(by_hash, row["id"], client.place):
        return Retry.ELSEWHERE
    return Retry.OTHER_KEY if client.retry_key else Retry.NO_KEY


def _record_race(db: Connection, row: Row, actor: Actor) -> bool:
    """Record, once per rotation, that two clients have one token; False if the session changed."""
    with db.transaction():
        marked = db.queries.auth.mark_raced(
            id=row["id"], generation=row["generation"], admin=row["admin"]
        )
        if marked:
            audit.record(db, actor, Action.REFRESH_RACED, row["user_id"], session=row["id"])
    return bool(marked)


def verify(db: Connection, tokens: RefreshTokens, token: str) -> tuple[int, Row]:
    """Return a refresh token's generation and its session, active or not; only reads.

    Raises RefreshTokenInvalid unless this service has issued the token.
    """
    session_id, generation = refresh_tokens.parse(token)
    row: Row | None = db.queries.auth.find_for_refresh(id=session_id)
    if row is None or not tokens.verify(token, session_id, generation, row["nonce"]):
        raise errors.RefreshTokenInvalid
    return generation, row


def _rotate(
    db: Connection, tokens: RefreshTokens, row: Row, client: Client, expires_at: int
) -> Row | None:
    """Count the refresh and move to the next generation; None if the session has changed."""
    key, now = client.retry_key, client.actor.now
    with db.transaction():
        rotated = db.queries.auth.rotate(
            id=row["id"],
            generation=row["generation"],
            admin=row["admin"],
            claims=row["claims"],
            retry_key_hash=tokens.hash(row["id"], key) if key else None,
            rotated_by_hash=tokens.hash(row["id"], client.place),
            expires_at=expires_at,
            now=now,
        )
        if not rotated:
            return None
        if attempts.count_against(db, rate_limits.refresh_limit(row["id"]), now):
            details = {"limit": "refresh", "session": row["id"]}
            audit.record(db, client.actor, Action.LOCKED_OUT, row["user_id"], **details)
    return row | {"generation": row["generation"] + 1, "expires_at": expires_at}


def end(db: Connection, user_id: int, session_id: str, *, actor: Actor, action: Action) -> bool:
    """End one active session of a user and record it as `action`; return whether there was one."""
    with db.transaction():
        ended: int = db.queries.auth.end_one(user_id=user_id, id=session_id, now=actor.now)
        if ended:
            audit.record(db, actor, action, user_id, session=session_id)
    return ended > 0


def end_by_token(db: Connection, tokens: RefreshTokens, token: str, *, actor: Actor) -> None:
    """Sign out of a refresh token's session, of any generation; ignore an invalid token."""
    with suppress(errors.RefreshTokenInvalid):
        _, row = verify(db, tokens, token)
        actor = replace(actor, id=row["user_id"])
        end(db, row["user_id"], row["id"], actor=actor, action=Action.SIGNED_OUT)


def end_all(db: Connection, user_id: int, now: int, except_id: str = "") -> int:
    """End the active sessions of a user, but one if it is named; return how many."""
    with db.transaction():
        return int(db.queries.auth.end_of_user(user_id=user_id, except_id=except_id, now=now))


def end_everyones(db: Connection, now: int) -> int:
    """End all active sessions, in batches, so that others can write in between; return how many."""
    newest, ended, batch = db.queries.auth.newest_session(), 0, END_BATCH
    while batch == END_BATCH:
        # A conflict repeats the batch, not the request, whose own session may have ended by now.
        with suppress(errors.TransactionConflict), db.transaction():
            batch = db.queries.auth.end_everyones(newest=newest, limit=END_BATCH, now=now)
            ended += batch
    return ended


def sign_out_all(db: Connection, user_id: int, *, actor: Actor, except_id: str = "") -> int:
    """End sessions as `end_all`, and record it; return how many."""
    with db.transaction():
        ended = end_all(db, user_id, actor.now, except_id)
        if ended:
            audit.record(db, actor, Action.SESSIONS_ENDED, user_id, sessions=ended)
    return ended


def sign_out_everyone(db: Connection, *, actor: Actor) -> int:
    """End sessions as `end_everyones`, and record it; return how many."""
    ended = end_everyones(db, actor.now)
    if ended:
        audit.record(db, actor, Action.SESSIONS_ENDED, sessions=ended)
    return ended


def prune(db: Connection, now: int, limit: int = PRUNE_BATCH) -> int:
    """Delete up to `limit` sessions past their retention; return how many."""
    with db.transaction():
        return int(db.queries.auth.prune_sessions(before=now - RETENTION_SECONDS, limit=limit))
