"""The log: its lines in both formats; clients can neither write into it nor leak secrets."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from gunicorn.config import Config

from jwt_server.audit import Action
from jwt_server.config import Settings, load_settings
from jwt_server.database import Connection
from jwt_server.gunicorn.logger import Logger
from jwt_server.logs import formatter
from tests.helpers import processes
from tests.helpers.app import Clock, MakeApp
from tests.helpers.databases import create_database, database_in, file_of
from tests.helpers.factories import CREDENTIALS, bearer, spoil, token
from tests.helpers.http import send_to_server
from tests.helpers.secrets import find_secrets
from tests.helpers.server import BASE_ENVIRONMENT, GUNICORN, ROOT, answering, environment
from tests.helpers.sql import NO_TABLE_OF_PETS
from tests.helpers.waiting import free_port

Lines = Callable[[], list[str]]


@pytest.fixture(params=["json", "text"])
def log_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lines(log_format: str) -> Iterator[Lines]:
    with captured(log_format) as new_lines:
        yield new_lines


@contextmanager
def captured(log_format: str) -> Iterator[Lines]:
    """Return the lines logged in that format since the last call."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter(log_format))
    logging.getLogger().addHandler(handler)
    logging.getLogger("jwt_server").setLevel(logging.INFO)  # pytest's root logger has another

    def new_lines() -> list[str]:
        text = written.getvalue()
        written.seek(0)
        written.truncate()
        assert text == "" or text.endswith("\n")
        return text.split("\n")[:-1]

    yield new_lines
    logging.getLogger("jwt_server").setLevel(logging.NOTSET)
    logging.getLogger().removeHandler(handler)


only_json = pytest.mark.parametrize("log_format", ["json"], indirect=True)
only_text = pytest.mark.parametrize("log_format", ["text"], indirect=True)


def parse(line: str) -> dict[str, Any]:
    """Parse a line of JSON, whose members must be unique."""

    def once(members: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(members)) == len(members)
        return dict(members)

    found: dict[str, Any] = json.loads(line, object_pairs_hook=once)
    return found


@only_json
def test_a_request_is_one_json_line(
    client: FlaskClient, travis: dict[str, str], lines: Lines
) -> None:
    before = time.time()
    client.get("/pets/1?name=x", headers=travis | {"X-Request-ID": "abcd-1234"})
    [line] = lines()

    facts = parse(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", facts["time"])
    at = datetime.fromisoformat(facts.pop("time"))
    assert at.tzinfo == UTC
    assert before - 0.001 <= at.timestamp() <= time.time()
    assert 0 < facts.pop("duration_ms") < 10_000
    assert facts == {
        "level": "INFO",
        "logger": "jwt_server.access",
        "pid": os.getpid(),
        "message": "GET /pets/{pet_id} 200",
        "request_id": "abcd-1234",
        "method": "GET",
        "route": "/pets/{pet_id}",
        "status": 200,
        "code": None,
        "user_id": 1,
        "address": "127.0.0.1",
    }


@only_text
def test_a_request_is_one_text_line(
    client: FlaskClient, travis: dict[str, str], lines: Lines
) -> None:
    client.get("/pets/1?name=x", headers=travis | {"X-Request-ID": "abcd-1234"})
    client.get("/pets", headers={"X-Request-ID": "abcd-5678"})

    first, second = lines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO jwt_server.access \[abcd-1234\]"
        r" GET /pets/{pet_id} 200 - \d+\.\d ms user=1 from=127\.0\.0\.1",
        first,
    )
    assert re.search(r"5678\] GET /pets 401 token_missing .* user=- from=127\.0\.0\.1$", second)


@only_json
def test_request_lines_have_the_user_and_the_error_code(
    client: FlaskClient, travis: dict[str, str], lines: Lines
) -> None:
    client.post("/auth", data=CREDENTIALS)
    client.post("/auth", data=CREDENTIALS | {"password": "wrong"})
    client.get("/my-pets")
    client.get("/nowhere", headers=travis)
    client.get("/me", headers=travis)

    requests = [each for each in map(parse, lines()) if each["logger"] == "jwt_server.access"]
    found = [(each["status"], each["code"], each["user_id"]) for each in requests]
    assert found == [
        (200, None, 1),
        (401, "wrong_credentials", None),
        (403, "token_missing", None),
        (404, "not_found", None),
        (200, None, 1),
    ]


