"""Sessions ended by those who may: each is a row of the audit log.

That is urgent: it goes on where the disk has no room left for anything else.
"""

from __future__ import annotations

from dataclasses import replace

from jwt_server import audit
from jwt_server.audit import Action, Actor
from jwt_server.auth import sessions
from jwt_server.database import Connection
from jwt_server.errors import RefreshTokenInvalid
from jwt_server.security import refresh_tokens
from jwt_server.security.refresh_tokens import RefreshTokens


def sign_out(db: Connection, user_id: int, session_id: str, *, actor: Actor) -> None:
    """End the session that one is in."""
    with db.transaction(urgent=True):
        if sessions.end(db, user_id, session_id, actor.now):
            audit.record(db, actor, Action.SIGNED_OUT, user_id, session=session_id)


def sign_out_by_token(db: Connection, tokens: RefreshTokens, token: str, *, actor: Actor) -> None:
    """End the session of a refresh token, whatever its generation; nothing where it is not ours."""
    try:
        row = sessions.verified(db, tokens, refresh_tokens.parse(token))
    except RefreshTokenInvalid:
        return
    sign_out(db, row["user_id"], row["id"], actor=replace(actor, id=row["user_id"]))


def end_one(db: Connection, user_id: int, session_id: str, *, actor: Actor) -> bool:
    """End another session of a user; whether there was one."""
    with db.transaction(urgent=True):
        ended = sessions.end(db, user_id, session_id, actor.now)
        if ended:
            audit.record(db, actor, Action.SESSION_ENDED, user_id, session=session_id)
    return ended


def end_all(db: Connection, user_id: int, *, actor: Actor, spared: str = "") -> int:
    """End a user's sessions, but for one; how many there were."""
    with db.transaction(urgent=True):
        ended = sessions.end_all(db, user_id, actor.now, spared)
        if ended:
            audit.record(db, actor, Action.SESSIONS_ENDED, user_id, sessions=ended)
    return ended


def end_everyones(db: Connection, *, actor: Actor) -> int:
    """End all sessions there are; how many there were."""
    with db.transaction(urgent=True):
        ended = sessions.end_everyones(db, actor.now)
        if ended:
            audit.record(db, actor, Action.SESSIONS_ENDED, sessions=ended)
    return ended
