"""What the clients know: their own records, and what has been found wrong.

A client writes into its record what was acknowledged. Where an answer was lost, it looks whether
the thing was done before it goes on, so that at rest each record says exactly what must be there.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

ACKNOWLEDGED: Final = "acknowledged"
REFUSED: Final = "sent away"
"""With a 503 or a 429: it must not have been done."""

BEFORE: Final = "lost, not done"
AFTER: Final = "lost, done"
OUTCOMES: Final = (ACKNOWLEDGED, REFUSED, BEFORE, AFTER)


@dataclass(frozen=True)
class Pet:
    """A pet as it was answered, whole."""

    id: int
    name: str
    species: str | None
    created_at: str


@dataclass
class Session:
    """A session; without tokens where the answer that brought them was lost."""

    id: str
    access_token: str = ""
    refresh_tokens: list[str] = field(default_factory=list)
    """All of them, the newest last."""
    rotated_at: float = 0.0
    opened_at: float = 0.0
    ended: bool = False

    @classmethod
    def of(cls, tokens: dict[str, Any]) -> Session:
        """The session that a token object is of."""
        refresh_token: str = tokens["refresh_token"]
        now = time.time()
        session_id = refresh_token.split(".")[1]
        return cls(session_id, tokens["access_token"], [refresh_token], now, now)

    @property
    def generation(self) -> int:
        """What the row must say."""
        return max(1, len(self.refresh_tokens))

    def rotate(self, tokens: dict[str, Any]) -> None:
        """Take the successor's tokens."""
        self.access_token = tokens["access_token"]
        self.refresh_tokens.append(tokens["refresh_token"])
        self.rotated_at = time.time()


@dataclass
class Account:
    """An account: what must be there, and what must be gone for good."""

    username: str
    password: str
    user_id: int = 0
    old_passwords: list[str] = field(default_factory=list)
    pets: dict[int, Pet] = field(default_factory=dict)
    gone_pets: set[int] = field(default_factory=set)
    sessions: dict[str, Session] = field(default_factory=dict)
    unseen: int = 0
    """Sessions that may have been opened by sign-ins whose answer was lost."""
    deleted: bool = False

    def live(self) -> list[Session]:
        """The sessions that must be live."""
        return [session for session in self.sessions.values() if not session.ended]

    def dead(self) -> list[Session]:
        """The sessions that must never be live again."""
        return [session for session in self.sessions.values() if session.ended]

    def usable(self) -> list[Session]:
        """The live ones that the client has tokens of."""
        return [session for session in self.live() if session.access_token]

    def end(self, *sessions: Session) -> None:
        """Note that these have ended."""
        for session in sessions:
            session.ended = True

    def delete(self) -> None:
        """Note that the account is gone, with all that was its user's."""
        self.deleted = True
        self.end(*self.sessions.values())


class Ledger:
    """What all clients share: how many operations came to what, which ids there were, and what is
    lost.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.statuses: Counter[int] = Counter()
        self.lost: list[str] = []
        """What was found wrong, a line each."""
        self.checks = 0
        """How many facts of the records were compared."""
        self.ids: dict[str, set[int]] = {"users": set(), "pets": set()}

    def count(self, operation: str, outcome: str) -> None:
        """One more operation that came to this."""
        with self.lock:
            self.counts[operation, outcome] += 1

    def answered(self, status: int) -> None:
        """One more answer."""
        with self.lock:
            self.statuses[status] += 1

    def lose(self, what: str) -> None:
        """Something is not as it must be."""
        with self.lock:
            self.lost.append(what)

    def expect(self, what: str, found: object, wanted: object) -> None:
        """Compare a fact with the record."""
        with self.lock:
            self.checks += 1
        if found != wanted:
            self.lose(f"{what}: found {found!r:.300}, wanted {wanted!r:.300}")

    def take_id(self, table: str, row_id: int) -> None:
        """Note a new row's id, which no other row may ever have had."""
        with self.lock:
            known = row_id in self.ids[table]
            self.ids[table].add(row_id)
        if known:
            self.lose(f"{table}: the id {row_id} was handed out twice")

    def total(self, *outcomes: str) -> int:
        """How many operations came to one of these."""
        with self.lock:
            return sum(n for (_, outcome), n in self.counts.items() if outcome in outcomes)
