"""Backup and restore beside a real server: under load, and killed at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import processes
from tests.helpers.databases import create_database, is_intact, query
from tests.helpers.factories import bearer
from tests.helpers.http import send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, Server, environment, running, started

pytestmark = pytest.mark.slow

SETTINGS = BASE_ENVIRONMENT | {"SIGNUP": "open", "TRUSTED_PROXIES": "1"}
PASSWORD = "a long passphrase"


def post(server: Server, path: str, body: object, **headers: str) -> dict[str, Any]:
    sent = {"Accept": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    answer = send_to_server(server, "POST", path, sent, json.dumps(body), "application/json")
    assert answer.status in {200, 201}, answer.text
    found: dict[str, Any] = json.loads(answer.body)
    return found


def start(folder: Path, *command: str | Path) -> processes.Process:
    """Start a command of the service, on the database in a folder."""
    streams = (Path(os.devnull), *[folder / "commands.log"] * 2)
    arguments = ("flask", "--app", "wsgi", *map(str, command))
    return processes.start(folder, environment(folder, SETTINGS), streams, *arguments)


def run(folder: Path, *command: str | Path) -> int:
    """Run a command; return its exit status."""
    return start(folder, *command).wait(timeout=60)


@dataclass
class Client:
    """Signs up, refreshes and adds pets, as fast as it can, and notes what was acknowledged."""

    server: Server
    number: int
    users: dict[int, str] = field(default_factory=dict)
    pets: dict[int, str] = field(default_factory=dict)
    tokens: list[dict[str, Any]] = field(default_factory=list)

    def work(self, over: threading.Event) -> None:
        while not over.is_set():
            self.visit(f"user-{self.number}-{len(self.users)}")

    def visit(self, name: str) -> None:
        address = {"X_Forwarded_For": f"192.0.{self.number}.{len(self.users) % 250}"}
        made = post(self.server, "/users", {"username": name, "password": PASSWORD}, **address)
        self.users[made["id"]] = name
        signed_in = post(self.server, "/auth", {"username": name, "password": PASSWORD}, **address)
        body = {"refresh_token": signed_in["refresh_token"]}
        self.tokens.append(post(self.server, "/auth/refresh", body, **address))
        for pet in (f"Rex of {name}", f"Kim of {name}"):
            made = post(self.server, "/pets", {"name": pet}, **bearer(self.last()), **address)
            self.pets[made["id"]] = pet

    def last(self) -> str:
        return str(self.tokens[-1]["access_token"])


@contextmanager
def load(server: Server) -> Iterator[list[Client]]:
    """Two clients at work, for the length of a `with` block; an error in one is ours."""
    over, clients, errors = threading.Event(), [Client(server, each) for each in range(2)], []

    def work(client: Client) -> None:
        try:
            client.work(over)
        except BaseException as error:  # noqa: BLE001 - told in the main thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(each,)) for each in clients]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert errors == []


def until(clients: list[Client], visits: int) -> None:
    """Wait until each has done so many."""
    deadline = time.monotonic() + 60
    while min(len(each.tokens) for each in clients) < visits:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_backup_under_load_is_complete_and_no_id_is_reused_after_its_restore(
    tmp_path: Path,
) -> None:
    live, file = tmp_path / "server.db", tmp_path / "backup.db"
    with running(tmp_path, SETTINGS) as server:
        with load(server) as clients:
            until(clients, 2)
            before = [(dict(each.users), dict(each.pets), list(each.tokens)) for each in clients]
            assert run(tmp_path, "backup", file) == 0
            until(clients, len(max(clients, key=lambda each: len(each.tokens)).tokens) + 1)
            assert run(tmp_path, "restore", file) == 1
        assert (
            (tmp_path / "commands.log").read_text().endswith("is in use: stop the service first.\n")
        )
        assert send_to_server(server, "GET", "/me", bearer(clients[0].last())).status == 200
        assert "Traceback" not in server.log()
    assert not list(tmp_path.glob("*.replaced-*"))
    assert not list(tmp_path.glob(".*.tmp-*"))
    all_users = 1 + sum(len(each.users) for each in clients)
    assert query(live, "SELECT count(*) FROM users") == [(all_users,)]

    assert run(tmp_path, "restore", file) == 0
    users = dict(query(live, "SELECT id, username FROM users"))
    pets = dict(query(live, "SELECT id, name FROM pets"))
    for their_users, their_pets, _ in before:
        assert their_users.items() <= users.items()
        assert their_pets.items() <= pets.items()
    assert is_intact(live)
    assert len(users) < all_users  # some came too late for it

    with started(tmp_path, SETTINGS) as server:
        for each in (token for _, _, tokens in before for token in tokens):
            headers = bearer(each["access_token"])
            assert send_to_server(server, "GET", "/my-pets", headers).status == 403
            body = json.dumps({"refresh_token": each["refresh_token"]})
            kind = "application/json"
            refused = send_to_server(server, "POST", "/auth/refresh", {}, body, kind)
            assert refused.status == 401
        new = Client(server, 9)
        new.visit("someone new")
        name = next(iter(before[0][0].values()))
        again = post(server, "/auth", {"username": name, "password": PASSWORD})
        assert send_to_server(server, "GET", "/me", bearer(again["access_token"])).status == 200
    assert min(new.users) > max(max(each.users) for each in clients)
    assert min(new.pets) > max(max(each.pets) for each in clients)


def kill(pattern: Path, min_size: int, folder: Path, *command: str | Path) -> bool:
    """Run a command and kill it when a matching file has a size; return whether it was running."""
    process = start(folder, *command)
    while process.poll() is None and size(pattern) < min_size:
        pass
    process.kill()
    return process.wait(timeout=60) == -signal.SIGKILL


def size(pattern: Path) -> int:
    """Return the size of the largest matching file, -1 without any."""
    found = -1
    for path in pattern.parent.glob(pattern.name):
        with suppress(FileNotFoundError):
            found = max(found, path.stat().st_size)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a database that takes a moment to copy."""
    folder = tmp_path_factory.mktemp("large")
    create_database(folder / "server.db")
    with closing(sqlite3.connect(folder / "server.db")) as driver, driver:
        driver.executemany(
            "INSERT INTO pets (user_id, name, created_at) VALUES (1, ?, 0)",
            ((f"{number:0100}",) for number in range(10_000)),
        )
    return folder


