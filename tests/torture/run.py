"""A run: clients at work, one kill after the other, and what is there beside the records."""

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

from tests.torture import checks, target
from tests.torture.client import Client
from tests.torture.life import Gate, live
from tests.torture.record import Account, Ledger
from tests.torture.target import Target
from tests.torture.verify import verify
from tests.torture.wire import Weather

HASTY: Final = 0.3
"""How often the next kill comes without a rest to compare in between, or at once after a start."""

LONGEST: Final = 2.0
"""Seconds from one kill to the next, at the most; to the clients it is all the time they have."""


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    kills: int
    clients: int
    seed: int
    every: int = 10
    """After so many kills all is asked for over HTTP, too."""


@dataclass
class Result:
    """What has come of it."""

    plan: Plan
    ledger: Ledger
    kills: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    """Seconds from a kill until all workers were there again, and it answered."""
    files: int = 0
    """How often SQLite has checked the file."""
    compared: int = 0
    """How often all of the records were compared with it."""
    asked: int = 0
    """How often over HTTP, too."""
    seconds: float = 0.0

    @property
    def killed(self) -> int:
        """How many kills there were."""
        return self.kills.total()


Say = Callable[[Result], object]


class Torture:
    """One run."""

    def __init__(self, plan: Plan, folder: Path, say: Say) -> None:
        self.target = Target(folder)
        self.say = say
        self.result = Result(plan, Ledger())
        self.rng = random.Random(plan.seed)
        self.weather = Weather()
        self.gate = Gate(plan.clients)
        self.clients = [
            Client(number, self.target.port, self.target.database, self.weather,
                   self.result.ledger, plan.seed)
            for number in range(plan.clients)
        ]  # fmt: skip

    def run(self) -> Result:
        """Do it all; the database and the log are left in the folder."""
        begun = time.monotonic()
        self.target.make()
        self.target.start()
        threads = [
            threading.Thread(target=live, args=(client, self.gate), daemon=True)
            for client in self.clients
        ]
        try:
            self._become_whole()
            for thread in threads:
                thread.start()
            while self.result.killed < self.result.plan.kills:
                self._round()
            self.gate.close()
            self._compare(everything=True)
        finally:
            self.weather.over.set()
            self.gate.open()
            for thread in threads:
                if thread.is_alive():
                    thread.join(timeout=30)
            self.target.stop()
        self._at_last()
        self.result.seconds = time.monotonic() - begun
        return self.result

    def accounts(self) -> list[Account]:
        """All that there ever were."""
        return [each for client in self.clients for each in (*client.deleted, client.account)]

    def _round(self) -> None:
        hasty = self.rng.random() < HASTY
        time.sleep(self.rng.uniform(0, 0.1 if hasty else LONGEST))
        kind = self.rng.choice(target.KINDS)
        begun = time.monotonic()
        self.weather.storm()
        self._kill(kind)
        while kind in target.WHOLE and self._more() and self.rng.random() < HASTY:
            time.sleep(self.rng.uniform(0, 0.8))  # from the first import to the first answers
            self._kill(target.AGAIN)
        self._become_whole()
        self.result.waits.append(time.monotonic() - begun)
        self._check_file(self.target.database)
        if self.rng.random() >= HASTY or not self._more():
            self.gate.close()
            self._compare(everything=False)
            self.gate.open()
        self.say(self.result)

    def _more(self) -> bool:
        return self.result.killed < self.result.plan.kills

    def _kill(self, kind: str) -> None:
        """Kill; where all are dead, check what they have left, and start again."""
        self.target.kill(kind, self.rng)
        self.result.kills[kind] += 1
        if kind in target.WHOLE or kind == target.AGAIN:
            if kind != target.ARBITER:  # whose workers live on for a moment
                self._check_file(self.target.snapshot())
            self.target.start()

    def _become_whole(self) -> None:
        self.target.wait()
        self.weather.calm()

    def _check_file(self, database: Path) -> None:
        checks.integrity(database, self.result.ledger)
        self.result.files += 1

    def _compare(self, *, everything: bool) -> None:
        """Compare the records of resting clients with the file, and by asking."""
        checks.compare(self.target.database, self.accounts(), self.result.ledger)
        self.result.compared += 1
        asked_last = self.result.asked * self.result.plan.every
        if everything or self.result.killed - asked_last >= self.result.plan.every:
            with ThreadPoolExecutor(len(self.clients)) as pool:
                list(pool.map(partial(verify, everything=everything), self.clients))
            self.result.asked += 1
            checks.compare(self.target.database, self.accounts(), self.result.ledger)

    def _at_last(self) -> None:
        """What the file says when all is over, and the log."""
        self._check_file(self.target.database)
        checks.compare(self.target.database, self.accounts(), self.result.ledger)
        self.result.compared += 1
        if "Traceback" in self.target.log():
            self.result.ledger.lose(f"a stack trace in {self.target.log_file}")
