"""The memory of a worker stays bounded, however much belongs to a user."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from jwt_server.database import Database
from jwt_server.web.service import MAX_STREAMS_AT_ONCE
from tests.helpers.auth import run_at_once
from tests.helpers.databases import database_in
from tests.helpers.factories import bearer, execute_many, token
from tests.helpers.http import Response, send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, UNSHARED, running

IMPORTED = 12_000
"""Pets of one user: an import may add more than the API."""


def pss(pid: int) -> int:
    """Return the memory of a process, its share of what several use, in KiB."""
    found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    assert found
    return int(found[1])


@contextmanager
def peak_of(pid: int) -> Iterator[list[int]]:
    """Measure a process inside; at the end the list has its largest memory, and its last."""
    found: list[int] = []
    done = threading.Event()
    sizes = [pss(pid)]

    def measure() -> None:
        while not done.wait(0.02):
            sizes.append(pss(pid))

    thread = threading.Thread(target=measure)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
    found += [max(sizes), pss(pid)]


@pytest.mark.slow
def test_long_responses_at_once_need_little_memory(tmp_path: Path) -> None:
    with running(tmp_path, BASE_ENVIRONMENT, UNSHARED) as server:
        [worker] = server.workers()

        def get(path: str) -> Response:
            return send_to_server(server, "GET", path, bearer(token()))

        run_at_once(lambda: get("/me/export"), 6)
        before = pss(worker)
        with closing(Database(database_in(tmp_path))) as database, database.connection() as db:
            execute_many(
                db,
                "INSERT INTO pets (user_id, name, species, created_at) VALUES (1, ?, ?, 0)",
                [(str(number).ljust(100, "x"), "y" * 100) for number in range(IMPORTED)],
            )

        with peak_of(worker) as found:
            exports = run_at_once(lambda: get("/me/export"), 6)
            lists = run_at_once(lambda: get("/my-pets"), 6)

    # At least four of six; those beyond are refused while four are being sent.
    assert {response.status for response in exports + lists} <= {200, 429}
    sent = [
        [json.loads(each.body) for each in kind if each.status == 200] for kind in (exports, lists)
    ]
    assert min(map(len, sent)) >= MAX_STREAMS_AT_ONCE
    assert {len(export["pets"]) for export in sent[0]} == {IMPORTED + 2}
    assert {len(pets) for pets in sent[1]} == {IMPORTED + 2}
    assert max(found) < 1.5 * before, (before, found)