@only_json
@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        (0, "203.0.113.9", "127.0.0.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "198.51.100.1, 2001:DB8::1", "2001:db8::1"),
        (1, "::ffff:203.0.113.9", "203.0.113.9"),
        (1, "no address", "127.0.0.1"),
        (1, "fe80::1%\x1b[31m", "127.0.0.1"),
        (2, "203.0.113.9", "127.0.0.1"),
    ],
)
@pytest.mark.usefixtures("database")
def test_the_address_is_the_clients_if_the_proxy_is_trusted(
    make_app: MakeApp, lines: Lines, trusted: int, forwarded: str, address: str
) -> None:
    client = make_app(trusted_proxies=trusted).test_client()
    client.get("/docs", environ_overrides={"HTTP_X_FORWARDED_FOR": forwarded})

    assert parse(lines()[-1])["address"] == address


@only_json
def test_only_failed_health_checks_are_logged(
    client: FlaskClient, settings: Settings, lines: Lines
) -> None:
    for path in ("/healthz", "/readyz", "/readyz/"):
        assert client.get(path).status_code == client.head(path).status_code == 200
    assert lines() == []

    assert client.post("/healthz").status_code == 405
    spoil(file_of(settings), "missing")
    assert client.get("/readyz").status_code == 503

    logged = [parse(line)["message"] for line in lines() if "jwt_server.access" in line]
    assert logged == ["POST - 405", "GET /readyz 503"]


def test_all_lines_of_a_request_have_its_id(
    client: FlaskClient, db: Connection, lines: Lines, log_format: str
) -> None:
    db.driver.execute("UPDATE users SET password_hash = 'x'")
    db.driver.execute("DROP TABLE pets")
    client.post("/auth", data=CREDENTIALS, headers={"X-Request-ID": "unusable"})
    unusable = lines()
    client.get("/my-pets", headers=bearer(token(exp=2**40)) | {"X-Request-ID": "no-table"})
    failed = lines()

    assert len(unusable) == 3
    assert "audit: sign_in_failed" in unusable[1]
    assert "the stored password hash is unusable" in unusable[0]
    assert NO_TABLE_OF_PETS.search("".join(failed))
    for id_, found in (("unusable", unusable), ("no-table", failed)):
        if log_format == "json":
            assert {parse(line)["request_id"] for line in found} == {id_}
        else:
            assert all(f"[{id_}]" in line for line in found if not line.startswith("    "))


def test_a_line_outside_of_requests_has_no_id(lines: Lines, log_format: str) -> None:
    logging.getLogger("somewhere").warning("hello")

    [line] = lines()
    if log_format == "json":
        assert "request_id" not in parse(line)
    else:
        assert line.endswith("WARNING somewhere [-] hello")


@only_json
def test_extra_fields_are_members_of_the_json(lines: Lines) -> None:
    logging.getLogger("somewhere").warning("hello", extra={"user": 5, "at": Path("x")})

    facts = parse(lines()[0])
    assert (facts["message"], facts["user"]) == ("hello", 5)


FORGED = '{"level":"INFO","logger":"jwt_server.access","message":"forged"}'
INJECTIONS = {
    "a line": "x\nforged",
    "a carriage return": "x\rforged",
    "both": "x\r\nforged",
    "colours": "\x1b[31mforged\x1b[2K\x1b[1A",
    "a bell and backspaces": "\a\b\bforged",
    "NUL and DEL": "forged\0\x7f",
    "C1 controls": "\x9b31mforged\x85",
    "line separators": "x\u2028forged\u2029",
    "right to left": "\u202eforged\u2066",
    "a lone surrogate": "forged\udc80",
    "quotes": 'x","user_id":1,"x":"forged',
    "a backslash": 'forged\\',
    "JSON": FORGED,
    "a line of JSON": f"x\n{FORGED}",
    "formats": "%s%(message)s{0}%n forged",
}  # fmt: skip


