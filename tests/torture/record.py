"""The records of the clients, and the losses that were found.

A client records what was acknowledged. Without a response, it finds out whether the operation was
done before it continues, so that each record says exactly what the database must hold.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

ACKNOWLEDGED: Final = "acknowledged"
REFUSED: Final = "refused"
"""With a 503 or a 429: it must not have been done."""

BEFORE: Final = "no response, not done"
AFTER: Final = "no response, done"
OUTCOMES: Final = (ACKNOWLEDGED, REFUSED, BEFORE, AFTER)


@dataclass(frozen=True)
class Pet:
    """A pet as in a response."""

    id: int
    name: str
    species: str | None
    created_at: str


@dataclass
class Session:
    """A session; without tokens if the response with them was lost."""

    id: str
    access_token: str = ""
    refresh_tokens: list[str] = field(default_factory=list)
    """All of them, the newest last."""
    rotated_at: float = 0.0
    opened_at: float = 0.0
    ended: bool = False

    @classmethod
    def of(cls, tokens: dict[str, Any]) -> Session:
        """Return the session of a token object."""
        refresh_token: str = tokens["refresh_token"]
        now = time.time()
        session_id = refresh_token.split(".")[1]
        return cls(session_id, tokens["access_token"], [refresh_token], now, now)

    @property
    def generation(self) -> int:
        """The generation that the row must have."""
        return max(1, len(self.refresh_tokens))

    def rotate(self, tokens: dict[str, Any]) -> None:
        """Record the tokens of a refresh."""
        self.access_token = tokens["access_token"]
        self.refresh_tokens.append(tokens["refresh_token"])
        self.rotated_at = time.time()


@dataclass
class Account:
    """An account: what must exist, and what must stay deleted."""

    username: str
    password: str
    user_id: int = 0
    old_passwords: list[str] = field(default_factory=list)
    pets: dict[int, Pet] = field(default_factory=dict)
    removed_pets: set[int] = field(default_factory=set)
    sessions: dict[str, Session] = field(default_factory=dict)
    unanswered_sign_ins: int = 0
    """Sign-ins without a response, each of which may have opened a session."""
    deleted: bool = False

    def active(self) -> list[Session]:
        """Return the sessions that must be active."""
        return [session for session in self.sessions.values() if not session.ended]

    def ended_sessions(self) -> list[Session]:
        """Return the sessions that must have ended."""
        return [session for session in self.sessions.values() if session.ended]

    def usable(self) -> list[Session]:
        """Return the active sessions that the client has tokens of."""
        return [session for session in self.active() if session.access_token]

    def end(self, *sessions: Session) -> None:
        """Record that these have ended."""
        for session in sessions:
            session.ended = True

    def delete(self) -> None:
        """Record that the account is deleted, with all its sessions."""
        self.deleted = True
        self.end(*self.sessions.values())


class Ledger:
    """Shared by all clients: outcomes of operations, IDs in use, and losses."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0
        """Seconds until the slowest response."""
        self.unavailable_at = 0.0
        """When the service could not use its database the last time (monotonic)."""
        self.lost: list[str] = []
        """The losses, one line each."""
        self.checks = 0
        """The number of comparisons with the records."""
        self.ids: dict[str, set[int]] = {"users": set(), "pets": set()}

    def count(self, operation: str, outcome: str) -> None:
        """Count an operation's outcome."""
        with self.lock:
            self.counts[operation, outcome] += 1

    def count_status(self, status: int, seconds: float) -> None:
        """Count a response, and the time that it took."""
        with self.lock:
            self.statuses[status] += 1
            self.slowest = max(self.slowest, seconds)

    def note_unavailable(self) -> None:
        """Note that the service can't use its database now."""
        with self.lock:
            self.unavailable_at = time.monotonic()

    def add_loss(self, what: str) -> None:
        """Record a loss."""
        with self.lock:
            self.lost.append(what)

    def expect(self, what: str, found: object, expected: object) -> None:
        """Compare a fact with the record."""
        with self.lock:
            self.checks += 1
        if found != expected:
            self.add_loss(f"{what}: found {found!r:.300}, expected {expected!r:.300}")

    def add_id(self, table: str, row_id: int) -> None:
        """Record a new row's ID, which no other row may ever have had."""
        with self.lock:
            known = row_id in self.ids[table]
            self.ids[table].add(row_id)
        if known:
            self.add_loss(f"{table}: the id {row_id} was used twice")

    def total(self, *outcomes: str) -> int:
        """Return the number of operations with one of these outcomes."""
        with self.lock:
            return sum(n for (_, outcome), n in self.counts.items() if outcome in outcomes)
