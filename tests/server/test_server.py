"""The service under gunicorn: its start, its workers, and bad requests on the wire."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from jwt_server.config import Settings
from jwt_server.database import Database
from jwt_server.gunicorn import metrics_server
from tests.helpers.databases import about_sqlite, create_database, database_in, file_of
from tests.helpers.factories import KINDS, bearer, spoil, token
from tests.helpers.http import send_to_server
from tests.helpers.server import (
    BASE_ENVIRONMENT,
    Server,
    arbiter,
    environment,
    failed_start,
    gunicorn,
    running,
    wait_for_workers,
)
from tests.helpers.waiting import free_port


def test_wrong_settings_are_one_line_each_and_no_start(tmp_path: Path) -> None:
    lines = failed_start(tmp_path, {"SALT_ROUNDS": "2", "JWT_SECRET": "short"})

    assert len(lines) == 3
    assert sorted(line.split()[0] for line in lines) == [
        "JWT_SECRET:",
        "SALT_ROUNDS:",
        "SECRET_KEY:",
    ]


@about_sqlite
def test_an_unusable_database_is_one_line_and_no_start(tmp_path: Path) -> None:
    create_database(tmp_path / "server.db")
    spoil(tmp_path / "server.db", "older")

    [line] = failed_start(tmp_path, BASE_ENVIRONMENT)

    assert f"{tmp_path}/server.db has schema version 1" in line


@pytest.fixture
def conf(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> ModuleType:
    """Gunicorn's configuration in this process, with the settings of the tests."""
    for name, value in BASE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    conf = importlib.import_module("jwt_server.gunicorn.conf")
    monkeypatch.setattr(conf, "settings", replace(settings, metrics_port=0, port=free_port()))
    return conf


@pytest.mark.parametrize("option", ["--bind=0.0.0.0:8000", "--preload", "--proxy-protocol"])
def test_an_option_that_the_service_sets_itself_is_one_line_and_no_start(
    tmp_path: Path, option: str
) -> None:
    create_database(database_in(tmp_path))

    *warnings, line = failed_start(tmp_path, BASE_ENVIRONMENT | {"GUNICORN_CMD_ARGS": option})

    assert line.startswith("gunicorn's option ")
    assert "GUNICORN_CMD_ARGS" in line
    assert not any(each for each in warnings if "WARNING" not in each)


@pytest.mark.parametrize(("kind", "cause"), KINDS.items())
def test_the_start_is_refused_with_the_state_of_the_database(
    conf: ModuleType, settings: Settings, database: Database, kind: str, cause: str
) -> None:
    database.close()
    spoil(file_of(settings), kind)

    with pytest.raises(SystemExit, match=cause):
        conf.on_starting(arbiter(conf))


def test_the_start_is_refused_without_a_key_or_the_metrics_port(
    conf: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    database: Database,
    tmp_path: Path,
) -> None:
    no_key = replace(settings, jwt_algorithm="EdDSA", jwt_keys_dir=tmp_path / "k")
    monkeypatch.setattr(conf, "settings", no_key)
    with pytest.raises(SystemExit, match="keys rotate"):
        conf.on_starting(arbiter(conf))

    monkeypatch.setattr(metrics_server, "WAIT_SECONDS", 0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        taken = replace(settings, metrics_port=port, port=free_port())
        monkeypatch.setattr(conf, "settings", taken)
        with pytest.raises(SystemExit, match=r"^METRICS_PORT: .*already in use.* METRICS_PORT=\d+"):
            conf.on_starting(arbiter(conf))


def test_the_arbiter_imports_the_app_for_all_workers(tmp_path: Path) -> None:
    code = "import sys, jwt_server.gunicorn.conf; sys.exit('jwt_server.app' not in sys.modules)"

    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code],
        cwd=tmp_path, env=environment(tmp_path, BASE_ENVIRONMENT), check=False,
    )  # fmt: skip

    assert done.returncode == 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system can't pin")
