"""Hosts of the service over one PostgreSQL, and clients that ask them through nginx."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import jwt

from jwt_server.database import Database
from tests.helpers import processes
from tests.helpers.databases import cluster, create_database
from tests.helpers.factories import add_user, bearer
from tests.helpers.http import Response, send_to_server
from tests.helpers.processes import AnyProcess, Process
from tests.helpers.server import (
    BASE_ENVIRONMENT,
    Server,
    environment,
    flask,
    gunicorn,
    wait_for,
)
from tests.helpers.site import NAME, Site
from tests.helpers.waiting import free_port, until

wait_until = partial(until, seconds=60)

CLIENTS = 4
"""Each signs in as a user of its own: one password is checked at most twice at once."""

PASSWORD = "correct horse"
"""That of `add_user`."""

SETTINGS = BASE_ENVIRONMENT | {
    "WORKERS": "2",
    "TRUSTED_PROXIES": "1",
    "HASH_QUEUE": "100",  # no attempt is refused by the hash queue, however slow the machine is
    "HASH_WAIT": "60",
}

NAMES = count(1)


@dataclass
class Host:
    """A gunicorn with a folder of its own."""

    folder: Path
    settings: dict[str, str]
    port: int = field(default_factory=free_port)
    logs: list[Path] = field(default_factory=list)
    """One for each start."""

    process: AnyProcess = field(init=False)

    @property
    def server(self) -> Server:
        return Server("127.0.0.1", self.port, self.process, self.logs[-1])

    def start(self, **changes: str) -> None:
        """Start it, with these changes of its settings, and wait until it responds."""
        self.settings |= changes
        self.logs.append(self.folder / f"{len(self.logs)}.log")
        self.process = gunicorn(
            self.folder, self.settings | {"PORT": f"{self.port}"}, self.logs[-1]
        )
        wait_for(self.port, self.process, self.logs[-1])

    def stop(self) -> None:
        """Stop it as systemd does, and check that no request has met a bug."""
        self.process.terminate()
        self.process.wait(timeout=120)
        assert not any("Traceback" in log.read_text() for log in self.logs)

    def has_signed_in(self) -> bool:
        """Whether nginx has sent it a sign-in since its start."""
        return '"POST /auth 200"' in self.logs[-1].read_text()

    def restart(self, **changes: str) -> None:
        self.stop()
        self.start(**changes)

    def kill(self) -> None:
        """Kill all its processes at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=120)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str = "",
        address: str = "192.0.2.1",
    ) -> Response:
        """Send JSON, from an address behind the proxy."""
        headers = {"Accept": "application/json", "X-Forwarded-For": address}
        headers |= bearer(token) if token else {}
        data = None if body is None else json.dumps(body)
        return send_to_server(self.server, method, path, headers, data, "application/json")

    def sign_in(self, username: str, password: str = PASSWORD, **changes: str) -> dict[str, Any]:
        """Return the token object of a sign-in."""
        credentials = {"username": username, "password": password}
        response = self.send("POST", "/auth", credentials, **changes)
        assert response.status == 200, response.text
        tokens: dict[str, Any] = response.json
        return tokens

    def flask(self, *command: str, **changes: str) -> str:
        """Run a command of the service, which must succeed; return what it prints."""
        done = flask(self.folder, self.settings | changes, *command)
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass(frozen=True)
class Command:
    """A command of the service that was started, in a folder of its own."""

    process: Process
    folder: Path

    def result(self) -> str:
        """Return what it prints until it ends, with success."""
        status = self.process.wait(timeout=60)
        assert status == 0, (self.folder / "stderr").read_text()
        return (self.folder / "stdout").read_text()


def start_command(folder: Path, url: str, *command: str) -> Command:
    """Start `flask --app wsgi ...`; a wsgi.py in the folder is that of the command."""
    own = folder / f"command{next(NAMES)}"
    own.mkdir()
    variables = environment(folder, SETTINGS | {"DATABASE_URL": url})
    streams = [own / name for name in ("stdin", "stdout", "stderr")]
    arguments = ("flask", "--app", "wsgi", *command)
    return Command(processes.start(folder, variables, streams, *arguments), own)


def new_database() -> str:
    """Create a database with the demo user; return its URL."""
    url = cluster().url_of(f"hosts_{next(NAMES)}")
    create_database(url)
    return url