def wire(text: str) -> str:
    """The text as a server hands on what came in its bytes (PEP 3333)."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def in_environ(name: str, form: str = "%s") -> Callable[[str], dict[str, Any]]:
    return lambda text: {"environ_overrides": {name: form.replace("%s", wire(text))}}


def as_json(content: object) -> dict[str, Any]:
    return {"data": json.dumps(content), "content_type": "application/json"}


PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "the request id": in_environ("HTTP_X_REQUEST_ID"),
    "the user agent": in_environ("HTTP_USER_AGENT"),
    "the address": in_environ("REMOTE_ADDR"),
    "the forwarded address": in_environ("HTTP_X_FORWARDED_FOR"),
    "the host": in_environ("HTTP_HOST"),
    "Authorization": in_environ("HTTP_AUTHORIZATION", "Bearer %s"),
    "the method": in_environ("REQUEST_METHOD"),
    "the path": in_environ("PATH_INFO", "/%s"),
    "the query": in_environ("QUERY_STRING"),
    "the username": lambda text: as_json({"username": text, "password": "x"}),
    "the password": lambda text: as_json({"username": "travis", "password": text}),
    "a field": lambda text: as_json({text: text}),
}


Both = Callable[[], tuple[list[str], list[str]]]


@pytest.fixture
def both() -> Iterator[Both]:
    """Return the lines logged since the last call, as JSON and as text."""
    with captured("json") as as_json, captured("text") as as_text:
        yield lambda: (as_json(), as_text())


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("place", PLACES)
def test_no_text_of_a_client_gets_into_the_log(
    make_app: MakeApp, clock: Clock, both: Both, place: str
) -> None:
    client = make_app(trusted_proxies=1).test_client()
    both()
    for text in INJECTIONS.values():
        clock.advance(60)
        client.post("/auth", **PLACES[place](text))

        json_lines, text_lines = both()
        assert len(json_lines) == len(text_lines)
        # A missing address is a warning, and a sign-in that failed is also in the audit log.
        warning, *audited, access = [parse(line)["logger"] for line in json_lines]
        assert (warning, access) == ("jwt_server.web.middleware", "jwt_server.access")
        assert set(audited) <= {"jwt_server.audit"}
        for line in json_lines + text_lines:
            assert line.isprintable()
            assert "forged" not in line


def test_a_logged_text_stays_one_line(both: Both) -> None:
    for text in INJECTIONS.values():
        logging.getLogger("somewhere").error("They said %s", text)

        [json_line], [text_line] = both()
        assert json_line.isprintable()
        assert text_line.isprintable()
        assert parse(json_line)["message"] == f"They said {text}"
        assert "ERROR somewhere [-] They said " in text_line


def test_an_exception_cannot_pass_for_a_line(
    app: Flask, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = iter(INJECTIONS.values())

    def fail() -> None:
        raise RuntimeError(next(texts))

    hooks = app.before_request_funcs.get(None, [])
    monkeypatch.setitem(app.before_request_funcs, None, [fail, *hooks])
    for text in INJECTIONS.values():
        app.test_client().get("/healthz")

        json_lines, text_lines = both()
        error, access = map(parse, json_lines)
        assert "unexpected error" in error["message"]
        assert error["exc_info"].endswith(f"RuntimeError: {text}")
        assert access["status"] == 500
        first, *more, last = text_lines
        assert "unexpected error" in first
        assert "GET - 500 " in last
        assert more
        assert all(line.startswith("    ") for line in more)
        assert all(line.isprintable() for line in json_lines + text_lines)


def test_a_stack_cannot_pass_for_a_line(both: Both) -> None:
    logging.getLogger("somewhere").error("x\nforged", stack_info=True)

    [json_line], [first, *more] = both()
    assert json_line.isprintable()
    assert first.isprintable()
    assert more
    assert all(line.startswith("    ") for line in more)


def test_no_secret_is_logged(client: FlaskClient, clock: Clock, lines: Lines) -> None:
    as_json = {"Accept": "application/json"}
    first = client.post("/auth", json=CREDENTIALS, headers=as_json).get_json()
    headers = bearer(first["access_token"])
    client.get("/my-pets", headers=headers)
    client.get(f"/my-pets?token={first['access_token']}&password=mypassword")
    client.post("/auth", data=CREDENTIALS | {"username": "mypassword"})
    client.post("/auth/reauth", json={"password": "mypassword"}, headers=headers)
    client.put(
        "/me/password", headers=headers,
        json={"current_password": "mypassword", "new_password": "correct horse battery"},
    )  # fmt: skip
    second = client.post(
        "/auth", headers=as_json, json=CREDENTIALS | {"password": "correct horse battery"}
    ).get_json()
    for _ in range(2):
        client.post("/auth/refresh", json={"refresh_token": second["refresh_token"]})
        clock.advance(60)

    text = "\n".join(lines())
    assert "audit: refresh_token_reused" in text
    assert text.count("jwt_server.access") == 9
    assert find_secrets(text) == []
    for each in (first, second):
        for part in each["access_token"].split("."):
            assert part not in text
        assert each["refresh_token"] not in text


@pytest.mark.parametrize(
    "secret",
    [
        "user travis, password mypassword",
        f"Authorization: Bearer {token()}",
        token()[:40],
        "authorization: bearer x",
        "Authorization: Basic dHJhdmlz",
        f"r1.{'s' * 22}.12.{'m' * 43}",
        "$2b$12$abcdef",
        BASE_ENVIRONMENT["JWT_SECRET"],
    ],
)
def test_the_search_for_secrets_finds_each_kind(secret: str) -> None:
    assert find_secrets(f"something {secret}") != []


@pytest.fixture
def gunicorn_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore gunicorn's log after the test."""
    for name, value in BASE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    log = logging.getLogger("gunicorn.error")
    before, propagates = list(log.handlers), log.propagate
    yield
    log.handlers, log.propagate = before, propagates


