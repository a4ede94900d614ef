"""A run: the primary is killed under load, the standby promoted, and the records compared."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
from psycopg.rows import dict_row

from jwt_server.database import Database, Row
from tests.failover.client import Client
from tests.failover.record import Account, Ledger, Sample, Session
from tests.helpers.postgresql import Cluster, failover_url
from tests.helpers.server import BASE_ENVIRONMENT, started
from tests.helpers.waiting import until
from tests.torture.life import Gate

RECOVERY_SECONDS: Final = 5
"""Within which the service must work again after the promotion."""

HANG_RECOVERY_SECONDS: Final = 10
"""The same where the old primary hangs: 7 s until that is noticed, and 2 s to connect in vain."""

SETTINGS: Final = BASE_ENVIRONMENT | {
    "WORKERS": "2",
    "SIGNUP": "open",
    "TRUSTED_PROXIES": "1",  # each client has its own address
    "ACCESS_TOKEN_TTL": "86400",
    "LOG_FORMAT": "json",
}

SYNCHRONOUS: Final = """
    SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'
"""


@dataclass(frozen=True)
class Plan:
    """The parameters of a run."""

    failovers: int
    clients: int
    seed: int
    hangs: bool = False
    """Whether the primary hangs until the promotion: its connections stay open, without a word."""
    max_pause: float = 2.0
    """Seconds under load before each kill, at most."""
    max_outage: float = 3.0
    """Seconds from the kill until the promotion begins, at most."""

    @property
    def recovery_seconds(self) -> float:
        """Within which the service must work again after the promotion."""
        return HANG_RECOVERY_SECONDS if self.hangs else RECOVERY_SECONDS


@dataclass(frozen=True)
class Round:
    """A failover; all times are in seconds, from the end of the promotion but for the first."""

    outage: float
    """From the kill until the standby is a primary."""
    first_read: float
    first_write: float
    last_refusal: float
    """The last 503, or 0 if there was none after the promotion."""
    refused: int
    """Responses with 503 since the kill."""
    longest: float
    """The slowest response since the kill."""

    @classmethod
    def of(cls, killed_at: float, promoted_at: float, samples: Sequence[Sample]) -> Round:
        """Return the figures of the responses since the kill."""
        refusals = [each for each in samples if each.status == 503]

        def first(*, is_write: bool) -> float:
            return min(
                (
                    each.ended - promoted_at
                    for each in samples
                    if each.began > promoted_at and each.status < 500 and each.is_write is is_write
                ),
                default=math.inf,  # all clients have failed
            )

        return cls(
            outage=promoted_at - killed_at,
            first_read=first(is_write=False),
            first_write=first(is_write=True),
            last_refusal=max((0.0, *(each.ended - promoted_at for each in refusals))),
            refused=len(refusals),
            longest=max(each.seconds for each in samples),
        )


@dataclass
class Result:
    """The result of a run."""

    plan: Plan
    ledger: Ledger = field(default_factory=Ledger)
    rounds: list[Round] = field(default_factory=list)
    seconds: float = 0.0

    def problems(self) -> list[str]:
        """Return all that must not be."""
        late = [
            f"recovery took {each.last_refusal:.1f} s"
            for each in self.rounds
            if each.last_refusal > self.plan.recovery_seconds
        ]
        return self.ledger.lost + self.ledger.wrong + late

    @property
    def acknowledged(self) -> int:
        """The number of writes that were acknowledged."""
        return sum(each.is_write and each.status < 300 for each in self.ledger.samples)


class Failover:
    """A run; `watch` is called after each round."""

    def __init__(self, plan: Plan, folder: Path, watch: Callable[[Result], object]) -> None:
        self.folder, self.watch, self.result = folder, watch, Result(plan)
        self.rng = random.Random(plan.seed)
        self.gate, self.stop = Gate(plan.clients), threading.Event()
        self.primary = Cluster(durable=True)
        self.standby = self.primary
        self.clients: list[Client] = []

    def run(self) -> Result:
        """Run it; the service's log stays in the folder."""
        begun = time.monotonic()
        with ExitStack() as stack:
            self.primary.__enter__()
            stack.callback(self._close)
            Database(self.primary.url).engine.create()
            self._add_standby(None)
            url = f"{failover_url(self.primary, self.standby)}&pool=8"
            server = stack.enter_context(started(self.folder, SETTINGS | {"DATABASE_URL": url}))
            plan, ledger = self.result.plan, self.result.ledger
            self.clients = [
                Client(number, server.port, ledger, plan.seed) for number in range(plan.clients)
            ]
            stack.callback(self._end)
            for client in self.clients:
                threading.Thread(target=client.run, args=(self.gate, self.stop)).start()
            for _ in range(plan.failovers):
                self._round()
        if "Traceback" in server.log() or not self.clients:
            ledger.add_wrong(f"a stack trace in {server.log_file}")
        self.result.seconds = time.monotonic() - begun
        return self.result

    def _close(self) -> None:
        self.primary.close()  # which is another than at the start

    def _end(self) -> None:
        self.stop.set()
        self.gate.open()
        until(lambda: self.gate.clients == 0, 60)

    def _round(self) -> None:
        """Fail over under load, compare, and add a standby in the place of the old primary."""
        plan, old = self.result.plan, self.primary
        time.sleep(self.rng.uniform(0.2, plan.max_pause))
        killed_at = time.monotonic()
        (old.hang if plan.hangs else old.kill)()
        time.sleep(self.rng.uniform(0, plan.max_outage))
        self.standby.promote()
        self.primary, promoted_at = self.standby, time.monotonic()
        old.standbys.clear()
        until(lambda: self._has_recovered(promoted_at), 60)
        time.sleep(1)  # whatever else fails must be seen, too
        samples = self.result.ledger.since(killed_at)
        self.result.rounds.append(Round.of(killed_at, promoted_at, samples))
        self.gate.close()
        compare(self.primary, [each.account for each in self.clients], self.result.ledger)
        old.kill()  # where it hangs
        old.close()
        self._add_standby(old.port)
        self.gate.open()
        self.watch(self.result)

    def _has_recovered(self, since: float) -> bool:
        """Whether there were as many reads and writes as clients; or clients that failed."""
        samples = [each for each in self.result.ledger.since(since) if each.began > since]
        succeeded = [each.is_write for each in samples if each.status < 500]
        enough = min(succeeded.count(True), succeeded.count(False)) >= self.result.plan.clients
        return enough or bool(self.result.ledger.wrong)

    def _add_standby(self, port: int | None) -> None:
        """Have each commit wait for a new standby, from now on."""
        self.standby = self.primary.standby(port=port)
        self.primary.options["synchronous_standby_names"] = "standby"
        self.primary.reload()
        with psycopg.connect(self.primary.admin_url, autocommit=True) as connection:
            until(lambda: connection.execute(SYNCHRONOUS).fetchone() == (1,), 60)


