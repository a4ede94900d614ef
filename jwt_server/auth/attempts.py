"""Guessing made slow: each try is counted before anything is hashed, in the database, so that every
worker and host sees the same counts.

A try that is refused costs one read: no write, no hash. The others are counted in one transaction
that looks again, and given back where they succeed. Where the count can't be written, nothing is
hashed. What counts for what is in `security.tries`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from jwt_server import audit
from jwt_server.audit import Action, Actor
from jwt_server.database import Connection, Database, Row
from jwt_server.errors import HashingBusy, TooManyAttempts
from jwt_server.security import rate_limits
from jwt_server.security.hash_queue import HashQueue
from jwt_server.security.rate_limits import Account, Counter, RateLimits, Try

KNOWN: Final = 30 * rate_limits.DAY
"""How long an address is known as one that a user signs in from."""

BATCH: Final = 20
"""So much that is over each try clears away, so that the tables do not grow for ever."""


@dataclass
class Charge:
    """What was counted for a try."""

    keys: list[str] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    """The limits that it has come to: from now on there is a wait."""


@contextmanager
def counted(database: Database, queue: HashQueue, attempt: Try, now: int) -> Iterator[Charge]:
    """Count a try, whose password is hashed inside; the charge, for `succeed` or `fail`.

    Raises TooManyTries, or HashingBusy, and then it is no try.
    """
    with database.connection() as db:  # and no longer: others need it while we hash
        _refuse(db, attempt, now)
        queue.require_room()  # so that a full line costs no write
        with db.transaction():
            _refuse(db, attempt, now)
            charge = _charge(db, attempt, now)
    try:
        yield charge
    except HashingBusy:
        with database.connection() as db, db.transaction():
            _give_back(db, charge.keys)
        raise


def succeed(db: Connection, attempt: Try, charge: Charge) -> None:
    """Give a try back that was right, and forget the failures before it."""
    with db.transaction():
        _give_back(db, charge.keys)
        db.queries.auth.forget_count(key=attempt.own.key)


def fail(
    db: Connection, charge: Charge, actor: Actor, user_id: int | None = None, **details: Any
) -> None:
    """Write down which limits a try has come to that failed: once each, not at each try after."""
    for limit in charge.locked:
        audit.record(db, actor, Action.LOCKED_OUT, user_id, limit=limit, **details)


def count(db: Connection, counter: Counter, now: int) -> bool:
    """Count one more, inside of a transaction; whether the limit is reached with this one."""
    row = _add(db, counter.key, now + counter.seconds, now, anew=counter.doubling)
    if until := counter.blocked_until(row["count"], row["expires_at"], now):
        db.queries.auth.block(key=counter.key, until=until)
    return bool(row["count"] == counter.free)


def know_address(db: Connection, user_id: int, attempt: Try, now: int) -> None:
    """Remember from where a user has signed in, inside of a transaction."""
    if attempt.account is not None:
        network = attempt.account.network
        db.queries.auth.know_address(user_id=user_id, network=network, now=now)
    forget_addresses(db, now, BATCH)


def unlock(db: Connection, throttle: RateLimits, user_id: int, username_key: str) -> int:
    """Forget what is counted against an account, and in its sessions; how many counts."""
    with db.transaction():
        forgotten: int = 0
        for root in (throttle.account_root(username_key), rate_limits.user_root(user_id)):
            forgotten += db.queries.auth.forget_counts(first=f"{root}.", end=f"{root}/")
    return forgotten


def clear_away(db: Connection, now: int, most: int) -> int:
    """Delete up to `most` counts that are over; how many."""
    with db.transaction():
        cleared: int = db.queries.auth.clear_counts_away(now=now, most=most)
    return cleared


def forget_addresses(db: Connection, now: int, most: int) -> int:
    """Delete up to `most` addresses that are known no longer; how many."""
    with db.transaction():
        forgotten: int = db.queries.auth.forget_addresses(before=now - KNOWN, most=most)
    return forgotten


def _refuse(db: Connection, attempt: Try, now: int) -> None:
    """Raise TooManyTries where there were too many: one read."""
    address, account = attempt.address, attempt.account
    row: Row = db.queries.auth.blocked(
        own=attempt.own.key,
        address=address.key if address else "",
        account=account.counter.key if account else "",
        username_key=account.username_key if account else "",
        network=account.network if account else "",
        since=now - KNOWN,
        now=now,
    )
    if row["until"] is not None:
        raise TooManyAttempts(row["until"] - now)


def _charge(db: Connection, attempt: Try, now: int) -> Charge:
    charge = Charge()
    for counter in (attempt.own, attempt.address):
        if counter is not None:
            _add_to(charge, db, counter, now)
    if attempt.account is not None:
        _charge_account(charge, db, attempt.account, now)
    clear_away(db, now, BATCH)
    return charge


def _add_to(charge: Charge, db: Connection, counter: Counter, now: int) -> None:
    if count(db, counter, now):
        charge.locked.append(counter.limit)
    charge.keys.append(counter.key)


def _charge_account(charge: Charge, db: Connection, account: Account, now: int) -> None:
    """The account's count, but for what comes from where its user signs in, and of what comes from
    elsewhere but so much from one address.
    """
    if db.queries.auth.is_known(
        username_key=account.username_key, network=account.network, since=now - KNOWN
    ):
        return
    standing: Row | None = db.queries.auth.counted(key=account.counter.key, now=now)
    # An address's share is one of the account's day, so it ends with it.
    expires_at = standing["expires_at"] if standing else now + account.counter.seconds
    share = _add(db, account.share, expires_at, now)
    charge.keys.append(account.share)
    if share["count"] <= rate_limits.SHARE:
        _add_to(charge, db, account.counter, now)


def _add(db: Connection, key: str, expires_at: int, now: int, *, anew: bool = False) -> Row:
    row: Row = db.queries.auth.count(key=key, expires_at=expires_at, now=now, anew=anew)
    return row


def _give_back(db: Connection, keys: list[str]) -> None:
    for key in keys:
        db.queries.auth.give_back(key=key)
        db.queries.auth.forget_empty(key=key)
