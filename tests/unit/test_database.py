"""The database: made once, checked, answered for with 503 when it is not there."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from jwt_server import sqlite
from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from jwt_server.errors import DatabaseUnavailable, TransactionConflict
from tests.helpers.databases import about_sqlite, file_of
from tests.helpers.factories import KINDS, add_user, spoil
from tests.helpers.sql import defer_foreign_keys, lock_writers_out, make_read_only

UNAVAILABLE = "The database is unavailable. Try again in a moment."


@pytest.mark.parametrize(("mode", "status"), [("NORMAL", 200), ("EXCLUSIVE", 503)])
def test_readyz_does_not_wait_for_another_writer(
    client: FlaskClient, settings: Settings, database: Database, mode: str, status: int
) -> None:
    """Who holds the lock can write; in exclusive mode nobody else can read."""
    database.close()
    with closing(sqlite3.connect(file_of(settings), isolation_level=None)) as other:
        other.execute(f"PRAGMA locking_mode = {mode}")
        other.execute("BEGIN IMMEDIATE")
        seconds = []
        for _ in range(3):
            began = time.monotonic()
            assert client.get("/readyz").status_code == status
            seconds.append(time.monotonic() - began)

    assert min(seconds) < 0.5


@pytest.mark.parametrize(("kind", "cause"), KINDS.items())
def test_readyz_tells_a_bad_database_and_recovers_with_it(
    client: FlaskClient, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    kind: str, cause: str,
) -> None:  # fmt: skip
    good = spoil(file_of(settings), kind)

    answer = client.get("/readyz")

    assert (answer.status_code, answer.text) == (503, UNAVAILABLE)
    assert answer.headers["Retry-After"] == "2"
    assert cause in caplog.text
    assert not any(record.exc_info for record in caplog.records)
    assert client.get("/healthz").status_code == 200

    if file_of(settings).is_dir():
        file_of(settings).rmdir()
    file_of(settings).unlink(missing_ok=True)
    file_of(settings).write_bytes(good)
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("kind", ["missing", "no database", "a copy"])
def test_replaced_file_fails_readyz_while_open_connections_go_on(
    client: FlaskClient, settings: Settings, travis: dict[str, str],
    caplog: pytest.LogCaptureFixture, kind: str,
) -> None:  # fmt: skip
    assert client.get("/my-pets", headers=travis).status_code == 200  # a connection is open
    content = spoil(file_of(settings), kind)
    if kind == "a copy":
        file_of(settings).write_bytes(content)

    answer = client.get("/readyz")

    assert (answer.status_code, answer.text) == (503, UNAVAILABLE)
    assert ("No database at" if kind == "missing" else "restart the service") in caplog.text
    assert client.get("/my-pets", headers=travis).status_code == 200
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("kind", ["missing", "a copy"])
def test_replaced_file_is_not_opened_beside_the_old_one(
    database: Database, settings: Settings, kind: str
) -> None:
    with database.connection() as db:
        content = spoil(file_of(settings), kind)
        if kind == "a copy":
            file_of(settings).write_bytes(content)

        with pytest.raises(DatabaseUnavailable), database.connection():
            pass

        assert db.queries.users.find_by_id(id=1) is not None


def test_a_database_that_can_not_be_written_still_reads(
    client: FlaskClient, settings: Settings, travis: dict[str, str]
) -> None:
    spoil(file_of(settings), "not writable")

    assert client.get("/my-pets", headers=travis).status_code == 200
    answer = client.post("/pets", json={"name": "x"}, headers=travis)
    assert (answer.status_code, answer.text) == (503, UNAVAILABLE)


def test_a_write_waits_two_seconds_for_the_lock_and_then_gives_up(
    client: FlaskClient, db: Connection, travis: dict[str, str]
) -> None:
    lock_writers_out(db)
    before = time.monotonic()

    answer = client.post("/pets", json={"name": "x"}, headers=travis)

    assert time.monotonic() - before >= 1.9
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert client.get("/my-pets", headers=travis).status_code == 200
    db.driver.rollback()
    assert client.post("/pets", json={"name": "x"}, headers=travis).status_code == 201


def test_an_export_waits_for_no_writer(
    client: FlaskClient, db: Connection, travis: dict[str, str]
) -> None:
    lock_writers_out(db)
    add_user(db, "under way")

    answer = client.get("/me/export", headers=travis)

    assert answer.status_code == 200
    assert [pet["name"] for pet in answer.get_json()["pets"]] == ["Bunny", "Ru"]


def test_a_transaction_is_all_or_nothing(db: Connection) -> None:
    with pytest.raises(ZeroDivisionError), db.transaction():
        add_user(db, "half")
        raise ZeroDivisionError

    assert db.queries.users.find_by_key(username_key="half") is None
    assert not db.engine.in_transaction(db.driver)


def test_a_transaction_inside_of_another_is_a_part_of_it(db: Connection) -> None:
    with pytest.raises(ZeroDivisionError), db.transaction():
        with db.transaction():
            add_user(db, "undone")
        raise ZeroDivisionError
    with db.transaction(), db.transaction():
        add_user(db, "kept")

    assert db.queries.users.find_by_key(username_key="undone") is None
    assert db.queries.users.find_by_key(username_key="kept") is not None


def test_a_transaction_that_can_not_be_committed_is_undone(db: Connection) -> None:
    refused = (sqlite3.IntegrityError, TransactionConflict)
    with pytest.raises(refused), db.transaction():
        defer_foreign_keys(db)
        db.driver.execute("INSERT INTO pets (user_id, name, created_at) VALUES (99, 'x', 0)")

    assert not db.engine.in_transaction(db.driver)
    assert db.queries.pets.page_of_user(user_id=99, id=0, limit=1) == []


@about_sqlite
def test_a_full_database_is_unavailable_and_loses_nothing(
    client: FlaskClient, db: Connection, travis: dict[str, str]
) -> None:
    with pytest.raises(DatabaseUnavailable, match="database fails") as caught, db.transaction():
        db.driver.execute("PRAGMA max_page_count = 1")
        for number in range(1000):
            db.queries.pets.insert(
                user_id=1, name="x" * 100, species=str(number), now=0, max_pets=1000
            )

    assert caught.value.cause == "The database fails: database or disk is full."
    assert len(client.get("/my-pets", headers=travis).get_json()) == 2


def test_a_fault_of_our_own_is_not_taken_for_an_outage(
    client: FlaskClient, db: Connection, travis: dict[str, str]
) -> None:
    db.driver.execute("DROP TABLE pets")

    assert client.get("/my-pets", headers=travis).status_code == 500


def test_what_was_not_committed_is_undone_when_the_connection_goes_back(database: Database) -> None:
    with database.connection() as db:
        db.driver.execute(db.engine.begin)
        add_user(db, "half")

    with database.connection() as again:
        assert again is db
        assert again.queries.users.find_by_key(username_key="half") is None


def test_failed_connection_is_not_used_again(database: Database) -> None:
    with database.connection() as db:
        db.driver.close()
    with database.connection() as other:
        assert other is not db


@about_sqlite
def test_connection_opened_without_write_permission_is_not_used_again(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.close()
    monkeypatch.setattr(os, "access", lambda *_arguments: False)
    with database.connection() as db:
        pass
    monkeypatch.undo()
    with database.connection() as other:
        assert other is not db
    with database.connection() as third:
        assert third is other


def test_connection_that_has_become_read_only_is_not_used_again(database: Database) -> None:
    with database.connection() as db:
        make_read_only(db)
        with pytest.raises(DatabaseUnavailable), db.transaction():
            add_user(db, "ada")
    with database.connection() as other:
        assert other is not db


def test_writers_of_a_process_wait_for_each_other_and_are_all_served(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 60)  # however slow the machine is

    def write(number: int) -> None:
        for _ in range(5):
            with database.connection() as db, db.transaction():
                add_user(db, f"user {threading.get_ident()} {number} {_}", password_hash="*")

    with ThreadPoolExecutor(32) as pool:
        for done in [pool.submit(write, number) for number in range(32)]:
            done.result()

    with database.connection() as db:
        [count] = db.driver.execute("SELECT count(*) AS users FROM users").fetchall()
    assert count["users"] == 1 + 32 * 5


class SignallingLock:
    """A lock that records its users' timeouts, and signals when one is about to wait."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.timeouts: list[float] = []
        self.waiting = threading.Event()

    def acquire(self, timeout: float) -> bool:
        self.timeouts.append(timeout)
        if self.lock.locked():
            self.waiting.set()
        return self.lock.acquire(timeout=timeout)

    def release(self) -> None:
        self.lock.release()


