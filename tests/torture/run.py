"""A run: clients send requests, the service is killed, the database is checked."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tests.torture import checks, databases, target
from tests.torture.client import Client
from tests.torture.databases import PostgreSQL, UnderTorture, under_torture
from tests.torture.life import Gate, run_client
from tests.torture.record import Account, Ledger
from tests.torture.target import Target
from tests.torture.verify import verify
from tests.torture.wire import Outage

HASTE: Final = 0.3
"""Probability that the next kill comes without a comparison before, or during the restart."""

ALSO_KILLED: Final = {databases.WITH_WORKER: target.WORKER, databases.WITH_TREE: target.TREE}
"""What is killed of the service, too."""


@dataclass(frozen=True)
class Plan:
    """The parameters of a run."""

    kills: int
    clients: int
    seed: int
    every: int = 10
    """Kills between two comparisons over HTTP."""
    max_pause: float = 2.0
    """Seconds between two kills, at most."""
    victims: str = "all"
    """What is killed: "service", "database", or "all"."""


@dataclass
class Result:
    """The result of a run."""

    plan: Plan
    ledger: Ledger
    kills: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    """Seconds from each kill until all workers were ready again."""
    recoveries: list[float] = field(default_factory=list)
    """Seconds after a killed database was back in which requests still got a 503."""
    own_checks: int = 0
    """Runs of the database's own checks."""
    compared: int = 0
    """Comparisons of all records with the database."""
    over_http: int = 0
    """Comparisons over HTTP."""
    seconds: float = 0.0

    @property
    def killed(self) -> int:
        """The number of kills."""
        return self.kills.total()


class Torture:
    """A run."""

    def __init__(
        self, plan: Plan, folder: Path, report_progress: Callable[[Torture], object]
    ) -> None:
        self.database = under_torture(folder)
        self.target = Target(folder, self.database)
        kinds = {"service": target.KINDS, "database": self.database.KINDS}
        self.kinds = kinds.get(plan.victims) or (*kinds["service"], *kinds["database"])
        self.report_progress = report_progress
        self.result = Result(plan, Ledger())
        self.rng = random.Random(plan.seed)
        self.outage, self.database_outage = Outage(), Outage()
        self.back_at = 0.0
        """When a killed database was back (monotonic); 0 if that is noted already."""
        self.gate = Gate(plan.clients)
        self.clients = [
            Client(number, self.target.port, self.database, self.outage, self.database_outage,
                   self.result.ledger, plan.seed)
            for number in range(plan.clients)
        ]  # fmt: skip

    def run(self) -> Result:
        """Run it; the database stays as it is, and the log in the folder."""
        begun = time.monotonic()
        self.database.create()
        self.target.start()
        threads = [
            threading.Thread(target=run_client, args=(client, self.gate), daemon=True)
            for client in self.clients
        ]
        try:
            self._wait_until_ready()
            for thread in threads:
                thread.start()
            while self.result.killed < self.result.plan.kills:
                self._round()
            self.gate.close()
            self._note_recovery()
            self._compare(everything=True)
        finally:
            self.outage.stop_clients.set()
            self.gate.open()
            for thread in threads:
                if thread.is_alive():
                    thread.join(timeout=30)
            self.target.stop()
        self._check_at_end()
        self.result.seconds = time.monotonic() - begun
        return self.result

    def close(self) -> None:
        """Stop the database; the folder stays."""
        self.database.close()

    def accounts(self) -> list[Account]:
        """Return all accounts, the deleted ones too."""
        return [each for client in self.clients for each in (*client.deleted, client.account)]

    def _round(self) -> None:
        in_haste = self.rng.random() < HASTE
        time.sleep(self.rng.uniform(0, 0.1 if in_haste else self.result.plan.max_pause))
        self._note_recovery()
        kind = self.rng.choice(self.kinds)
        begun = time.monotonic()
        if kind in target.KINDS:
            self._kill_service(kind)
        else:
            self._kill_database(kind)
        self._wait_until_ready()
        self.result.waits.append(time.monotonic() - begun)
        self._run_checks(self.database)
        if self.rng.random() >= HASTE or not self._more():
            self.gate.close()
            self._compare(everything=False)
            self.gate.open()
        self.report_progress(self)

    def _more(self) -> bool:
        return self.result.killed < self.result.plan.kills

    def _more_in_haste(self) -> bool:
        return self._more() and self.rng.random() < HASTE

    def _kill_service(self, kind: str) -> None:
        self.outage.begin()
        self._kill(kind)
        while kind in target.WHOLE and self._more_in_haste():
            time.sleep(self.rng.uniform(0, 0.4))  # until the first response
            self._kill(target.AGAIN)

    def _kill_database(self, kind: str) -> None:
        """Kill the database, perhaps with a part of the service, and have it start again."""
        assert isinstance(self.database, PostgreSQL)
        self.database_outage.begin()
        self.database.kill(kind)
        self.result.kills[kind] += 1
        if kind in ALSO_KILLED:
            self.outage.begin()
            self.target.kill(ALSO_KILLED[kind], self.rng)
        if kind in databases.DOWN:
            while self._more_in_haste():
                self.database.kill_while_it_starts(self.rng.uniform(0, 0.3))
                self.result.kills[databases.SERVER_AGAIN] += 1
            time.sleep(self.rng.uniform(0, 1))
            self.database.start()
        self.database.wait()
        self.back_at = time.monotonic()
        if kind == databases.WITH_TREE:
            self.target.start()

    def _note_recovery(self) -> None:
        """Note until when the last outage of the database has lasted for clients."""
        if self.back_at:
            late = self.result.ledger.unavailable_at - self.back_at
            self.result.recoveries.append(max(0, late))
            self.back_at = 0

    def _kill(self, kind: str) -> None:
        """Kill; if no process is left, check the database and start again."""
        self.target.kill(kind, self.rng)
        self.result.kills[kind] += 1
        if kind in target.WHOLE or kind == target.AGAIN:
            if kind != target.ARBITER:  # its workers run on for a moment
                self._run_checks(self.database.snapshot())
            self.target.start()

    def _wait_until_ready(self) -> None:
        self.target.wait()
        self.outage.end()
        self.database_outage.end()

    def _run_checks(self, database: UnderTorture) -> None:
        checks.integrity(database, self.result.ledger)
        self.result.own_checks += 1

    def _compare(self, *, everything: bool) -> None:
        """Compare the records of the waiting clients with the rows, and over HTTP if it is time."""
        checks.compare(self.database, self.accounts(), self.result.ledger)
        self.result.compared += 1
        last_over_http = self.result.over_http * self.result.plan.every
        if everything or self.result.killed - last_over_http >= self.result.plan.every:
            with ThreadPoolExecutor(len(self.clients)) as pool:
                list(pool.map(partial(verify, everything=everything), self.clients))
            self.result.over_http += 1
            checks.compare(self.database, self.accounts(), self.result.ledger)

    def _check_at_end(self) -> None:
        """Check the database and the log after the end."""
        self._run_checks(self.database)
        checks.compare(self.database, self.accounts(), self.result.ledger)
        self.result.compared += 1
        if "Traceback" in self.target.log():
            self.result.ledger.add_loss(f"a stack trace in {self.target.log_file}")
