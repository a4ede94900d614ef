"""The database full, read-only, locked or gone, under a gunicorn with two workers.

What can go on does; the rest is a 503 with its cause in the log, nothing is half done, and all is
well as soon as the cause is gone.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import server as servers
from tests.helpers.disks import filled, immutable, small_disk
from tests.helpers.factories import (
    CREDENTIALS,
    SESSION,
    bearer,
    open_session,
    token,
)
from tests.helpers.http import Response, send_to_server
from tests.helpers.server import (
    BASE_ENVIRONMENT,
    Server,
    failed_start,
    flask,
    started,
)

JSON = "application/json"
USER = {"username": "ada", "password": "correct horse"}
PASSWORD = CREDENTIALS["password"]

WRITES: dict[str, tuple[str, str, dict[str, str]]] = {
    "a sign-in": ("POST", "/auth", CREDENTIALS),
    "a sign-up": ("POST", "/users", USER),
    "a rename": ("PATCH", "/me", {"username": "trevor"}),
    "a password": ("PUT", "/me/password",
                   {"current_password": PASSWORD, "new_password": "correct horse battery"}),
    "a password again": ("POST", "/auth/reauth", {"password": PASSWORD}),
    "a deletion": ("DELETE", "/me", {"password": PASSWORD}),
    "a new pet": ("POST", "/pets", {"name": "x"}),
    "another pet": ("PUT", "/pets/1", {"name": "x"}),
    "a pet less": ("DELETE", "/pets/2", {}),
}  # fmt: skip

READS = ("/my-pets", "/pets", "/pets/1", "/me", "/me/export", "/auth/verify", "/auth/sessions")

BUSY = "database is locked"
FULL = "disk is full"


@dataclass(frozen=True)
class House:
    """A running server, and its database."""

    server: Server
    database: Path

    def ask(self, method: str, path: str, body: Any = None, sid: str = SESSION) -> Response:
        """Ask as the demo user, in the session of that id."""
        headers = bearer(token(sid=sid)) | {"Accept": JSON}
        data = None if body is None else json.dumps(body)
        return send_to_server(self.server, method, path, headers, data, JSON if data else None)

    def refresh(self, refresh_token: str) -> Response:
        return self.ask("POST", "/auth/refresh", {"refresh_token": refresh_token})

    def rows(self) -> dict[str, list[Any]]:
        """All that is written, table by table, but for what only counts."""
        with closing(sqlite3.connect(self.database, timeout=10)) as driver:
            return {
                table: driver.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()  # noqa: S608 - ours
                for table in ("users", "pets", "sessions", "known_addresses", "throttle", "audit")
            }

    def causes(self) -> set[str]:
        """What the log has for the operator, but for a line for each request."""
        lines = map(json.loads, self.server.log().splitlines())
        return {line["message"] for line in lines if line["level"] == "ERROR"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the database is."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def house(tmp_path: Path, folder: Path) -> Iterator[House]:
    database = folder / "server.db"
    extra = BASE_ENVIRONMENT | {"DATABASE_URL": f"sqlite:///{database}", "SIGNUP": "open"}
    for command in ("init-db", "seed"):
        assert flask(tmp_path, extra, command).returncode == 0
    open_session(database)
    with started(tmp_path, extra) as server:
        house = House(server, database)
        yield house
        assert_well(house)
        log = server.log()
    assert "Traceback" not in log
    assert '"status": 500' not in log


def assert_well(house: House) -> None:
    """Whoever asks first after the cause is gone is served, by each worker, and all is there."""
    for _ in range(6):
        assert house.ask("POST", "/pets", {"name": "after"}).status == 201
        assert house.ask("GET", "/readyz").status == 200
    assert house.ask("POST", "/auth", CREDENTIALS).status == 200
    with closing(sqlite3.connect(house.database, timeout=10)) as driver:
        assert driver.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert driver.execute("PRAGMA foreign_key_check").fetchall() == []


def assert_refused(house: House, answer: Response, what: str) -> None:
    """A 503 to come back after, which tells nothing of why."""
    assert answer.status == 503, (what, answer.text)
    assert answer.headers["Retry-After"] == "2"
    assert json.loads(answer.body)["code"] == "database_unavailable"
    for secret in (str(house.database), "server.db", "disk", "locked", "read"):
        assert secret not in answer.text


def assert_reads_go_on(house: House) -> None:
    for _ in range(3):  # by both workers
        for path in READS:
            answer = house.ask("GET", path)
            assert answer.status in (200, 204), (path, answer.text)
    assert house.ask("GET", "/healthz").status == 200


def assert_writes_are_refused(house: House) -> None:
    for what, (method, path, body) in WRITES.items():
        assert_refused(house, house.ask(method, path, body), what)
    assert_refused(house, house.ask("GET", "/readyz"), "/readyz")


def have_both_workers_read(house: House) -> None:
    """So that each has a connection."""
    pids: set[int] = set()
    while pids != set(house.server.workers()):
        with ThreadPoolExecutor(32) as pool:
            assert set(pool.map(lambda _: house.ask("GET", "/me").status, range(100))) == {200}
        lines = map(json.loads, house.server.log().splitlines())
        pids = {line["pid"] for line in lines if line.get("route") == "/me"}


def signed_in(house: House) -> dict[str, Any]:
    """Tokens of a session of the demo user."""
    answer = house.ask("POST", "/auth", CREDENTIALS)
    assert answer.status == 200
    tokens: dict[str, Any] = json.loads(answer.body)
    return tokens


class TestFullDisk:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Iterator[Path]:
        with small_disk(tmp_path / "data") as disk:
            yield disk

    def test_reads_go_on_and_writes_are_refused_whole(self, house: House, folder: Path) -> None:
        tokens = signed_in(house)
        before = house.rows()
        with filled(folder):
            assert_writes_are_refused(house)
            assert_refused(house, house.refresh(tokens["refresh_token"]), "a refresh")
            assert_reads_go_on(house)
            assert house.rows() == before

        assert house.refresh(tokens["refresh_token"]).status == 200
        assert any(FULL in cause for cause in house.causes())

    def test_starts_with_little_space_and_fails_in_one_line_without(
        self, tmp_path: Path, folder: Path
    ) -> None:
        database = folder / "server.db"
        extra = BASE_ENVIRONMENT | {"DATABASE_URL": f"sqlite:///{database}"}
        for command in ("init-db", "seed"):
            assert flask(tmp_path, extra, command).returncode == 0
        open_session(database)
        with filled(folder):
            [line] = failed_start(tmp_path, extra)
            assert line.startswith(f"{database} can't be opened: ")
        (folder / "large").write_bytes(bytes(28 * 1024 * 1024))
        with started(tmp_path, extra) as server:
            house = House(server, database)
            assert_reads_go_on(house)
            assert_refused(house, house.ask("GET", "/readyz"), "/readyz")


class TestReadOnly:
    def test_files_that_nobody_can_write_are_read(self, house: House) -> None:
        have_both_workers_read(house)
        tokens = signed_in(house)
        before = house.rows()
        with immutable(house.database, Path(f"{house.database}-wal")):
            assert_reads_go_on(house)
            assert_writes_are_refused(house)
            assert_refused(house, house.refresh(tokens["refresh_token"]), "a refresh")
            assert_refused(house, house.ask("POST", "/auth/logout", {}), "a sign-out")
            assert house.rows() == before

        assert house.refresh(tokens["refresh_token"]).status == 200
        assert house.causes()

    def test_recovers_from_a_wrong_mode_without_a_restart(
        self, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> None:
        if os.geteuid() == 0:  # root ignores modes, unless it gives up that right
            command = ("setpriv", "--bounding-set=-dac_override", *servers.GUNICORN)
            monkeypatch.setattr(servers, "GUNICORN", command)
        house: House = request.getfixturevalue("house")
        before = house.rows()
        house.database.chmod(0o400)
        assert_reads_go_on(house)
        assert_writes_are_refused(house)
        assert_refused(house, house.ask("POST", "/auth/logout", {}), "a sign-out")
        assert house.rows() == before

        for path in house.database.parent.glob("server.db*"):  # the log has the database's mode
            path.chmod(0o600)
        assert any("readonly" in cause for cause in house.causes())


class TestLocked:
    @pytest.fixture
    def locked(self, house: House) -> Iterator[House]:
        with closing(sqlite3.connect(house.database, isolation_level=None)) as driver:
            driver.execute("BEGIN IMMEDIATE")
            yield house

    def test_writes_and_sign_outs_wait_two_seconds_and_reads_none(self, locked: House) -> None:
        for what in ("a new pet", "a sign-in", "a sign-up"):
            method, path, body = WRITES[what]
            began = time.monotonic()
            assert_refused(locked, locked.ask(method, path, body), what)
            assert 1.9 < time.monotonic() - began < 4
        assert_refused(locked, locked.ask("POST", "/auth/logout", {}), "a sign-out")
        assert_refused(locked, locked.ask("GET", "/readyz"), "/readyz")
        assert_reads_go_on(locked)
        assert any(BUSY in cause for cause in locked.causes())

    @pytest.mark.slow
    def test_reads_go_on_behind_two_hundred_waiting_writers(self, house: House) -> None:
        over = threading.Event()
        statuses: Counter[int] = Counter()

        def write() -> None:
            while not over.is_set():
                statuses[house.ask("POST", "/pets", {"name": "x"}).status] += 1
                over.wait(1)

        threads = [threading.Thread(target=write) for _ in range(200)]
        with closing(sqlite3.connect(house.database, isolation_level=None)) as driver:
            driver.execute("BEGIN IMMEDIATE")
            for thread in threads:
                thread.start()
            time.sleep(4)  # until each worker has found out that the lock is not to be had
            took = [timed(house, "/my-pets") for _ in range(30)]
            over.set()
            for thread in threads:
                thread.join()

        assert set(statuses) == {503}
        assert sorted(took)[15] < 0.5
        assert max(took) < 1.9  # nobody had to wait until a writer gave up
        assert "The database is locked, and others wait to write." in house.causes()


def timed(house: House, path: str) -> float:
    began = time.monotonic()
    assert house.ask("GET", path).status == 200
    return time.monotonic() - began


class TestMoved:
    def test_requests_go_on_and_readyz_fails_until_the_folder_is_back(
        self, house: House, folder: Path
    ) -> None:
        have_both_workers_read(house)
        away = folder.rename(folder.with_name("away"))
        for _ in range(6):  # by both workers
            assert_refused(house, house.ask("GET", "/readyz"), "/readyz")
            assert house.ask("GET", "/my-pets").status == 200
        assert house.ask("POST", "/pets", {"name": "kept"}).status == 201
        assert house.ask("GET", "/healthz").status == 200
        assert not folder.exists()  # nothing has created another

        away.rename(folder)
        assert house.causes() == {
            f"No database at {house.database} (No such file or directory):"
            " the command `init-db` makes one."
        }
        assert "kept" in house.ask("GET", "/my-pets").text