@pytest.fixture
def writer_lock(monkeypatch: pytest.MonkeyPatch) -> SignallingLock:
    """The lock of the fixture `database`, which must come after it."""
    lock = SignallingLock()
    monkeypatch.setattr(sqlite, "Lock", lambda: lock)
    return lock


@contextmanager
def blocked(settings: Settings, *waiting: Connection) -> Iterator[None]:
    """Keep the database locked as another process would; the given connections do not wait."""
    for connection in waiting:
        connection.driver.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(settings.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@about_sqlite
def test_writers_wait_for_each_other_unless_another_process_keeps_the_lock(
    settings: Settings, writer_lock: SignallingLock, db: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    now = 100
    monkeypatch.setattr(sqlite, "monotonic", lambda: now)
    with blocked(settings, db):
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable), db.transaction():
                pass
            now += 1
        now += 1
        with pytest.raises(DatabaseUnavailable), db.transaction():
            pass
    for _ in range(2):
        with db.transaction():
            pass

    assert writer_lock.timeouts == [2, 0, 2, 0, 2]


@about_sqlite
def test_writer_that_waited_for_a_blocked_one_does_not_wait_again(
    settings: Settings, writer_lock: SignallingLock, database: Database, db: Connection
) -> None:
    def write() -> None:
        with database.connection() as second, second.transaction():
            pass

    with (
        ThreadPoolExecutor(1) as pool, blocked(settings, db),
        pytest.raises(sqlite3.OperationalError), database.engine.writing(db.driver),
    ):  # fmt: skip
        done = pool.submit(write)
        assert writer_lock.waiting.wait(60)
        db.driver.execute("BEGIN IMMEDIATE")  # as transaction() does

    error = done.exception()
    assert isinstance(error, DatabaseUnavailable)
    assert error.cause == "The database is locked, and others wait to write."


def test_threads_do_not_share_a_connection(database: Database) -> None:
    barrier = threading.Barrier(8)
    seen: list[Connection] = []

    def hold() -> None:
        with database.connection() as db:
            seen.append(db)
            barrier.wait(timeout=120)

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id(connection) for connection in seen}) == 8


