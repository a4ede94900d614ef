"""Outages of the database under a gunicorn: full, read-only, locked, moved.

Reads go on; writes are 503 with the cause in the log, change nothing, and work again as soon as the
cause is gone.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.helpers.databases import create_database
from tests.helpers.disks import ON_DISK, filled, immutable, small_disk
from tests.helpers.factories import (
    CREDENTIALS,
    SESSION,
    bearer,
    token,
)
from tests.helpers.http import Response, send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, Server, failed_start, started
from tests.helpers.waiting import until

JSON = "application/json"
USER = {"username": "ada", "password": "correct horse"}
PASSWORD = CREDENTIALS["password"]

WRITES: dict[str, tuple[str, str, dict[str, str]]] = {
    "a sign-in": ("POST", "/auth", CREDENTIALS),
    "a sign-up": ("POST", "/users", USER),
    "a rename": ("PATCH", "/me", {"username": "trevor"}),
    "a password": ("PUT", "/me/password",
                   {"current_password": PASSWORD, "new_password": "correct horse battery"}),
    "a reauthentication": ("POST", "/auth/reauth", {"password": PASSWORD}),
    "a deletion": ("DELETE", "/me", {"password": PASSWORD}),
    "a new pet": ("POST", "/pets", {"name": "x"}),
    "a changed pet": ("PUT", "/pets/1", {"name": "x"}),
    "a deleted pet": ("DELETE", "/pets/2", {}),
}  # fmt: skip

READS = ("/my-pets", "/pets", "/pets/1", "/me", "/me/export", "/auth/verify", "/auth/sessions")

BUSY = "database is locked"
FULL = "disk is full"
OTHERS_WAIT = "The database is locked, and others wait to write."


@dataclass(frozen=True)
class RunningService:
    """A running server and its database."""

    server: Server
    database: Path
    logged: int = 0
    """The length of the log before the outage."""

    def ask(self, method: str, path: str, body: Any = None, sid: str = SESSION) -> Response:
        """Send a request as the demo user, in the session of that ID."""
        headers = bearer(token(sid=sid)) | {"Accept": JSON}
        data = None if body is None else json.dumps(body)
        return send_to_server(self.server, method, path, headers, data, JSON if data else None)

    def refresh(self, refresh_token: str) -> Response:
        return self.ask("POST", "/auth/refresh", {"refresh_token": refresh_token})

    def rows(self) -> dict[str, list[Any]]:
        """Return every row, by table."""
        with closing(sqlite3.connect(self.database, timeout=60)) as driver:
            return {
                table: driver.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()  # noqa: S608 - ours
                for table in ("users", "pets", "sessions", "known_addresses", "throttle", "audit")
            }

    def causes(self) -> set[str]:
        """Return the messages of the log's errors."""
        lines = map(json.loads, self.server.log()[self.logged :].splitlines())
        return {line["message"] for line in lines if line["level"] == "ERROR"}


@contextmanager
def faulty(parent: Path, database: Path, launcher: Sequence[str] = ()) -> Iterator[Server]:
    """Run a server whose log has no bug at the end."""
    create_database(database)
    extra = BASE_ENVIRONMENT | {"DATABASE_URL": f"sqlite:///{database}", "SIGNUP": "open"}
    with started(parent, extra, launcher) as server:
        yield server
        log = server.log()
    assert "Traceback" not in log
    assert '"status": 500' not in log


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Create the folder of the database, on a disk: in memory, an open file can't be immutable."""
    with TemporaryDirectory(dir=ON_DISK) as parent:
        folder = Path(parent, "data")
        folder.mkdir()
        yield folder


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[Server]:
    """A server without root's right to ignore the modes of files."""
    launcher = ("setpriv", "--bounding-set=-dac_override") if os.geteuid() == 0 else ()
    with faulty(folder.parent, folder / "server.db", launcher) as server:
        yield server


@pytest.fixture
def service(shared: Server, folder: Path) -> Iterator[RunningService]:
    service = RunningService(shared, folder / "server.db", len(shared.log()))
    yield service
    assert_well(service)


def assert_well(service: RunningService) -> None:
    """Check that the first requests after the outage succeed and the database is intact."""
    for _ in range(3):
        assert service.ask("POST", "/pets", {"name": "after"}).status == 201
        assert service.ask("GET", "/readyz").status == 200
    assert service.ask("POST", "/auth", CREDENTIALS).status == 200
    with closing(sqlite3.connect(service.database, timeout=60)) as driver:
        assert driver.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert driver.execute("PRAGMA foreign_key_check").fetchall() == []


def assert_refused(service: RunningService, answer: Response, what: str) -> None:
    """Check for a 503 with Retry-After that does not tell the cause."""
    assert answer.status == 503, (what, answer.text)
    assert answer.headers["Retry-After"] == "2"
    assert json.loads(answer.body)["code"] == "database_unavailable"
    for secret in (str(service.database), "server.db", "disk", "locked", "read"):
        assert secret not in answer.text


def assert_reads_go_on(service: RunningService) -> None:
    for path in READS:
        answer = service.ask("GET", path)
        assert answer.status in (200, 204), (path, answer.text)
    assert service.ask("GET", "/healthz").status == 200


def assert_writes_are_refused(service: RunningService) -> None:
    for what, (method, path, body) in WRITES.items():
        assert_refused(service, service.ask(method, path, body), what)
    assert_refused(service, service.ask("GET", "/readyz"), "/readyz")


def open_connections(service: RunningService) -> None:
    """Have the service open several connections to the database."""
    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(lambda _: service.ask("GET", "/me").status, range(100))) == {200}


def signed_in(service: RunningService) -> dict[str, Any]:
    """Sign in as the demo user; return the tokens."""
    answer = service.ask("POST", "/auth", CREDENTIALS)
    assert answer.status == 200
    tokens: dict[str, Any] = json.loads(answer.body)
    return tokens