@pytest.mark.usefixtures("gunicorn_log")
def test_gunicorn_does_not_log_parts_of_bad_requests(capsys: pytest.CaptureFixture[str]) -> None:
    log = Logger(Config())  # type: ignore[no-untyped-call]  # gunicorn has no types
    log.warning("Invalid request from ip=2001:db8::1: Invalid HTTP Header: 'Bearer mypassword'")
    log.exception("Error handling request %s %s", "GET", "/?password=mypassword")
    log.warning("another: warning: %s", "as it is")

    first, second, third = capsys.readouterr().err.splitlines()
    assert parse(first)["message"] == "Invalid request from ip=2001:db8::1: Invalid HTTP Header"
    assert parse(second)["message"] == "Error handling request"
    assert parse(third)["message"] == "another: warning: as it is"


@pytest.mark.usefixtures("gunicorn_log")
def test_gunicorn_logs_text_if_the_service_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_FORMAT", "text")
    Logger(Config()).warning("hello")  # type: ignore[no-untyped-call]  # as above

    assert re.fullmatch(
        r"\d{4}-\S+ \S+ WARNING gunicorn.error \[-\] hello\n", capsys.readouterr().err
    )


@pytest.mark.usefixtures("gunicorn_log")
@pytest.mark.parametrize(("terminal", "expected"), [(True, "text"), (False, "json")])
def test_the_default_format_is_text_on_a_terminal_and_json_elsewhere(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, expected: str
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)

    assert load_settings().log_format == expected


BAD = (
    b"GET /pets HTTP/1.0\r\nAuthorization: Bearer mypassword\rx\r\n\r\n",
    b"GET /pets HTTP/1.0\r\nAuthorization : Bearer mypassword\r\n\r\n",
    b"GET /pets?password=mypassword HTTP/9.x\r\n\r\n",
    b"mypassword\x1b[31m /pets HTTP/1.0\r\n\r\n",
    b"mypassword\r\n\r\n",
    b"POST /auth HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: mypassword\r\n\r\n",
    b"POST /auth HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nmypassword\r\n",
    b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Length: mypassword\r\n\r\n",
    b"POST /auth HTTP/1.1\r\nHost: x\r\nExpect: mypassword\r\n\r\n",
)


def test_a_server_logs_json_without_secrets_to_standard_error_only(tmp_path: Path) -> None:
    folder, output, log_file = tmp_path / "service", tmp_path / "stdout", tmp_path / "stderr"
    folder.mkdir()
    create_database(database_in(folder))
    before = [*folder.iterdir()]
    port = free_port()
    variables = environment(folder, BASE_ENVIRONMENT | {"PORT": str(port)})
    process = processes.start(folder, variables, (None, output, log_file), *GUNICORN)
    with answering(port, process, log_file, 60) as server:
        for request in BAD:
            server.raw(request)
        signed_in = send_to_server(
            server, "POST", "/auth", {"X-Request-ID": "of-the-client"},
            "username=travis&password=mypassword", "application/x-www-form-urlencoded",
        )  # fmt: skip
        assert signed_in.status == 200

    log = log_file.read_text()
    found = [parse(line) for line in log.splitlines()]
    assert {each["logger"] for each in found} == {
        "gunicorn.error", "jwt_server.app", "jwt_server.access", "jwt_server.audit",
    }  # fmt: skip
    assert any("Booting worker" in each["message"] for each in found)
    assert any("Invalid request from" in each["message"] for each in found)
    [audit, access] = [each for each in found if each.get("request_id") == "of-the-client"]
    assert (audit["action"], audit["user_id"], audit["address"]) == ("signed_in", 1, "127.0.0.1")
    assert (access["route"], access["status"], access["user_id"]) == ("/auth", 200, 1)
    assert access["pid"] != server.process.pid
    assert find_secrets(log) == []
    assert log.replace("\n", "").isprintable()
    assert output.read_text() == ""
    assert [path for path in folder.rglob("*") if not path.name.startswith("server.db-")] == before


