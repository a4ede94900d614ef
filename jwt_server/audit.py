"""The audit log: one row and one log line for each security-relevant action.

A row is written in the transaction of the change that it records; the log line follows the commit.
Neither contains passwords, tokens, or usernames that don't exist: people type passwords there.
"""

import json
import logging
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final

from jwt_server.database import Connection, Row

log = logging.getLogger("jwt_server.audit")

PRUNE_BATCH: Final = 20
"""Rows past their time that a sign-in deletes of each table, so that none grows for ever."""

MAX_TIME: Final = 2**62
"""Later than every Unix time."""

LOG_FORMAT: Final = "audit: %(action)s user=%(user_id)s actor=%(actor_id)s from=%(address)s%(more)s"


class Action(StrEnum):
    """The recorded actions."""

    SIGNED_IN = "signed_in"
    SIGN_IN_FAILED = "sign_in_failed"
    LOCKED_OUT = "locked_out"
    SIGNED_OUT = "signed_out"
    SESSION_ENDED = "session_ended"
    SESSIONS_ENDED = "sessions_ended"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"  # noqa: S105 - not a password
    REFRESH_RACED = "refresh_raced"
    REAUTHENTICATED = "reauthenticated"
    PASSWORD_REFUSED = "password_refused"  # noqa: S105 - not a password
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - not a password
    PASSWORD_SET = "password_set"  # noqa: S105 - not a password
    SIGNED_UP = "signed_up"
    USER_ADDED = "user_added"
    USER_RENAMED = "user_renamed"
    USER_PROMOTED = "user_promoted"
    USER_DEMOTED = "user_demoted"
    USER_DISABLED = "user_disabled"
    USER_ENABLED = "user_enabled"
    USER_UNLOCKED = "user_unlocked"
    USER_CLAIMS_SET = "user_claims_set"
    USER_DELETED = "user_deleted"
    USERS_IMPORTED = "users_imported"
    ADMIN_REFUSED = "admin_refused"
    DATABASE_RESTORED = "database_restored"
    KEY_ADDED = "key_added"
    KEY_REVOKED = "key_revoked"
    KEY_REMOVED = "key_removed"


@dataclass(frozen=True)
class Actor:
    """Who acts, from which address, and when (Unix time).

    The id is None if nobody is signed in; the address, too, if the operator runs a command.
    """

    id: int | None
    address: str | None
    now: int

    @property
    def is_operator(self) -> bool:
        """Whether the action is a command's."""
        return self.address is None


def record(
    db: Connection, actor: Actor, action: Action, user_id: int | None = None, **details: Any
) -> None:
    """Record what was done to a user, or to none; part of the transaction of the change.

    The operator's actions are not logged: the command's own output shows them.
    """
    row = {"action": action, "actor_id": actor.id, "user_id": user_id, "address": actor.address}
    with db.transaction():
        db.queries.audit.insert(at=actor.now, details=json.dumps(details), **row)
        if not actor.is_operator:
            db.after_commit(partial(_log, row, details))


def _log(row: dict[str, Any], details: dict[str, Any]) -> None:
    is_warning = row["action"] in {Action.LOCKED_OUT, Action.REFRESH_TOKEN_REUSED}
    level = logging.WARNING if is_warning else logging.INFO
    more = "".join(f" {name}={json.dumps(value)}" for name, value in details.items())
    log.log(level, LOG_FORMAT, row | {"more": more}, extra=row | {"details": details})


@dataclass(frozen=True)
class Selection:
    """Which rows to read; None selects all. From `since` up to, but not including, `until`."""

    user_id: int | None = None
    actor_id: int | None = None
    action: str | None = None
    since: int = 0
    until: int = MAX_TIME


def page(
    db: Connection, selection: Selection, limit: int, before: tuple[int, int] | None = None
) -> list[Row]:
    """Return up to `limit` rows, newest first, with `details` parsed.

    `before` has time and id of the last row of the page before. `username` and `actor` are the
    current names.
    """
    at, row_id = before or (selection.until, 0)
    rows = db.queries.audit.page(
        user_id=selection.user_id,
        actor_id=selection.actor_id,
        action=selection.action,
        since=selection.since,
        at=at,
        id=row_id,
        limit=limit,
    )
    return [row | {"details": json.loads(row["details"])} for row in rows]


def count(db: Connection, action: Action, since: int, until: int, seconds: int) -> list[int]:
    """Return the number of rows of an action in each part, of `seconds`, of a range of time."""
    rows = db.queries.audit.count(action=action, since=since, until=until, seconds=seconds)
    return [row["count"] for row in rows]


def anonymize_user(db: Connection, user_id: int) -> None:
    """Remove names and addresses from a user's rows, inside the transaction of the deletion."""
    db.queries.audit.anonymize_user(user_id=user_id)
    db.queries.audit.anonymize_actor(actor_id=user_id)


def prune(db: Connection, before: int, limit: int = PRUNE_BATCH) -> int:
    """Delete up to `limit` rows older than `before`, oldest first; return how many."""
    with db.transaction():
        return int(db.queries.audit.prune(before=before, limit=limit))
