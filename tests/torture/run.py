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

from jwt_server import sqlite
from tests.torture import checks, target
from tests.torture.client import Client
from tests.torture.life import Gate, run_client
from tests.torture.record import Account, Ledger
from tests.torture.target import Target
from tests.torture.verify import verify
from tests.torture.wire import Outage

HASTE: Final = 0.3
"""Probability that the next kill comes without a comparison before, or during the restart."""


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


@dataclass
class Result:
    """The result of a run."""

    plan: Plan
    ledger: Ledger
    kills: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    """Seconds from each kill until all workers were ready again."""
    file_checks: int = 0
    """Runs of SQLite's own checks."""
    compared: int = 0
    """Comparisons of all records with the file."""
    over_http: int = 0
    """Comparisons over HTTP."""
    seconds: float = 0.0

    @property
    def killed(self) -> int:
        """The number of kills."""
        return self.kills.total()


ReportProgress = Callable[[Result], object]


class Torture:
    """A run."""

    def __init__(self, plan: Plan, folder: Path, report_progress: ReportProgress) -> None:
        self.target = Target(folder)
        self.report_progress = report_progress
        self.result = Result(plan, Ledger())
        self.rng = random.Random(plan.seed)
        self.outage = Outage()
        self.gate = Gate(plan.clients)
        self.clients = [
            Client(number, self.target.port, self.target.database, self.outage,
                   self.result.ledger, plan.seed)
            for number in range(plan.clients)
        ]  # fmt: skip

    def run(self) -> Result:
        """Run it; the database and the log stay in the folder."""
        begun = time.monotonic()
        sqlite.create(self.target.database)
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

    def accounts(self) -> list[Account]:
        """Return all accounts, the deleted ones too."""
        return [each for client in self.clients for each in (*client.deleted, client.account)]

    def _round(self) -> None:
        in_haste = self.rng.random() < HASTE
        time.sleep(self.rng.uniform(0, 0.1 if in_haste else self.result.plan.max_pause))
        kind = self.rng.choice(target.KINDS)
        begun = time.monotonic()
        self.outage.begin()
        self._kill(kind)
        while kind in target.WHOLE and self._more() and self.rng.random() < HASTE:
            time.sleep(self.rng.uniform(0, 0.4))  # until the first response
            self._kill(target.AGAIN)
        self._wait_until_ready()
        self.result.waits.append(time.monotonic() - begun)
        self._check_file(self.target.database)
        if self.rng.random() >= HASTE or not self._more():
            self.gate.close()
            self._compare(everything=False)
            self.gate.open()
        self.report_progress(self.result)

    def _more(self) -> bool:
        return self.result.killed < self.result.plan.kills

    def _kill(self, kind: str) -> None:
        """Kill; if no process is left, check the file and start again."""
        self.target.kill(kind, self.rng)
        self.result.kills[kind] += 1
        if kind in target.WHOLE or kind == target.AGAIN:
            if kind != target.ARBITER:  # its workers run on for a moment
                self._check_file(self.target.snapshot())
            self.target.start()

    def _wait_until_ready(self) -> None:
        self.target.wait()
        self.outage.end()

    def _check_file(self, database: Path) -> None:
        checks.integrity(database, self.result.ledger)
        self.result.file_checks += 1

    def _compare(self, *, everything: bool) -> None:
        """Compare the records of the waiting clients with the file, and over HTTP if it is time."""
        checks.compare(self.target.database, self.accounts(), self.result.ledger)
        self.result.compared += 1
        last_over_http = self.result.over_http * self.result.plan.every
        if everything or self.result.killed - last_over_http >= self.result.plan.every:
            with ThreadPoolExecutor(len(self.clients)) as pool:
                list(pool.map(partial(verify, everything=everything), self.clients))
            self.result.over_http += 1
            checks.compare(self.target.database, self.accounts(), self.result.ledger)

    def _check_at_end(self) -> None:
        """Check the file and the log after the end."""
        self._check_file(self.target.database)
        checks.compare(self.target.database, self.accounts(), self.result.ledger)
        self.result.compared += 1
        if "Traceback" in self.target.log():
            self.result.ledger.add_loss(f"a stack trace in {self.target.log_file}")
