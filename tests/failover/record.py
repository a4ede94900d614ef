"""What the clients have seen: responses, acknowledged writes, and losses."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

MAX_SECONDS: Final = 10
"""Within which each request must get its response, whatever happens."""


class Sample(NamedTuple):
    """A response; times are by time.monotonic()."""

    began: float
    ended: float
    status: int
    is_write: bool

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass
class Session:
    """A session; `ended` is None if a sign-out was answered with 503."""

    id: str
    access_token: str
    refresh_token: str
    ended: bool | None = False

    @classmethod
    def of(cls, tokens: dict[str, Any]) -> Session:
        """Return the session of a token object."""
        refresh_token: str = tokens["refresh_token"]
        return cls(refresh_token.split(".")[1], tokens["access_token"], refresh_token)

    @property
    def generation(self) -> int:
        return int(self.refresh_token.split(".")[2])


@dataclass
class Account:
    """What is acknowledged of a client's account. A write that got a 503 may be there, or not."""

    username: str
    sessions: dict[str, Session] = field(default_factory=dict)
    pets: dict[int, str] = field(default_factory=dict)
    """Names by ID."""
    removed_pets: set[int] = field(default_factory=set)
    uncertain_pets: set[int] = field(default_factory=set)
    """Their removal got a 503."""


class Ledger:
    """Shared by all clients: responses, and losses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.samples: list[Sample] = []
        self.lost: list[str] = []
        self.wrong: list[str] = []
        """Responses that no outage explains."""
        self.checks = 0

    def add(self, sample: Sample) -> None:
        with self._lock:
            self.samples.append(sample)

    def add_wrong(self, what: str) -> None:
        with self._lock:
            self.wrong.append(what)

    def expect(self, what: str, found: object, expected: object) -> None:
        """Compare a fact with what was acknowledged."""
        with self._lock:
            self.checks += 1
            if found != expected:
                self.lost.append(f"{what}: found {found!r:.200}, expected {expected!r:.200}")

    def since(self, moment: float) -> list[Sample]:
        """Return the responses that came after a moment."""
        with self._lock:
            return [sample for sample in self.samples if sample.ended > moment]