def test_a_worker_whose_cores_are_no_longer_allowed_runs_unpinned(
    conf: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    allowed = os.sched_getaffinity(0)
    log = logging.getLogger("test")

    conf.post_fork(SimpleNamespace(metrics=None), SimpleNamespace(core_share=[1023], log=log))

    assert os.sched_getaffinity(0) == allowed
    assert caplog.messages == ["Not pinned to the cores [1023]: Invalid argument"]


@pytest.mark.slow
def test_replaced_workers_have_a_core_each_and_the_settings_of_the_others(tmp_path: Path) -> None:
    lines = [f"{name}={value!r}" for name, value in BASE_ENVIRONMENT.items()]
    (tmp_path / ".env").write_text("\n".join(lines))
    cores = sorted(os.sched_getaffinity(0))[:2]
    with running(tmp_path, {"WORKERS": str(len(cores))}) as server:
        workers = wait_for_workers(server, len(cores))
        assert pinned_to(workers) == cores
        (tmp_path / ".env").unlink()
        for victim in workers:
            os.kill(victim, signal.SIGKILL)
            assert pinned_to(wait_for_workers(server, len(cores), gone=[victim])) == cores

        assert send_to_server(server, "GET", "/my-pets", bearer(token())).status == 200


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_by_default_the_service_is_at_every_address_of_localhost(server: Server, host: str) -> None:
    assert send_to_server(replace(server, host=host), "GET", "/healthz").status == 200


@pytest.mark.slow
def test_a_port_that_is_taken_at_one_address_of_localhost_is_no_start(tmp_path: Path) -> None:
    create_database(database_in(tmp_path))
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = str(other.getsockname()[1])
        process = gunicorn(tmp_path, BASE_ENVIRONMENT | {"PORT": port}, tmp_path / "log")

        assert process.wait(timeout=60) != 0
    lines = (tmp_path / "log").read_text().splitlines()
    [line] = [line for line in lines if "Starting gunicorn" not in line]
    assert line.startswith(f"PORT: Can't listen on [::1]:{port} (Address already in use). ")


def test_no_header_moves_the_service(server: Server) -> None:
    headers = bearer(token()) | {"SCRIPT_NAME": "/evil", "X-Forwarded-Proto": "https",
                                 "X-Forwarded-Ssl": "off"}  # fmt: skip

    answer = send_to_server(server, "GET", "/pets?limit=1", headers)

    assert answer.status == 200
    assert answer.headers["Link"] == '</pets?limit=1&after=WzFd>; rel="next"'


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


@pytest.mark.parametrize(
    "request_bytes",
    [b"<b>\r\n\r\n", WIRE["two lengths"][0], WIRE["a token of 100 KB"][0],
     POST + b"Transfer-Encoding: <b>\r\n\r\n"],
)  # fmt: skip
def test_errors_of_gunicorn_are_text_with_the_headers_of_all_others(
    server: Server, request_bytes: bytes
) -> None:
    head, _, body = server.raw(request_bytes).decode().partition("\r\n\r\n")

    status = head.split()[1]
    assert status in {"400", "431", "501"}
    others = send_to_server(server, "GET", "/missing").headers
    for name in ("Content-Type", "X-Content-Type-Options", "Referrer-Policy", "Cache-Control",
                 "Content-Security-Policy"):  # fmt: skip
        assert f"{name}: {others[name]}" in head.split("\r\n")
    assert f"Content-Length: {len(body)}" in head
    assert "Access-Control-Allow-Origin: *" in head
    not_parsed, no_method = "The request can't be parsed.", "This method is not supported."
    assert body == (no_method if status == "501" else not_parsed)


def test_a_client_that_leaves_in_the_middle_leaves_no_trace(server: Server) -> None:
    before = len(server.log())
    for start in (POST + b"Content-Length: 50\r\n\r\nuser", CHUNKED + b"50\r\nuser", POST):
        server.raw(start)

    assert send_to_server(server, "GET", "/healthz").status == 200
    assert "Traceback" not in server.log()[before:]