@about_sqlite
@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 2000),
     ("journal_size_limit", 67108864), ("user_version", 8)],
)  # fmt: skip
def test_every_connection_has_the_settings_that_keep_data(
    db: Connection, pragma: str, value: object
) -> None:
    row = db.driver.execute(f"PRAGMA {pragma}").fetchone()

    assert next(iter(row.values())) == value


def test_creating_makes_a_private_file_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.db"

    assert sqlite.create(path) is True
    assert sqlite.create(path) is False
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_several_may_create_at_once(tmp_path: Path) -> None:
    made: list[bool] = []
    barrier = threading.Barrier(8)

    def create() -> None:
        barrier.wait(timeout=120)
        made.append(sqlite.create(tmp_path / "x.db"))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(made) == [False] * 7 + [True]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("kind", ["no database", "a folder", "newer", "older", "another"])
def test_creating_does_not_touch_what_is_something_else(settings: Settings, kind: str) -> None:
    spoil(file_of(settings), kind)
    before = file_of(settings).read_bytes() if file_of(settings).is_file() else b""

    with pytest.raises(DatabaseUnavailable):
        sqlite.create(file_of(settings))

    assert (file_of(settings).read_bytes() if file_of(settings).is_file() else b"") == before


def test_creating_does_not_touch_another_programs_empty_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as driver:
        driver.execute("PRAGMA user_version = 7")
    before = path.read_bytes()

    with pytest.raises(DatabaseUnavailable) as caught:
        sqlite.create(path)

    assert "is not a database of this service" in caught.value.cause
    assert path.read_bytes() == before


def test_deleting_a_user_deletes_the_pets(db: Connection) -> None:
    db.driver.execute("DELETE FROM users WHERE id = 1")

    assert db.driver.execute("SELECT count(*) AS pets FROM pets").fetchone()["pets"] == 0
