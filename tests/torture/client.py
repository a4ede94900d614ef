"""A client: a person with an account, who asks, keeps a record, and looks where no answer came."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection
from itertools import count
from pathlib import Path
from typing import Any

from tests.torture.record import ACKNOWLEDGED, AFTER, BEFORE, REFUSED, Account, Ledger, Session
from tests.torture.wire import Answer, Lost, Weather, Wire

BUSY = frozenset({429, 503})


class Client:
    """A person with a record. Its operations are in pets.py, sessions.py and accounts.py."""

    def __init__(
        self, number: int, port: int, database: Path, weather: Weather, ledger: Ledger, seed: int
    ) -> None:
        self.name = f"client{number}"
        self.rng = random.Random(f"{seed}-{number}")
        self.database = database
        self.weather = weather
        self.ledger = ledger
        self.wire = Wire(port, f"10.{number}.0.1", weather, ledger)
        self.addresses = (f"11.{number}.{n >> 8 & 255}.{n & 255}" for n in count())
        self.numbers = count()
        self.account = self.new_account()
        self.deleted: list[Account] = []

    def new_account(self) -> Account:
        """Somebody who has not signed up yet."""
        number = next(self.numbers)
        return Account(f"{self.name}-{number}", self.new_password())

    def new_password(self) -> str:
        """A password that was never used."""
        return f"correct horse {self.name} {next(self.numbers)}"

    def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        session: Session | None = None,
    ) -> Answer:
        """Ask, as whoever the session is of; raises Lost."""
        return self.wire.ask(method, path, body, session.access_token if session else "")

    def look(
        self,
        path: str,
        session: Session,
        *,
        method: str = "GET",
        body: dict[str, Any] | None = None,
    ) -> Answer:
        """Ask for what can be asked again and again, until it is answered."""
        while True:
            answer = self.ask(method, path, body, session)
            if answer.status != 503:
                return answer
            time.sleep(0.1)

    def operate(
        self, name: str, status: int, ask: Callable[[], Answer],
        done: Callable[[Any], None], was_done: Callable[[], bool],
    ) -> None:  # fmt: skip
        """One operation: asked for, and written down when it is acknowledged with this status.

        Where the answer is lost, `was_done` looks, and writes down what it has found.
        """
        try:
            answer = ask()
        except Lost:
            self.ledger.count(name, AFTER if self.insist(was_done) else BEFORE)
            return
        if answer.status in BUSY:
            self.ledger.count(name, REFUSED)
            time.sleep(0.02)
        elif answer.status == status:
            done(answer.body)
            self.ledger.count(name, ACKNOWLEDGED)
        else:
            self.lose(f"{name}: {answer.status} {answer.body!r:.200}")
            self.insist(was_done)

    def insist(self, look: Callable[[], bool]) -> bool:
        """Look until nothing is lost on the way."""
        while not self.weather.over.is_set():
            try:
                return look()
            except Lost:
                continue
        raise Lost

    def lose(self, what: str) -> None:
        """Something is not as the record says."""
        self.ledger.lose(f"{self.account.username} ({self.account.user_id}): {what}")

    def expect(self, what: str, found: object, wanted: object) -> None:
        """Compare a fact with the record."""
        who = f"{self.account.username} ({self.account.user_id})"
        self.ledger.expect(f"{who}: {what}", found, wanted)

    def try_password(self, password: str) -> Session | None:
        """Sign in; the session, or None where this is not the password. Raises Lost."""
        account = self.account
        body = {"username": account.username, "password": password}
        while True:
            account.unseen += 1
            answer = self.ask("POST", "/auth", body)
            account.unseen -= 1
            if answer.status not in BUSY:
                break
            time.sleep(0.1)
        if answer.status == 200:
            session = Session.of(answer.body)
            account.sessions[session.id] = session
            return session
        if answer.code != "wrong_credentials":
            self.lose(f"sign-in: {answer.status} {answer.body!r:.200}")
        return None

    def signed_in(self) -> Session:
        """A live session with tokens; signs in where there is none. Raises Lost."""
        usable = self.account.usable()
        session = self.rng.choice(usable) if usable else self.try_password(self.account.password)
        if session is None:
            self.lose("the password does not sign in any more")
            self.deleted.append(self.account)
            self.account.delete()  # go on with another
            self.account = self.new_account()
            raise Lost
        return session

    def seen_live(self, session: Session) -> set[str] | None:
        """The ids of all live sessions, as one of them sees them; None where that one has ended."""
        answer = self.look("/auth/sessions", session)
        return {each["id"] for each in answer.body} if answer.status == 200 else None

    def adopt(self, seen: Collection[str], at_least: int = 0) -> int:
        """Take sessions into the record that were opened by what was not answered; how many.

        There may be so many as answers were lost, and none else.
        """
        new = set(seen) - set(self.account.sessions)
        if not at_least <= len(new) <= at_least + self.account.unseen:
            self.lose(
                f"{len(new)} sessions nobody knows of, {at_least} to"
                f" {at_least + self.account.unseen} may be"
            )
        for session_id in new:
            self.account.sessions[session_id] = Session(session_id)
        self.account.unseen = 0
        return len(new)

    def settle(self, at_least: int = 0) -> int:
        """Find out which sessions there are that were not answered; how many. Raises Lost."""
        if not self.account.unseen and not at_least:
            return 0
        seen = self.seen_live(self.signed_in())
        if seen is None:
            self.lose("a session that was live is refused")
            return 0
        new = self.adopt(seen, at_least)
        self.expect("live sessions", seen, {each.id for each in self.account.live()})
        return new
