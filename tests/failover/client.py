"""A client: it writes and reads without a pause, and records what is acknowledged."""

from __future__ import annotations

import http.client
import json
import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Any, Final

from tests.failover.record import MAX_SECONDS, Account, Ledger, Sample, Session
from tests.torture.life import Gate

PASSWORD: Final = "correct horse battery"
PAUSE: Final = 0.05
"""Seconds after a 503; less than Retry-After, to see when the service recovers."""

MAX_PETS: Final = 60
MAX_SESSIONS: Final = 20


@dataclass(frozen=True)
class Response:
    """A response."""

    status: int
    body: Any


class Client:
    """A client with its account, its connection and its address."""

    def __init__(self, number: int, port: int, ledger: Ledger, seed: int) -> None:
        self.rng = random.Random(f"{seed}-{number}")
        self.address = f"10.0.{number}.1"
        self.account = Account(f"client{number}")
        self.ledger = ledger
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2 * MAX_SECONDS)
        self._pets_added = 0

    def send(
        self, method: str, path: str, body: dict[str, Any] | None = None, token: str = ""
    ) -> Response:
        """Send a request and record its response, which may be a 503 only with Retry-After."""
        headers = {"Accept": "application/json", "X-Forwarded-For": self.address}
        headers |= {"Content-Type": "application/json"} if body else {}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        began = time.monotonic()
        self._connection.request(method, path, json.dumps(body) if body else None, headers)
        response = self._connection.getresponse()
        text = response.read()
        sample = Sample(began, time.monotonic(), response.status, method != "GET")
        self.ledger.add(sample)
        is_outage = sample.status == 503 and response.headers["Retry-After"]
        if sample.seconds > MAX_SECONDS or (sample.status >= 500 and not is_outage):
            self.ledger.add_wrong(f"{method} {path}: {sample} {text!r:.200}")
        if sample.status == 503:
            time.sleep(PAUSE)
        return Response(sample.status, json.loads(text) if text else None)

    def repeat(self, method: str, path: str, body: dict[str, Any], token: str = "") -> Response:
        """Send a request until its response is not 503."""
        while (response := self.send(method, path, body, token)).status == 503:
            pass
        return response

    def expect(self, what: str, response: Response, *statuses: int) -> bool:
        """Return whether the response has the first status; record it unless it has one of them."""
        if response.status not in (*statuses, 503):
            self.ledger.add_wrong(f"{self.account.username}: {what}: {response!r:.200}")
        return response.status == statuses[0]

    def sign_up(self) -> None:
        """Sign up."""
        body = {"username": self.account.username, "password": PASSWORD}
        self.expect("sign-up", self.repeat("POST", "/users", body), 201)

    def session(self) -> Session | None:
        """Return one of the active sessions."""
        active = [each for each in self.account.sessions.values() if each.ended is False]
        return self.rng.choice(active) if active else None

    def sign_in(self) -> None:
        """Open a session."""
        body = {"username": self.account.username, "password": PASSWORD}
        response = self.send("POST", "/auth", body)
        if self.expect("sign-in", response, 200):
            session = Session.of(response.body)
            self.account.sessions[session.id] = session

    def sign_out(self, session: Session) -> None:
        """End a session."""
        response = self.send("POST", "/auth/logout", {}, session.access_token)
        session.ended = True if self.expect("sign-out", response, 204) else None

    def refresh(self, session: Session) -> None:
        """Refresh, with the same retry key until the response is there."""
        body = {
            "refresh_token": session.refresh_token,
            "retry_key": f"{self.rng.getrandbits(128):032x}",
        }
        before = session.generation
        response = self.repeat("POST", "/auth/refresh", body)
        if self.expect("refresh", response, 200, 429):  # the limit of refreshes per minute
            session.access_token = response.body["access_token"]
            session.refresh_token = response.body["refresh_token"]
            self.ledger.expect("generation of a new token", session.generation, before + 1)

    def add_pet(self, session: Session) -> None:
        """Add a pet; if there are many, remove one."""
        if len(self.account.pets) >= MAX_PETS:
            self.remove_pet(session)
            return
        self._pets_added += 1
        name = f"{self.account.username}-{self._pets_added}"
        response = self.send("POST", "/pets", {"name": name}, session.access_token)
        if self.expect("new pet", response, 201):
            self.account.pets[response.body["id"]] = name

    def remove_pet(self, session: Session) -> None:
        """Remove a pet."""
        pet_id = next(iter(self.account.pets))
        response = self.send("DELETE", f"/pets/{pet_id}", None, session.access_token)
        removed = self.expect("removed pet", response, 204)
        (self.account.removed_pets if removed else self.account.uncertain_pets).add(pet_id)
        del self.account.pets[pet_id]

    def read(self, session: Session) -> None:
        """Read the pets: each acknowledged one must be among them."""
        response = self.send("GET", "/my-pets", token=session.access_token)
        if self.expect("my pets", response, 200):
            found = {pet["name"] for pet in response.body}
            self.ledger.expect("pets missing", set(self.account.pets.values()) - found, set())

    def operate(self) -> None:
        """Do one thing, at random."""
        session = self.session()
        if session is None or self.rng.random() < 0.05:
            self.sign_in()
        elif len(self.account.sessions) % MAX_SESSIONS == 0 or self.rng.random() < 0.04:
            self.sign_out(session)
        else:
            operations: list[Callable[[Session], None]] = [self.add_pet, self.read, self.refresh]
            [operation] = self.rng.choices(operations, (3, 2, 1))
            operation(session)

    def run(self, gate: Gate, stop: Event) -> None:
        """Sign up, and operate until the end; never raises."""
        try:
            self.sign_up()
            while not stop.is_set():
                self.operate()
                if gate.closed:
                    gate.wait()
        except Exception:  # noqa: BLE001 - whatever it is, the run must report it
            self.ledger.add_wrong(f"{self.account.username}: {traceback.format_exc()}")
        finally:
            self._connection.close()
            gate.remove_client()
