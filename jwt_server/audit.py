"""Who did what to whom, when, and from where: a row for each, and a line in the log.

A row is written in the transaction of what it tells of, so that there is neither without the
other; the line comes when that is kept. Neither has a password or a token in it, nor a name that
nobody has: people type passwords there.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final

from jwt_server.database import Connection, Row

log = logging.getLogger("jwt_server.audit")

BATCH: Final = 20
"""So many rows that are too old each try to sign in clears away."""

LINE: Final = "audit: %(action)s user=%(user_id)s actor=%(actor_id)s from=%(address)s%(more)s"


class Action(StrEnum):
    """What is told of."""

    SIGNED_IN = "signed_in"
    SIGN_IN_FAILED = "sign_in_failed"
    LOCKED_OUT = "locked_out"
    SIGNED_OUT = "signed_out"
    SESSION_ENDED = "session_ended"
    SESSIONS_ENDED = "sessions_ended"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"  # noqa: S105 - no password
    REAUTHENTICATED = "reauthenticated"
    PASSWORD_REFUSED = "password_refused"  # noqa: S105 - no password
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - no password
    PASSWORD_SET = "password_set"  # noqa: S105 - no password
    SIGNED_UP = "signed_up"
    USER_ADDED = "user_added"
    USER_RENAMED = "user_renamed"
    USER_PROMOTED = "user_promoted"
    USER_DEMOTED = "user_demoted"
    USER_DISABLED = "user_disabled"
    USER_ENABLED = "user_enabled"
    USER_UNLOCKED = "user_unlocked"
    USER_DELETED = "user_deleted"
    USERS_IMPORTED = "users_imported"
    DATABASE_RESTORED = "database_restored"
    KEY_ADDED = "key_added"
    KEY_REVOKED = "key_revoked"
    KEY_REMOVED = "key_removed"


ALARMING: Final = frozenset({Action.LOCKED_OUT, Action.REFRESH_TOKEN_REUSED})
"""What is logged as a warning."""


@dataclass(frozen=True)
class Actor:
    """Who does something, from where, and when (Unix time)."""

    id: int | None
    """None for a stranger, and for the operator."""
    address: str | None
    """None for the operator, at the command line."""
    now: int

    @property
    def is_operator(self) -> bool:
        """Whether it is done at the command line."""
        return self.address is None

    @property
    def is_stranger(self) -> bool:
        """Whether nobody is signed in."""
        return self.id is None and not self.is_operator


def operator(now: int) -> Actor:
    """Whoever runs a command."""
    return Actor(None, None, now)


def record(
    db: Connection, actor: Actor, action: Action, user_id: int | None = None, **details: Any
) -> None:
    """Write down what was done to a user, if to one, inside of its transaction.

    What the operator does is no line in the log: a command's output tells it.
    """
    row = {"action": action, "actor_id": actor.id, "user_id": user_id, "address": actor.address}
    with db.transaction():
        db.queries.audit.insert(at=actor.now, details=json.dumps(details), **row)
        if not actor.is_operator:
            db.after_commit(partial(_tell, row, details))


def _tell(row: dict[str, Any], details: dict[str, Any]) -> None:
    level = logging.WARNING if row["action"] in ALARMING else logging.INFO
    more = "".join(f" {name}={json.dumps(value)}" for name, value in details.items())
    log.log(level, LINE, row | {"more": more}, extra=row | {"details": details})


def page(
    db: Connection,
    *,
    user_id: int | None = None,
    action: str | None = None,
    before: int,
    most: int,
) -> list[Row]:
    """Up to `most` rows with ids under `before`, the newest first: all, or those of a user, of an
    action, or of both. `details` is a dictionary; beside the ids are the names that users have now.
    """
    queries, chosen = db.queries.audit, {"before": before, "most": most}
    if user_id is not None and action is not None:
        rows = queries.page_of_both(user_id=user_id, action=action, **chosen)
    elif user_id is not None:
        rows = queries.page_of_user(user_id=user_id, **chosen)
    elif action is not None:
        rows = queries.page_of_action(action=action, **chosen)
    else:
        rows = queries.page(**chosen)
    return [row | {"details": json.loads(row["details"])} for row in rows]


def forget(db: Connection, user_id: int) -> None:
    """Strip names and addresses from a user's rows, inside of the transaction of its deletion."""
    db.queries.audit.strip_of_user(user_id=user_id)
    db.queries.audit.strip_of_actor(actor_id=user_id)


def clear_away(db: Connection, before: int, most: int = BATCH) -> int:
    """Delete up to `most` rows from before that time, the oldest first; how many."""
    with db.transaction():
        cleared: int = db.queries.audit.clear_away(before=before, most=most)
    return cleared
