"""A client: it has an account, sends requests, and records what was acknowledged."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from tests.torture.databases import ERRORS, UnderTorture
from tests.torture.record import ACKNOWLEDGED, AFTER, BEFORE, REFUSED, Account, Ledger, Session
from tests.torture.wire import NoResponse, Outage, Response, Wire

BUSY = frozenset({429, 503})


class Client:
    """A client and its record. Its operations are in pets.py, sessions.py and accounts.py."""

    def __init__(
        self, number: int, port: int, database: UnderTorture, outage: Outage,
        database_outage: Outage, ledger: Ledger, seed: int,
    ) -> None:  # fmt: skip
        self.name = f"client{number}"
        self.rng = random.Random(f"{seed}-{number}")
        self.database = database
        self.outage, self.database_outage = outage, database_outage
        self.ledger = ledger
        self.wire = Wire(port, f"10.{number}.0.1", outage, ledger)
        self.addresses = (f"11.{number}.{n >> 8 & 255}.{n & 255}" for n in count())
        self.numbers = count()
        self.account = self.new_account()
        self.deleted: list[Account] = []

    def new_account(self) -> Account:
        """Return an account that has not signed up yet."""
        number = next(self.numbers)
        return Account(f"{self.name}-{number}", self.new_password())

    def new_password(self) -> str:
        """Return a password that was never used."""
        return f"correct horse {self.name} {next(self.numbers)}"

    def send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        session: Session | None = None,
    ) -> Response:
        """Send a request with the session's token.

        Raises NoResponse, also for a 503 if the database was killed meanwhile: the service can't
        know then whether its transaction was committed.
        """
        sent_at = time.monotonic()
        token = session.access_token if session else ""
        response = self.wire.send(method, path, body, token)
        if response.code == "database_unavailable":
            self.ledger.note_unavailable()
            if self.database_outage.may_break(sent_at):
                time.sleep(0.1)
                raise NoResponse
        return response

    def query(
        self,
        path: str,
        session: Session,
        *,
        method: str = "GET",
        body: dict[str, Any] | None = None,
    ) -> Response:
        """Send a request that can be repeated, until the response is not 503."""
        while True:
            response = self.send(method, path, body, session)
            if response.status != 503:
                return response
            time.sleep(0.1)

    def operate(
        self, name: str, status: int, send: Callable[[], Response],
        record: Callable[[Any], None], was_done: Callable[[], bool],
    ) -> None:  # fmt: skip
        """Run an operation: `send` it, and `record` it if it is acknowledged with this status.

        Without a response, `was_done` finds out whether it was done, and records that.
        """
        try:
            response = send()
        except NoResponse:
            self.ledger.count(name, AFTER if self.retry(was_done) else BEFORE)
            return
        if response.status in BUSY:
            self.ledger.count(name, REFUSED)
            time.sleep(0.02)
        elif response.status == status:
            record(response.body)
            self.ledger.count(name, ACKNOWLEDGED)
        else:
            self.add_loss(f"{name}: {response.status} {response.body!r:.200}")
            self.retry(was_done)

    def retry(self, query: Callable[[], bool]) -> bool:
        """Repeat a query until it gets its responses, once it is decided what was done."""
        while not self.outage.stop_clients.is_set():
            try:
                with self.reachable_database():
                    self.database.settle()
                return query()
            except NoResponse:
                continue
        raise NoResponse

    @contextmanager
    def reachable_database(self) -> Iterator[None]:
        """Raise NoResponse if the database can't be reached, which was killed."""
        try:
            yield
        except ERRORS as error:
            time.sleep(0.1)
            raise NoResponse from error

    def generation(self, session: Session) -> int | None:
        """Return the generation of a session's row, or None. Raises NoResponse."""
        with self.reachable_database():
            return self.database.generation(session.id)

    def add_loss(self, what: str) -> None:
        """Record that a fact differs from the record."""
        self.ledger.add_loss(f"{self.account.username} ({self.account.user_id}): {what}")

    def expect(self, what: str, found: object, expected: object) -> None:
        """Compare a fact with the record."""
        who = f"{self.account.username} ({self.account.user_id})"
        self.ledger.expect(f"{who}: {what}", found, expected)

    def try_password(self, password: str) -> Session | None:
        """Sign in; returns the session, or None for a wrong password. Raises NoResponse."""
        account = self.account
        body = {"username": account.username, "password": password}
        while True:
            account.unanswered_sign_ins += 1
            response = self.send("POST", "/auth", body)
            account.unanswered_sign_ins -= 1
            if response.status not in BUSY:
                break
            time.sleep(0.1)
        if response.status == 200:
            session = Session.of(response.body)
            account.sessions[session.id] = session
            return session
        if response.code != "wrong_credentials":
            self.add_loss(f"sign-in: {response.status} {response.body!r:.200}")
        return None

    def signed_in(self) -> Session:
        """Return an active session with tokens; signs in if there is none. Raises NoResponse."""
        usable = self.account.usable()
        session = self.rng.choice(usable) if usable else self.try_password(self.account.password)
        if session is None:
            self.add_loss("the password does not sign in any more")
            self.deleted.append(self.account)
            self.account.delete()  # continue with another
            self.account = self.new_account()
            raise NoResponse
        return session

    def list_sessions(self, session: Session) -> set[str] | None:
        """Return the IDs of the active sessions; None if the given one has ended."""
        response = self.query("/auth/sessions", session)
        return {each["id"] for each in response.body} if response.status == 200 else None

    def adopt_sessions(self, seen: Collection[str], at_least: int = 0) -> int:
        """Record the sessions opened by sign-ins without a response; returns how many.

        There may be as many as there were such sign-ins.
        """
        new = set(seen) - set(self.account.sessions)
        if not at_least <= len(new) <= at_least + self.account.unanswered_sign_ins:
            self.add_loss(
                f"{len(new)} sessions that no client knows, expected {at_least} to"
                f" {at_least + self.account.unanswered_sign_ins}"
            )
        for session_id in new:
            self.account.sessions[session_id] = Session(session_id)
        self.account.unanswered_sign_ins = 0
        return len(new)

    def reconcile(self, at_least: int = 0) -> int:
        """Record sessions of sign-ins without a response; returns how many. Raises NoResponse."""
        if not self.account.unanswered_sign_ins and not at_least:
            return 0
        seen = self.list_sessions(self.signed_in())
        if seen is None:
            self.add_loss("an active session is refused")
            return 0
        new = self.adopt_sessions(seen, at_least)
        self.expect("active sessions", seen, {each.id for each in self.account.active()})
        return new