@pytest.mark.slow
def test_flask_run_does_not_log_queries(tmp_path: Path) -> None:
    port, log_file = free_port(), tmp_path / "flask.log"
    create_database(database_in(tmp_path))
    variables = environment(tmp_path, BASE_ENVIRONMENT)
    command = ("flask", "--app", "wsgi", "run", "--port", str(port))
    streams = (Path(os.devnull), log_file, log_file)
    process = processes.start(tmp_path, variables, streams, *command)
    with answering(port, process, log_file, 20) as server:
        send_to_server(server, "GET", f"/my-pets?token={token()}&password=mypassword")
        server.raw(b"GET /?password=mypassword nonsense HTTP/1.1\r\n\r\n")

    assert find_secrets(server.log()) == []
    assert f"Running on http://127.0.0.1:{port}" in server.log()
    assert server.log().count("GET /my-pets 403") == 1


OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
JOURNAL = "journalctl --unit jwt-server --output cat"
FILTERS = re.findall(rf"^{JOURNAL} \| ((?:.*\\\n)*.*)$", OPERATIONS, re.MULTILINE)


@only_json
def test_the_documented_line_is_like_a_real_one(client: FlaskClient, lines: Lines) -> None:
    documented = parse(OPERATIONS.split("```json\n")[1].split("```")[0])
    client.post("/auth", data=CREDENTIALS | {"password": "wrong"})

    [*_, line] = lines()
    real = parse(line)
    assert list(documented) == list(real)
    for name in ("level", "logger", "message", "method", "route", "status", "code", "user_id"):
        assert documented[name] == real[name]


def test_the_documented_actions_are_those_of_the_audit_log() -> None:
    [sentence] = re.findall(r"^The actions are ([^.]*)\.$", OPERATIONS, re.MULTILINE)

    assert re.findall(r"`(\w+)`", sentence) == [action.value for action in Action]


# What else the journal has: systemd's own lines, a failed start, parts of lines.
OTHER_LINES = (
    "Started jwt-server.service - Login service.",
    "SALT_ROUNDS: Must be from 4 to 31.",
    "jwt-server.service: Main process exited, code=exited, status=1/FAILURE",
    '{"level": "ERROR", "status": 5',
    "500", '"ERROR"', "null", "[]", "",
)  # fmt: skip


def test_the_documented_filters_read_lines() -> None:
    assert len(FILTERS) == 2
    for command in FILTERS:
        assert "--raw-input" in command
        assert "fromjson? | objects | " in command
    assert re.search(r"\bapt install jq\b", OPERATIONS, re.MULTILINE)


@only_json
@pytest.mark.skipif(
    shutil.which("jq") is None and os.environ.get("CI") != "true",
    reason="there is no jq here: sudo apt install jq",
)
def test_the_documented_filters_skip_what_is_not_json(
    client: FlaskClient, settings: Settings, lines: Lines, tmp_path: Path
) -> None:
    client.get("/docs")
    spoil(file_of(settings), "missing")
    client.get("/my-pets", headers=bearer(token(exp=2**40)))
    [_, error, failed] = written = lines()
    journal = tmp_path / "journal"
    journal.write_text("".join(f"{line}\n" for line in (*OTHER_LINES, *written) * 2))

    by_status, by_level = (filtered(journal, command) for command in FILTERS)

    assert [json.loads(line) for line in by_status] == [parse(failed)] * 2
    [counted] = by_level
    assert counted.split(maxsplit=1) == ["2", parse(error)["message"]]


def filtered(journal: Path, command: str) -> list[str]:
    """Return what a documented command prints for this journal."""
    done = subprocess.run(  # noqa: S602 - as it is typed, and our own
        f"cat {journal} | {command}",
        shell=True, capture_output=True, text=True, timeout=10, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()
