"""The service under gunicorn: how it starts, or does not, and what goes over the wire."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.factories import KINDS, bearer, spoil, token
from tests.helpers.http import send_to_server
from tests.helpers.server import (
    BASE_ENVIRONMENT,
    Server,
    failed_start,
    flask,
    running,
    wait_for_workers,
)


def test_wrong_settings_are_one_line_each_and_no_start(tmp_path: Path) -> None:
    lines = failed_start(tmp_path, {"SALT_ROUNDS": "2", "JWT_SECRET": "short"})

    assert len(lines) == 3
    assert sorted(line.split()[0] for line in lines) == [
        "JWT_SECRET:",
        "SALT_ROUNDS:",
        "SECRET_KEY:",
    ]


@pytest.mark.parametrize(("kind", "cause"), KINDS.items())
def test_a_bad_database_is_one_line_and_no_start(tmp_path: Path, kind: str, cause: str) -> None:
    assert flask(tmp_path, BASE_ENVIRONMENT, "init-db").returncode == 0
    spoil(tmp_path / "server.db", kind)

    [line] = failed_start(tmp_path, BASE_ENVIRONMENT)

    assert cause in line
    assert str(tmp_path / "server.db") in line


def test_a_database_that_vanishes_is_a_503_until_it_is_back(tmp_path: Path) -> None:
    database = tmp_path / "server.db"
    with running(tmp_path, BASE_ENVIRONMENT) as server:
        headers = bearer(token())
        assert send_to_server(server, "GET", "/my-pets", headers).status == 200
        database.rename(tmp_path / "away.db")
        gone = [send_to_server(server, "GET", path, headers) for path in ("/my-pets", "/readyz")]
        shutil.copy(tmp_path / "away.db", database)
        back = [send_to_server(server, "GET", path, headers) for path in ("/my-pets", "/readyz")]
        log = server.log()

    assert [answer.status for answer in gone] == [503, 503]
    assert all(answer.headers["Retry-After"] == "2" for answer in gone)
    assert str(tmp_path) not in gone[0].text
    assert f"No database at {database}" in log
    assert "Traceback" not in log
    assert [answer.status for answer in back] == [200, 200]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system can't pin")
def test_each_worker_is_pinned_to_a_core_of_its_own_also_after_one_died(tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))[:2]
    workers = len(cores)
    with running(tmp_path, BASE_ENVIRONMENT | {"WORKERS": str(workers)}) as server:
        before = wait_for_workers(server, workers)
        assert pinned_to(before) == cores
        for victim in before:
            os.kill(victim, signal.SIGKILL)
            after = wait_for_workers(server, workers, gone=[victim])
            assert pinned_to(after) == cores


@pytest.fixture
def dotenv_server(tmp_path: Path) -> Iterator[Server]:
    """A server whose secrets stand in a `.env` file beside it."""
    lines = [f"{name}={value!r}" for name, value in BASE_ENVIRONMENT.items()]
    (tmp_path / ".env").write_text("\n".join(lines))
    with running(tmp_path, {}) as server:
        yield server


def test_a_replaced_worker_has_the_settings_of_the_others(
    dotenv_server: Server, tmp_path: Path
) -> None:
    before = wait_for_workers(dotenv_server, 2)
    (tmp_path / ".env").unlink()

    os.kill(before[0], signal.SIGKILL)
    os.kill(before[1], signal.SIGKILL)
    wait_for_workers(dotenv_server, 2, gone=before)

    assert send_to_server(dotenv_server, "GET", "/my-pets", bearer(token())).status == 200


def test_no_header_moves_the_service(server: Server) -> None:
    headers = bearer(token()) | {"SCRIPT_NAME": "/evil", "X-Forwarded-Proto": "https",
                                 "X-Forwarded-Ssl": "off"}  # fmt: skip

    answer = send_to_server(server, "GET", "/pets?limit=1", headers)

    assert (answer.status, answer.headers["Link"]) == (200, '</pets?limit=1&after=MQ>; rel="next"')


def pinned_to(workers: list[int]) -> list[int]:
    return sorted(core for worker in workers for core in os.sched_getaffinity(worker))


POST = b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

WIRE = {
    "a body in chunks": (CHUNKED + b"a\r\nusername=x\r\n0\r\n\r\n", 422),
    "a chunk of no size": (CHUNKED + b"zz\r\nusername=x\r\n0\r\n\r\n", 400),
    "a chunk longer than said": (CHUNKED + b"2\r\nusername=x\r\n0\r\n\r\n", 400),
    "chunks that end early": (CHUNKED + b"a\r\nuser", 400),
    "chunks over 64 KiB": (CHUNKED + b"11170\r\n" + b"x" * 70000 + b"\r\n0\r\n\r\n", 413),
    "a body that ends early": (POST + b"Content-Length: 50\r\n\r\nusername=x", 400),
    "a length that is no number": (POST + b"Content-Length: x\r\n\r\n", 400),
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
    "a length and chunks": (
        POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a path of bytes": (b"GET /\xff\xfe HTTP/1.0\r\n\r\n", 400),
    "a path of no UTF-8": (b"GET /%ff%fe HTTP/1.0\r\n\r\n", 404),
    "a path with NUL": (b"GET /auth%00 HTTP/1.0\r\n\r\n", 404),
    "no path": (b"OPTIONS * HTTP/1.0\r\n\r\n", 404),
    "a line end in a header": (b"GET /pets HTTP/1.0\r\nAuthorization: Bearer x\ry\r\n\r\n", 400),
    "a header of bytes": (b"GET /pets HTTP/1.0\r\nAuthorization: Bearer \xff\xfe\r\n\r\n", 401),
    "two Authorization headers": (
        b"GET /pets HTTP/1.0\r\nAuthorization: Bearer x\r\nAuthorization: Bearer y\r\n\r\n", 401),
    "a token of 100 KB": (
        b"GET /pets HTTP/1.0\r\nAuthorization: Bearer " + b"x" * 100_000 + b"\r\n\r\n", 431),
    "an empty Authorization": (b"GET /pets HTTP/1.0\r\nAuthorization:\r\n\r\n", 401),
    "Bearer and a tab": (b"GET /pets HTTP/1.0\r\nAuthorization: Bearer\tx\r\n\r\n", 401),
    "no HTTP": (b"hello\r\n\r\n", 400),
}  # fmt: skip


@pytest.mark.parametrize(("request_bytes", "status"), WIRE.values(), ids=WIRE)
def test_bad_bytes_on_the_wire_get_their_4xx(
    server: Server, request_bytes: bytes, status: int
) -> None:
    before = len(server.log())

    answer = server.raw(request_bytes)

    assert int(answer.split()[1]) == status, answer
    assert "Traceback" not in server.log()[before:]


def test_a_client_that_leaves_in_the_middle_leaves_no_trace(server: Server) -> None:
    before = len(server.log())
    for start in (POST + b"Content-Length: 50\r\n\r\nuser", CHUNKED + b"50\r\nuser", POST):
        server.raw(start)

    assert send_to_server(server, "GET", "/healthz").status == 200
    assert "Traceback" not in server.log()[before:]
