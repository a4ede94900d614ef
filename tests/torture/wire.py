"""A client's HTTP connection, which tells refused requests from those without a response."""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from tests.torture.record import Ledger

TIMEOUT: Final = 60
"""Seconds within which each request must get its response."""


class NoResponse(Exception):
    """A request was sent and got no response: it may have been processed, or not."""


class Outage:
    """Whether a process was just killed: the only valid reason for a broken connection; or the
    database: the only valid reason for a 503 of a request that may have been processed.
    """

    def __init__(self) -> None:
        self._ongoing = threading.Event()
        self._ended_at = time.monotonic()
        self.stop_clients = threading.Event()
        """Set when the clients must stop."""

    def begin(self) -> None:
        """Note that something is about to be killed."""
        self._ongoing.set()

    def end(self) -> None:
        """Note that the service is ready again."""
        if self._ongoing.is_set():
            self._ended_at = time.monotonic()
            self._ongoing.clear()

    def may_break(self, since: float) -> bool:
        """Tell whether a connection opened, or a request sent, at that time may break now."""
        return self._ongoing.is_set() or since < self._ended_at


@dataclass(frozen=True)
class Response:
    """A response."""

    status: int
    body: Any

    @property
    def code(self) -> str:
        """The error code, or an empty string."""
        return str(self.body.get("code", "")) if isinstance(self.body, dict) else ""


class Wire:
    """A client's connection, with its own address behind a proxy."""

    def __init__(self, port: int, address: str, outage: Outage, ledger: Ledger) -> None:
        self.port = port
        self.address = address
        self.outage = outage
        self.ledger = ledger
        self._connection: http.client.HTTPConnection | None = None
        self._opened_at = 0.0

    def send(
        self, method: str, path: str, body: dict[str, Any] | None = None, token: str = ""
    ) -> Response:
        """Send a request. Raises NoResponse; records a wrong response as a loss."""
        headers = {"Accept": "application/json", "X-Forwarded-For": self.address}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection = self._connected()
        sent_at = time.monotonic()
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            slow = isinstance(error, TimeoutError)
            if slow or not self.outage.may_break(self._opened_at):
                self.ledger.add_loss(f"{method} {path}: {error!r} though nothing was killed")
            raise NoResponse from error
        self.ledger.count_status(response.status, time.monotonic() - sent_at)
        can_wait = response.status == 503 and response.getheader("Retry-After", "").isdecimal()
        if response.status >= 500 and not can_wait:
            self.ledger.add_loss(f"{method} {path}: {response.status} {text!r:.200}")
        return Response(response.status, json.loads(text) if text else None)

    def _connected(self) -> http.client.HTTPConnection:
        """Return the connection; open one if needed, waiting for the service."""
        begun = time.monotonic()
        while self._connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
            self._opened_at = time.monotonic()
            try:
                connection.connect()
            except OSError as error:
                if not self.outage.may_break(begun) or self._opened_at - begun > TIMEOUT:
                    self.ledger.add_loss(f"no connection: {error!r}")
                    raise NoResponse from error
                time.sleep(0.02)
            else:
                self._connection = connection
        return self._connection

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
        self._connection = None
