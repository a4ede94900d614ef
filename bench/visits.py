"""Clients that use every feature: the load of a soak, beside the reads."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from typing import Any

from bench.services import PASSWORD

JUNK = ("x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "é" * 20, "r1." + "A" * 70)
BUSY = frozenset({429, 503})


class Visitor:
    """A client that acts as one user after another: signs in, sends requests, maybe signs out."""

    def __init__(self, number: int, port: int, users: int) -> None:
        self.number = number
        self.rng = random.Random(number)  # noqa: S311 - whoever comes
        self.users = users
        self.statuses: Counter[int] = Counter()
        self.made = 0
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    @property
    def count(self) -> int:
        """The number of responses."""
        return self.statuses.total()

    def visit_until(self, over: threading.Event) -> None:
        """Visit again and again; a broken connection counts as status 599."""
        while not over.is_set():
            try:
                self.visit()
            except (OSError, http.client.HTTPException):
                self.statuses[599] += 1
                self.connection.close()
        self.connection.close()

    def visit(self) -> None:
        """Act as one user."""
        name = self._signed_up() if self.rng.random() < 0.2 else f"user{self._someone()}"
        self.ask("POST", "/auth", {"username": f"user{self._someone()}", "password": "wrong"})
        self.ask("GET", "/pets", token=self.rng.choice(JUNK))
        self.ask("POST", "/auth/refresh", {"refresh_token": self.rng.choice(JUNK)})
        tokens = self.ask("POST", "/auth", {"username": name, "password": PASSWORD})
        for _ in range(3):
            if "access_token" not in tokens:
                return
            self._do_something(tokens["access_token"])
            tokens = self.ask("POST", "/auth/refresh", {"refresh_token": tokens["refresh_token"]})
        if self.rng.random() < 0.8:
            self.ask("POST", "/auth/logout", token=tokens.get("access_token", ""))

    def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, token: str = ""
    ) -> dict[str, Any]:
        """Send a request and count its status; waits a moment after a 429 or 503."""
        headers = {"Accept": "application/json", "X-Forwarded-For": f"10.0.{self.number}.1"}
        if path == "/users":  # 10 a day from each address
            headers["X-Forwarded-For"] = f"11.{self.number}.{self.made >> 8}.{self.made & 255}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        if token:
            headers["Authorization"] = f"Bearer {token}".encode().decode("latin-1")
        self.connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        self.statuses[answer.status] += 1
        if answer.status in BUSY:
            time.sleep(0.2)
        found = json.loads(text) if text else {}
        return found if isinstance(found, dict) else {}

    def _someone(self) -> int:
        return self.rng.randrange(self.users)

    def _signed_up(self) -> str:
        self.made += 1
        name = f"new-{self.number}-{self.made}"
        self.ask("POST", "/users", {"username": name, "password": PASSWORD})
        return name

    def _do_something(self, token: str) -> None:
        pet = self.ask("POST", "/pets", {"name": "Bunny", "species": "dog"}, token)
        self.ask("GET", "/pets", token=token)
        self.ask("GET", "/my-pets", token=token)
        if "id" in pet:
            self.ask("PUT", f"/pets/{pet['id']}", {"name": "Ru"}, token)
            self.ask("GET", f"/pets/{pet['id']}", token=token)
            self.ask("DELETE", f"/pets/{pet['id']}", None, token)
        self.ask("GET", "/me", token=token)
        self.ask("GET", "/auth/sessions", token=token)