@pytest.fixture(scope="module")
def large(folder: Path) -> Path:
    """Return a backup of the large database."""
    assert run(folder, "backup", folder / "first") == 0
    return folder / "first"


def test_killed_backup_leaves_a_complete_file_or_none(
    tmp_path: Path, folder: Path, large: Path
) -> None:
    chance, killed = random.Random(6), 0  # noqa: S311 - no secret
    for number in range(20):
        file = tmp_path / f"{number}.db"
        min_size = chance.randrange(large.stat().st_size)
        killed += kill(tmp_path / f".{number}.db.tmp-*", min_size, folder, "backup", file)
        assert not file.exists() or is_intact(file)
        if killed == 3:
            break

    assert killed
    assert run(folder, "backup", tmp_path / "0.db") in (0, 1)
    assert is_intact(tmp_path / "0.db")
    assert not list(tmp_path.glob("*-wal"))


def test_killed_restore_leaves_the_old_database_or_the_new_one(folder: Path, large: Path) -> None:
    path, killed = folder / "server.db", 0
    patterns = (".server.db.tmp-*", ".server.db.tmp-*-wal", "server.db.replaced-*")
    for pattern in patterns * 5:
        for left in folder.glob(pattern):
            left.unlink()
        with closing(sqlite3.connect(path)) as driver, driver:  # something for the log
            driver.execute("UPDATE users SET username = 'old'")
        killed += kill(folder / pattern, 0, folder, "restore", large)
        [(name,)] = query(path, "SELECT username FROM users")
        assert name in {"old", "travis"}
        assert query(path, "SELECT count(*) FROM pets") == [(10_002,)]
        assert is_intact(path)
        if killed == len(patterns):
            break

    assert killed
    assert run(folder, "restore", large) == 0
    assert query(path, "SELECT username FROM users") == [("travis",)]