def new_user(database: Database, *, admin: bool = False) -> tuple[int, str]:
    """Add a user with PASSWORD; return the id and the name."""
    name = f"user{next(NAMES)}"
    with database.connection() as db:
        user_id = add_user(db, name)
        db.driver.execute(f"UPDATE users SET admin = {int(admin)} WHERE id = {user_id}")  # noqa: S608
    return user_id, name


@contextmanager
def two_hosts(folder: Path, url: str, **settings: str) -> Iterator[tuple[Host, Host]]:
    """Run two hosts over the database, with folders of their own."""
    with ExitStack() as stack:
        hosts = []
        for name in ("first", "second"):
            own = folder / name
            own.mkdir(exist_ok=True)
            hosts.append(Host(own, SETTINGS | {"DATABASE_URL": url} | settings))
            hosts[-1].start()
            stack.callback(hosts[-1].stop)
        first, second = hosts
        yield first, second


class RequestFailed(Exception):
    """A request of a client has failed; the client begins again."""


@dataclass
class Load:
    """Clients that sign in, read, write, refresh and sign out in turn, and what failed."""

    site: Site
    usernames: Sequence[str]
    failures: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    kids: dict[str, str] = field(default_factory=dict)
    """The key of each client's last access token; none under HS256."""
    rounds: Counter[str] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, username: str) -> None:
        """Repeat the requests of a client until the end."""
        client = Client(self, username)
        while not self.stop.wait(0.05):
            try:
                client.round()
            except RequestFailed as failure:
                self.failures.append(str(failure))
            self.rounds[username] += 1
        client.close()

    def wait(self, rounds: int = 3) -> None:
        """Wait until each client has begun and finished that many rounds from now."""
        before = self.rounds.copy()
        wait_until(
            lambda: all(self.rounds[name] > before[name] + rounds for name in self.usernames)
        )

    def wait_for_key(self, kid: str) -> None:
        """Wait until this key signs for all clients, and no token of another is used."""
        wait_until(lambda: set(self.kids.values()) == {kid})
        self.wait(rounds=1)
        assert set(self.kids.values()) == {kid}


@dataclass
class Client:
    """A client with one kept-alive connection to nginx."""

    load: Load
    username: str
    connection: http.client.HTTPConnection | None = None

    def round(self) -> None:
        """Send each request of a session."""
        tokens = self.send("POST", "/auth", {"username": self.username, "password": PASSWORD})
        self.use(tokens["access_token"])
        body = {"refresh_token": tokens["refresh_token"], "retry_key": secrets.token_urlsafe(16)}
        token = self.send("POST", "/auth/refresh", body)["access_token"]
        self.use(token)
        pet = self.send("POST", "/pets", {"name": "Rex"}, token)
        self.send("DELETE", f"/pets/{pet['id']}", None, token)
        self.send("POST", "/auth/logout", None, token)

    def use(self, token: str) -> None:
        """Read with a token."""
        if kid := jwt.get_unverified_header(token).get("kid"):
            self.load.kids[self.username] = kid
        self.send("GET", "/pets", None, token)

    def send(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        """Send a request; return the JSON of its response. Raises RequestFailed."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        headers |= bearer(token) if token else {}
        if self.connection is None:
            self.connection = http.client.HTTPConnection(NAME)
            self.connection.sock = self.load.site.connect()
        try:
            self.connection.request(method, path, body and json.dumps(body), headers)
            response = self.connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise RequestFailed(f"{method} {path}: {error!r}") from error
        self.load.statuses[response.status] += 1
        if response.will_close:
            self.close()
        if response.status >= 300:
            raise RequestFailed(f"{method} {path}: {response.status} {text.decode()}")
        return json.loads(text) if text else None

    def close(self) -> None:
        if self.connection:
            self.connection.close()
        self.connection = None


@contextmanager
def load_on(site: Site, database: Database) -> Iterator[Load]:
    """Run the clients, each with a user of its own."""
    load = Load(site, [new_user(database)[1] for _ in range(CLIENTS)])
    clients = [threading.Thread(target=load.run, args=[name]) for name in load.usernames]
    for client in clients:
        client.start()
    try:
        yield load
    finally:
        load.stop.set()
        for client in clients:
            client.join()
        print(f"{sum(load.statuses.values())} requests, {len(load.failures)} failures")
