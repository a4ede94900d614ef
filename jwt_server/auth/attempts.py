"""Rate limiting of password attempts, sign-ups and refreshes, in the database for all workers.

A refused attempt costs one read: no write, no hash. Every other attempt is counted before its
password is hashed, in one transaction that checks again as it counts, and refunded if it succeeds.
If the count can't be written, nothing is hashed. `security.rate_limits` says what counts against
what.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Final

from jwt_server import audit
from jwt_server.audit import PRUNE_BATCH, Action, Actor
from jwt_server.database import Connection, Database, Row
from jwt_server.errors import HashingBusy, TokenUserDeleted, TooManyAttempts, TransactionConflict
from jwt_server.security import rate_limits
from jwt_server.security.hash_queue import HashQueue
from jwt_server.security.rate_limits import Attempt, RateLimit, RateLimits
from jwt_server.users.names import username_key

KNOWN_SECONDS: Final = 30 * rate_limits.DAY
"""How long after a sign-in its address is known as the user's."""

KEYS: Final = ("key1", "key2", "key3", "key4", "key5")
"""The parameters for the keys of an attempt."""


@dataclass
class CountedAttempt:
    """An attempt, the keys under which it was counted, and the limits that it reached."""

    attempt: Attempt
    keys: list[str] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)


@contextmanager
def count_attempt(
    database: Database, queue: HashQueue, attempt: Attempt, now: int
) -> Iterator[CountedAttempt]:
    """Count an attempt whose password is hashed inside the `with` block.

    Raises TooManyAttempts before the block. HashingBusy and TransactionConflict in
    the block are refunded.
    """
    with queue.checks.hold(attempt.check_key):
        with database.connection() as db:  # released before hashing
            limits = _find_limits(db, attempt, now)
            queue.require_room()  # a full queue costs no write
            with db.transaction():
                counted = _count_against_all(db, attempt, limits, now)
        try:
            yield counted
        except (HashingBusy, TransactionConflict):  # to be sent, or run, again
            with database.connection() as db, db.transaction():
                _refund(db, counted)
            raise


def record_success(db: Connection, counted: CountedAttempt) -> None:
    """Refund a successful attempt, and forget the failures before it."""
    with db.transaction():
        _refund(db, counted, reset=counted.attempt.resettable.key)


def record_failure(
    db: Connection, counted: CountedAttempt, actor: Actor, user_id: int | None, **details: Any
) -> None:
    """Record in the audit log each limit that a failed attempt has reached."""
    for limit in counted.reached:
        audit.record(db, actor, Action.LOCKED_OUT, user_id, limit=limit, **details)


def count_action(db: Connection, limit: RateLimit, actor: Actor) -> None:
    """Count what the current user is about to do. Raises TooManyAttempts, after one read.

    Raises TokenUserDeleted, as no new row of the audit log may name a deleted user.
    """
    attempt = Attempt(limit)
    limits = _find_limits(db, attempt, actor.now)
    with db.transaction():
        if db.queries.users.lock_by_id(id=actor.id) is None:
            raise TokenUserDeleted
        counted = _count_against_all(db, attempt, limits, actor.now)
        record_failure(db, counted, actor, actor.id)


def count_against(db: Connection, limit: RateLimit, now: int) -> bool:
    """Count one attempt, inside a transaction; return whether it has just reached the limit.

    Raises TooManyAttempts if it was reached before, which undoes the count.
    """
    row: Row = db.queries.auth.count(
        key=limit.key, expires_at=now + limit.window, now=now, restart=limit.doubling
    )
    if row["blocked_until"] > now:
        raise TooManyAttempts(row["blocked_until"] - now)
    if until := limit.blocked_until(row["count"], row["expires_at"], now):
        db.queries.auth.block(key=limit.key, until=until)
    return bool(row["count"] == limit.limit)


def remember_address(db: Connection, user_id: int, attempt: Attempt, now: int) -> None:
    """Remember the network of a sign-in as known for the user, in a transaction; prune others."""
    db.queries.auth.remember_address(user_id=user_id, network=attempt.network, now=now)
    prune_addresses(db, now)


def unlock(db: Connection, limits: RateLimits, user: Row, *, actor: Actor) -> None:
    """Delete the counts of an account and of its sessions."""
    roots = (limits.account_root(username_key(user["username"])), rate_limits.user_root(user["id"]))
    with db.transaction():
        # All keys that begin with root and a dot: "/" follows "." in ASCII.
        deleted = [
            db.queries.auth.delete_counts(first=f"{root}.", end=f"{root}/") for root in roots
        ]
        if any(deleted):
            audit.record(db, actor, Action.USER_UNLOCKED, user["id"])


def prune(db: Connection, now: int, limit: int = PRUNE_BATCH) -> int:
    """Delete up to `limit` counts whose window has ended; return how many."""
    with db.transaction():
        return int(db.queries.auth.prune_counts(now=now, limit=limit))


def prune_addresses(db: Connection, now: int, limit: int = PRUNE_BATCH) -> int:
    """Delete up to `limit` addresses that are no longer known; return how many."""
    with db.transaction():
        return int(db.queries.auth.prune_addresses(before=now - KNOWN_SECONDS, limit=limit))


def _find_limits(db: Connection, attempt: Attempt, now: int) -> list[RateLimit]:
    """Return the limits that an attempt counts against, in the order of counting; one read.

    Raises TooManyAttempts if one is reached.
    """
    row: Row = db.queries.auth.find_refusal(
        resettable=attempt.resettable.key,
        address=attempt.address.key,
        site=attempt.site.key,
        share=attempt.share.key,
        account=attempt.account.key,
        username_key=attempt.username_key,
        network=attempt.network,
        since=now - KNOWN_SECONDS,
        now=now,
    )
    if row["until"] is not None:
        raise TooManyAttempts(row["until"] - now)
    limits = [attempt.resettable, attempt.address, attempt.site]
    if not row["is_known"]:
        limits += [attempt.share, attempt.account]
    return [limit for limit in limits if limit.key]


def _count_against_all(
    db: Connection, attempt: Attempt, limits: list[RateLimit], now: int
) -> CountedAttempt:
    counted = CountedAttempt(attempt)
    for limit in limits:
        counted.keys.append(limit.key)
        if count_against(db, limit, now):
            counted.reached.append(limit.name)
    prune(db, now)
    return counted


def _refund(db: Connection, counted: CountedAttempt, reset: str = "") -> None:
    """Take an attempt back, and all attempts under the key `reset`."""
    keys = dict(zip_longest(KEYS, counted.keys, fillvalue=""))
    db.queries.auth.refund(**keys)
    db.queries.auth.delete_refunded(**keys, reset=reset)
