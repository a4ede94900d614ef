"""Clients that ask on and on, while something is done to a server, and tell what went wrong."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.helpers.factories import bearer
from tests.helpers.server import Server

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}

Request = tuple[str, str, Mapping[str, str], str | None, int]
"""Method, path, headers, body, and the status that there has to be."""


SIGN_IN: Request = ("POST", "/auth", FORM, "username=travis&password=mypassword", 200)


def requests(token: str) -> Sequence[Request]:
    """What each client asks with the token of its sign-in: reads, a write, and one refused."""
    travis = bearer(token)
    return (
        ("GET", "/healthz", {}, None, 200),
        ("GET", "/my-pets", travis, None, 200),
        ("POST", "/pets", travis | JSON, '{"name": "Rex"}', 201),
        ("POST", "/auth", FORM, "username=travis&password=wrong", 401),
    )


@dataclass
class Client:
    """Asks one server, on one connection for as long as that is kept, or on a fresh one each."""

    server: Server
    keep: bool
    connection: http.client.HTTPConnection | None = None
    answers: Counter[str] = field(default_factory=Counter)
    """How often each request has been answered, with what was said of being alive."""
    failures: list[str] = field(default_factory=list)

    def ask_until(self, over: threading.Event) -> None:
        """Ask on and on; a failure is told, and does not end it."""
        while not over.is_set():
            token = self.ask(*SIGN_IN)
            for request in requests(token):
                self.ask(*request)
        self.hang_up()

    def hang_up(self) -> None:
        """End the connection, if there is one."""
        if self.connection:
            self.connection.close()
        self.connection = None

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: str | None, wanted: int
    ) -> str:
        """Ask once; what was answered, or nothing."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection(
                self.server.host, self.server.port, timeout=30
            )
        closing = {} if self.keep else {"Connection": "close"}
        try:
            self.connection.request(method, path, body, {**headers, **closing})
            answer = self.connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(f"{method} {path}: {error!r}")
            self.hang_up()
            return ""
        if answer.status != wanted:
            self.failures.append(f"{method} {path}: {answer.status} {text!r}")
        if answer.will_close:
            self.hang_up()
        self.answers[text if path == "/healthz" else path] += 1
        return text


@dataclass(frozen=True)
class Load:
    """Clients at work."""

    clients: Sequence[Client]

    def failures(self) -> list[str]:
        """What went wrong, of all of them."""
        return [failure for client in self.clients for failure in client.failures]

    def answers(self) -> Counter[str]:
        """What came, of all of them."""
        return sum((client.answers for client in self.clients), Counter())


@contextmanager
def load(*servers: Server, each: int = 2) -> Iterator[Load]:
    """So many clients that keep their connection to each server, and as many that don't, for the
    length of a `with` block.
    """
    over = threading.Event()
    clients = [Client(server, keep) for server in servers for keep in (True, False) * each]
    threads = [threading.Thread(target=client.ask_until, args=(over,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield Load(clients)
    finally:
        over.set()
        for thread in threads:
            thread.join()
