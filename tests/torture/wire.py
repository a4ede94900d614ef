"""How a client asks: over one kept-alive connection, and always knowing whether it was answered."""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from tests.torture.record import Ledger

PATIENCE: Final = 60
"""Seconds within which each question is answered, or something is wrong."""


class Lost(Exception):
    """The question was sent, and no answer came: it may have been done, or not."""


class Weather:
    """Whether something was killed just now, which is the only excuse for a broken connection."""

    def __init__(self) -> None:
        self._storm = threading.Event()
        self._calm_since = time.monotonic()
        self.over = threading.Event()
        """Set when the clients are to stop."""

    def storm(self) -> None:
        """Something is about to be killed."""
        self._storm.set()

    def calm(self) -> None:
        """The service is whole again."""
        self._calm_since = time.monotonic()
        self._storm.clear()

    def excuses(self, since: float) -> bool:
        """Whether a connection of that time may break now."""
        return self._storm.is_set() or since < self._calm_since


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: Any

    @property
    def code(self) -> str:
        """The refusal's code; empty for none."""
        return str(self.body.get("code", "")) if isinstance(self.body, dict) else ""


class Wire:
    """One client's way to the service, as from an address of its own behind a proxy."""

    def __init__(self, port: int, address: str, weather: Weather, ledger: Ledger) -> None:
        self.port = port
        self.address = address
        self.weather = weather
        self.ledger = ledger
        self._connection: http.client.HTTPConnection | None = None
        self._opened_at = 0.0

    def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, token: str = ""
    ) -> Answer:
        """The answer; raises Lost. Whatever is wrong with how it was answered is noted."""
        headers = {"Accept": "application/json", "X-Forwarded-For": self.address}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection = self._connected()
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            slow = isinstance(error, TimeoutError)
            if slow or not self.weather.excuses(self._opened_at):
                self.ledger.lose(f"{method} {path}: {error!r} though nothing was killed")
            raise Lost from error
        self.ledger.answered(response.status)
        if response.status >= 500 and response.status != 503:
            self.ledger.lose(f"{method} {path}: {response.status} {text!r:.200}")
        return Answer(response.status, json.loads(text) if text else None)

    def _connected(self) -> http.client.HTTPConnection:
        """The connection; waits until there is one."""
        begun = time.monotonic()
        while self._connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            self._opened_at = time.monotonic()
            try:
                connection.connect()
            except OSError as error:
                if not self.weather.excuses(begun) or self._opened_at - begun > PATIENCE:
                    self.ledger.lose(f"no connection: {error!r}")
                    raise Lost from error
                time.sleep(0.02)
            else:
                self._connection = connection
        return self._connection

    def close(self) -> None:
        """Ask over another connection next time."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
        self._connection = None
