"""The services that are measured: their commands, databases and processes."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import bcrypt

from jwt_server import sqlite
from jwt_server.config import Settings
from jwt_server.cpus import usable_cores
from jwt_server.database import Database
from jwt_server.security.keys import SharedSecrets
from jwt_server.security.passwords import hash_password
from jwt_server.security.tokens import AccessTokens, TokenSubject
from tests.helpers.postgresql import Cluster
from tests.helpers.postgresql_programs import find

ROOT = Path(__file__).parent.parent
ROUNDS = 12
PASSWORD = "correct horse battery"  # noqa: S105 - of users that exist for a minute
SECRET_KEY, JWT_SECRET = secrets.token_urlsafe(48), secrets.token_urlsafe(48)
CORES = len(usable_cores())
THREADS = 1 + Settings.hash_queue + 32


@dataclass(frozen=True)
class Service:
    """A service, and the command that starts it on {port}."""

    name: str
    command: Sequence[str]
    kind: str = "plain"
    """Its database: `ours`, `postgresql`, `plain` (SQLite with plain bcrypt), or `django`."""
    json_token: bool = False
    python: str = sys.executable

    @property
    def is_ours(self) -> bool:
        """Whether it is jwt-server."""
        return self.kind in {"ours", "postgresql"}


GUNICORN = ("-m", "gunicorn")
UVICORN = ("-m", "uvicorn", "--workers", str(CORES), "--port", "{port}")
OURS = (*GUNICORN, "-c", str(ROOT / "jwt_server" / "gunicorn" / "conf.py"))

# In this order, so that what is compared is measured soon after each other.
SERVICES = {
    "ours": Service("jwt-server, gunicorn", (*OURS, "jwt_server.wsgi:app"), "ours"),
    "postgresql": Service(
        "jwt-server, gunicorn, PostgreSQL", (*OURS, "jwt_server.wsgi:app"), "postgresql"
    ),
    "fastapi-blocking": Service(
        "FastAPI, SQLite in the loop",
        (*UVICORN, "bench.peers.fastapi_app:blocking"),
    ),
    "fastapi-async": Service(
        "FastAPI, async def", (*UVICORN, "bench.peers.fastapi_app:asynchronous")
    ),
    "fastapi-def": Service("FastAPI, def", (*UVICORN, "bench.peers.fastapi_app:sync")),
    "bare": Service("bare WSGI, same gunicorn", (*OURS, "bench.peers.bare:app")),
    "granian": Service(
        "jwt-server, granian",
        ("-m", "granian", "--interface", "wsgi", "--workers", str(CORES), "--port", "{port}",
         "--blocking-threads", str(THREADS), "--no-ws", "--log-level", "warning",
         "jwt_server.wsgi:app"),
        "ours",
    ),
    "drf": Service(
        "Django REST, SimpleJWT",
        (*GUNICORN, "-b", "127.0.0.1:{port}", "-w", str(CORES), "--threads", "8",
         "bench.peers.drf_app:app"),
        "django",
        json_token=True,
    ),
    "flask-jwt": Service(
        "Flask-JWT-Extended",
        (*GUNICORN, "-b", "127.0.0.1:{port}", "bench.peers.flask_jwt_extended_app:app"),
    ),
}  # fmt: skip


@dataclass
class Running:
    """A running service."""

    service: Service
    port: int
    folder: Path
    database: Path | str
    process: subprocess.Popen[bytes]
    ready_after: float
    """Seconds from exec to the first response."""
    address: str = ""

    @property
    def url(self) -> str:
        """The base URL."""
        return self.address or f"http://127.0.0.1:{self.port}"

    def sign_in(self, name: str = "user0") -> str:
        """Sign in; returns a token."""
        body = urlencode({"username": name, "password": PASSWORD}).encode()
        with urllib.request.urlopen(f"{self.url}/auth", body, timeout=60) as answer:  # noqa: S310 - ours
            text: str = answer.read().decode()
        return json.loads(text)["access"] if self.service.json_token else text

    def workers(self) -> list[int]:
        """Return the process IDs of the workers."""
        pid = self.process.pid
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in text.split()] or [pid]


INSERT_USER = (
    "INSERT INTO users (username, username_key, password_hash, created_at) VALUES (?, ?, ?, 0)"
)
INSERT_PETS = (
    "INSERT INTO pets (user_id, name, species, created_at) SELECT id, 'Bunny', 'dog', 0 FROM users",
    "INSERT INTO pets (user_id, name, species, created_at) SELECT id, 'Ru', 'cat', 0 FROM users",
)


@cache
def cluster() -> Cluster:
    """Start PostgreSQL on the disk of temporary files; it ends with this process."""
    if not find("initdb"):
        raise SystemExit("PostgreSQL is missing: sudo apt install postgresql")
    started = Cluster({"shared_buffers": "128MB", "max_wal_size": "1GB"}, durable=True)
    atexit.register(started.close)
    return started.__enter__()


@cache
def postgresql_database(users: int) -> str:
    """Create a database as `make_database` in PostgreSQL; return its URL."""
    url = cluster().create_database(f"bench_{users}")
    with closing(Database(url)) as database:
        database.engine.create()
        with database.connection() as db, db.transaction():
            _fill(db.driver, "%s", users, hash_password(PASSWORD, ROUNDS))
    return url


def make_database(kind: str, path: Path, users: int) -> None:
    """Create a database with users of one password and two pets each."""
    if kind == "django":
        digest = hashlib.sha256(PASSWORD.encode()).hexdigest().encode()
        hashed = bcrypt.hashpw(digest, bcrypt.gensalt(ROUNDS)).decode()
        code = f"from bench.peers.drf_app import fill; fill({users}, {hashed!r})"
        subprocess.run(
            [sys.executable, "-c", code], env=environment(path), cwd=path.parent, check=True
        )
        return
    sqlite.create(path)
    plain = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(ROUNDS)).decode()
    hashed = hash_password(PASSWORD, ROUNDS) if kind == "ours" else plain
    with closing(sqlite3.connect(path)) as driver, driver:
        driver.execute("PRAGMA synchronous = OFF")
        _fill(driver, "?", users, hashed)


def _fill(driver: Any, parameter: str, users: int, hashed: str) -> None:
    driver.cursor().executemany(
        INSERT_USER.replace("?", parameter),
        ((f"user{n}", f"user{n}", hashed) for n in range(users)),
    )
    for pet in INSERT_PETS:
        driver.execute(pet)


def open_sessions(where: Path | str, count: int, users: int) -> list[str]:
    """Insert sessions, spread over all users; returns an access token of each."""
    tokens = AccessTokens(SharedSecrets((JWT_SECRET.encode(),)), "jwt-server", "jwt-server")
    now = int(time.time())
    bearers = [
        TokenSubject(1 + n * users // count, secrets.token_urlsafe(16)) for n in range(count)
    ]
    with closing(Database(where)) as database, database.connection() as db, db.transaction():
        for bearer in bearers:
            db.queries.auth.insert(
                id=bearer.session_id, user_id=bearer.user_id, nonce=secrets.token_bytes(16),
                refreshable=True, now=now, expires_at=now + 86_400, ends_at=now + 86_400,
                address="", user_agent="", client_id="",
            )  # fmt: skip
    return [tokens.issue(bearer, admin=False, now=now, ttl=86_400) for bearer in bearers]


def environment(database: Path | str, port: int = 0) -> dict[str, str]:
    """Return the environment of a service."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "BENCH_DATABASE": str(database),
        "DATABASE_URL": database if isinstance(database, str) else f"sqlite:///{database}",
        "SECRET_KEY": SECRET_KEY,
        "JWT_SECRET": JWT_SECRET,
        "SALT_ROUNDS": str(ROUNDS),
        # All the load comes from one address.
        **dict.fromkeys(("THROTTLE_ACCOUNT", "THROTTLE_ADDRESS", "THROTTLE_PAIR"), "1000000"),
        "PORT": str(port),
        "METRICS_PORT": str(free_port()),
    }


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    service: Service, folder: Path, database: Path | str, *, wait: bool = True, **extra: str
) -> Iterator[Running]:
    """Run a service; yields it after its first response."""
    port = free_port()
    command = [part.format(port=port) for part in service.command]
    with (folder / "log").open("wb") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            [service.python, *command],
            env=environment(database, port) | extra,
            cwd=folder, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        if wait:
            _wait_for(port, process, folder / "log")
        yield Running(service, port, folder, database, process, time.perf_counter() - started)
    finally:
        process.terminate()
        try:
            process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(b"GET /my-pets HTTP/1.0\r\n\r\n")
                if connection.recv(64).startswith(b"HTTP/1."):
                    return
        except OSError:
            time.sleep(0.005)
    raise SystemExit(f"It did not start:\n{log.read_text()[-2000:]}")