def compare(primary: Cluster, accounts: Sequence[Account], ledger: Ledger) -> None:
    """Compare what was acknowledged with the rows; the clients wait meanwhile."""
    with psycopg.connect(primary.url, row_factory=dict_row) as connection:
        users = connection.execute("SELECT username FROM users").fetchall()
        pets = connection.execute("SELECT id, name FROM pets").fetchall()
        sessions = connection.execute("SELECT id, generation, ended_at FROM sessions").fetchall()
    names = {row["id"]: row["name"] for row in pets}
    rows = {row["id"]: row for row in sessions}
    for account in accounts:
        ledger.expect("user", {"username": account.username} in users, expected=True)
        for pet_id, name in account.pets.items():
            ledger.expect(f"pet {pet_id}", names.get(pet_id), name)
        for pet_id in account.removed_pets:
            ledger.expect(f"removed pet {pet_id}", names.get(pet_id), None)
        for session in account.sessions.values():
            _compare_session(session, rows.get(session.id), ledger)


def _compare_session(session: Session, row: Row | None, ledger: Ledger) -> None:
    """Compare a session with its row; after a sign-out that got a 503, adopt what the row says."""
    ended = row is None or row["ended_at"] is not None
    if session.ended is None:
        session.ended = ended
    found = row and (row["generation"], ended)
    ledger.expect(f"session {session.id}", found, (session.generation, session.ended))