class TestFullDisk:
    @pytest.fixture
    def disk(self, tmp_path: Path) -> Iterator[Path]:
        with small_disk(tmp_path / "data") as disk:
            yield disk

    def test_reads_go_on_and_writes_change_nothing(self, tmp_path: Path, disk: Path) -> None:
        with faulty(tmp_path, disk / "server.db") as server:
            service = RunningService(server, disk / "server.db")
            tokens = signed_in(service)
            before = service.rows()
            with filled(disk):
                assert_writes_are_refused(service)
                assert_refused(service, service.refresh(tokens["refresh_token"]), "a refresh")
                assert_reads_go_on(service)
                assert service.rows() == before

            assert service.refresh(tokens["refresh_token"]).status == 200
            assert any(FULL in cause for cause in service.causes())
            assert_well(service)

    @pytest.mark.slow
    def test_starts_with_little_space_and_fails_in_one_line_without(
        self, tmp_path: Path, disk: Path
    ) -> None:
        database = disk / "server.db"
        extra = BASE_ENVIRONMENT | {"DATABASE_URL": f"sqlite:///{database}"}
        create_database(database)
        with filled(disk):
            [line] = failed_start(tmp_path, extra)
            assert line.startswith(f"{database} can't be opened: ")
        (disk / "large").write_bytes(bytes(28 * 1024 * 1024))
        with started(tmp_path, extra) as server:
            service = RunningService(server, database)
            assert_reads_go_on(service)
            assert_refused(service, service.ask("GET", "/readyz"), "/readyz")


@pytest.mark.slow
class TestWrongMode:
    """The first test of the shared server, which has no connection open yet."""

    def test_recovers_from_a_wrong_mode_without_a_restart(self, service: RunningService) -> None:
        before = service.rows()
        service.database.chmod(0o400)
        assert_reads_go_on(service)
        assert_writes_are_refused(service)
        assert_refused(service, service.ask("POST", "/auth/logout", {}), "a sign-out")
        assert service.rows() == before

        for path in service.database.parent.glob("server.db*"):  # the log has the database's mode
            path.chmod(0o600)
        assert any("readonly" in cause for cause in service.causes())


@pytest.mark.slow
class TestReadOnly:
    def test_reads_go_on_and_writes_are_refused(self, service: RunningService) -> None:
        open_connections(service)
        tokens = signed_in(service)
        before = service.rows()
        with immutable(service.database, Path(f"{service.database}-wal")):
            assert_reads_go_on(service)
            assert_writes_are_refused(service)
            assert_refused(service, service.refresh(tokens["refresh_token"]), "a refresh")
            assert_refused(service, service.ask("POST", "/auth/logout", {}), "a sign-out")
            assert service.rows() == before

        assert service.refresh(tokens["refresh_token"]).status == 200
        assert service.causes()


class TestLocked:
    @pytest.fixture
    def locked(self, service: RunningService) -> Iterator[RunningService]:
        with closing(sqlite3.connect(service.database, isolation_level=None)) as driver:
            driver.execute("BEGIN IMMEDIATE")
            yield service

    @pytest.mark.slow
    def test_writes_wait_two_seconds_and_reads_do_not_wait(self, locked: RunningService) -> None:
        for what in ("a new pet", "a sign-in"):
            method, path, body = WRITES[what]
            began = time.monotonic()
            assert_refused(locked, locked.ask(method, path, body), what)
            assert time.monotonic() - began > 1.9
        assert_refused(locked, locked.ask("POST", "/auth/logout", {}), "a sign-out")
        assert_reads_go_on(locked)
        assert locked.ask("GET", "/readyz").status == 200
        assert any(BUSY in cause for cause in locked.causes())

    @pytest.mark.slow
    def test_reads_go_on_behind_two_hundred_waiting_writers(self, service: RunningService) -> None:
        over = threading.Event()
        statuses: Counter[int] = Counter()

        def write() -> None:
            while not over.is_set():
                statuses[service.ask("POST", "/pets", {"name": "x"}).status] += 1
                over.wait(1)

        before = median_read(service)
        threads = [threading.Thread(target=write) for _ in range(200)]
        with closing(sqlite3.connect(service.database, isolation_level=None)) as driver:
            driver.execute("BEGIN IMMEDIATE")
            for thread in threads:
                thread.start()
            until(lambda: OTHERS_WAIT in service.causes(), 60)
            behind = median_read(service)
            over.set()
            for thread in threads:
                thread.join()

        assert set(statuses) == {503}
        # Most reads waited for no writer to give up, however slow the machine is.
        assert behind < 1.9 + 10 * before


def median_read(service: RunningService) -> float:
    """Return the median duration of a read, in seconds."""
    seconds = []
    for _ in range(30):
        began = time.monotonic()
        assert service.ask("GET", "/my-pets").status == 200
        seconds.append(time.monotonic() - began)
    return median(seconds)


class TestMoved:
    @pytest.mark.slow
    def test_requests_go_on_and_readyz_fails_until_the_folder_is_back(
        self, service: RunningService, folder: Path
    ) -> None:
        open_connections(service)
        away = folder.rename(folder.with_name("away"))
        assert_refused(service, service.ask("GET", "/readyz"), "/readyz")
        assert service.ask("GET", "/my-pets").status == 200
        assert service.ask("POST", "/pets", {"name": "kept"}).status == 201
        assert service.ask("GET", "/healthz").status == 200
        assert not folder.exists()  # nothing has created another

        away.rename(folder)
        assert service.causes() == {
            f"No database at {service.database} (No such file or directory):"
            " the command `init-db` makes one."
        }
        assert "kept" in service.ask("GET", "/my-pets").text
