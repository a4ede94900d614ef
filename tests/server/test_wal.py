"""The write-ahead log stays small: no reader keeps it from being written back."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers import processes
from tests.helpers.disks import log_of
from tests.helpers.factories import bearer, token
from tests.helpers.http import send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, Server, environment, running

MAX_ROUNDS = 40
ROWS = 3000
"""More than a pipe holds, and than one query reads."""


def write(server: Server, count: int) -> None:
    """Create `count` pets; retry after a 503."""
    body = json.dumps({"name": "x" * 100, "species": "x" * 100})
    written = 0
    while written < count:
        answer = send_to_server(server, "POST", "/pets", bearer(token()), body, "application/json")
        assert answer.status in (201, 503)
        written += answer.status == 201


def read(server: Server, over: threading.Event) -> None:
    while not over.is_set():
        for path in ("/pets?limit=100", "/me/export", "/auth/sessions"):
            assert send_to_server(server, "GET", path, bearer(token())).status == 200


def insert_pages(driver: sqlite3.Connection, count: int) -> None:
    """Insert rows of the audit log that fill `count` pages, in one transaction."""
    with driver:
        driver.executemany(
            "INSERT INTO audit (at, action, address, details) VALUES (0, 'signed_in', NULL, ?)",
            [(json.dumps({"x": "x" * 4000}),)] * count,
        )


def fill(database: Path) -> None:
    """Insert ROWS rows of the audit log."""
    with closing(sqlite3.connect(database)) as driver, driver:
        driver.executemany(
            "INSERT INTO audit (at, action, address, details) VALUES (?, 'signed_in', NULL, '{}')",
            [(number,) for number in range(ROWS)],
        )


def written_back(database: Path) -> int:
    """Return the number of pages in the file, without its log."""
    return database.stat().st_size // 4096


@pytest.mark.slow
def test_log_is_written_back_and_restarted_under_constant_load(tmp_path: Path) -> None:
    database, log = tmp_path / "server.db", tmp_path / "server.db-wal"
    over = threading.Event()
    rounds, frames, back = 0, {0}, {0}
    salts: set[bytes] = set()
    with (
        running(tmp_path, BASE_ENVIRONMENT) as server,
        closing(sqlite3.connect(database, timeout=60)) as driver,
    ):
        driver.execute("PRAGMA wal_autocheckpoint = 0")  # only the service writes it back
        before = written_back(database)
        readers = [threading.Thread(target=read, args=(server, over)) for _ in range(4)]
        for thread in readers:
            thread.start()
        while rounds < MAX_ROUNDS and (len(salts) < 2 or max(back) < 900):
            rounds += 1
            insert_pages(driver, 100)
            write(server, 1)
            now = log_of(database)
            frames.add(now.frames)
            back.add(now.written_back)
            if now.frames:
                with log.open("rb") as file:
                    salts.add(file.read(24)[16:])  # change whenever it is restarted
            write(server, 3)
        over.set()
        for thread in readers:
            thread.join()
        [(pets,)] = driver.execute("SELECT count(*) FROM pets")
        assert driver.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert "Traceback" not in server.log()

    assert pets == 4 * rounds + 2
    assert len(salts) > 1
    assert max(back) >= 900
    assert written_back(database) > before
    assert max(frames) < 2000  # SQLite writes it back every 1000


@pytest.mark.slow
def test_stalled_listing_does_not_keep_the_log_from_being_written_back(tmp_path: Path) -> None:
    command = ("flask", "--app", "wsgi", "audit", "--limit", str(ROWS), "--json")
    pipe, log = tmp_path / "pipe", tmp_path / "listing.log"
    os.mkfifo(pipe)
    with running(tmp_path, BASE_ENVIRONMENT) as server:
        fill(tmp_path / "server.db")
        variables, streams = environment(tmp_path, BASE_ENVIRONMENT), (Path(os.devnull), pipe, log)
        listing = processes.start(tmp_path, variables, streams, *command)
        output = pipe.open("rb", buffering=0)
        begun = output.read(10)  # it has begun, and the pipe is soon full
        write(server, 50)
        with closing(sqlite3.connect(tmp_path / "server.db")) as driver:
            [checkpoint] = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert listing.poll() is None
        with output:
            rest = output.read()
        assert listing.wait(timeout=60) == 0

    assert checkpoint == (0, 0, 0)  # no reader was in the way
    assert len((begun + rest).splitlines()) >= ROWS
