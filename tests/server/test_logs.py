"""The log: what a line tells, in both formats, and that nobody outside can write into it."""

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
from jwt_server.config import Settings
from jwt_server.database import Connection
from jwt_server.gunicorn.logger import Logger
from jwt_server.logs import formatter
from tests.helpers.app import Clock, MakeApp
from tests.helpers.factories import CREDENTIALS, bearer, spoil, token
from tests.helpers.http import send_to_server
from tests.helpers.secrets import find_secrets
from tests.helpers.server import (
    BASE_ENVIRONMENT,
    GUNICORN,
    ROOT,
    Server,
    answering,
    environment,
    flask,
    free_port,
    running,
)

Lines = Callable[[], list[str]]


@pytest.fixture(params=["json", "text"])
def log_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lines(log_format: str) -> Iterator[Lines]:
    """Gives the lines that were written in that format since it was last asked."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter(log_format))
    logging.getLogger().addHandler(handler)
    logging.getLogger("jwt_server").setLevel(logging.INFO)  # pytest's own root is not the service's

    def taken() -> list[str]:
        text = written.getvalue()
        written.seek(0)
        written.truncate()
        assert text == "" or text.endswith("\n")
        return text.split("\n")[:-1]

    yield taken
    logging.getLogger("jwt_server").setLevel(logging.NOTSET)
    logging.getLogger().removeHandler(handler)


only_json = pytest.mark.parametrize("log_format", ["json"], indirect=True)
only_text = pytest.mark.parametrize("log_format", ["text"], indirect=True)


def told(line: str) -> dict[str, Any]:
    """What a line of JSON tells; each member once."""

    def once(members: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(members)) == len(members)
        return dict(members)

    found: dict[str, Any] = json.loads(line, object_pairs_hook=once)
    return found


@only_json
def test_a_request_is_one_line_with_all_its_facts(
    client: FlaskClient, travis: dict[str, str], lines: Lines
) -> None:
    before = time.time()
    client.get("/pets/1?name=x", headers=travis | {"X-Request-ID": "abcd-1234"})
    [line] = lines()

    facts = told(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", facts["time"])
    at = datetime.fromisoformat(facts.pop("time"))
    assert at.tzinfo == UTC
    assert before - 0.001 <= at.timestamp() <= time.time()
    assert 0 < facts.pop("duration_ms") < 10_000
    assert facts == {
        "level": "INFO",
        "logger": "jwt_server.access",
        "pid": os.getpid(),
        "message": "GET /pets/<id:pet_id> 200",
        "request_id": "abcd-1234",
        "method": "GET",
        "route": "/pets/<id:pet_id>",
        "status": 200,
        "code": None,
        "user_id": 1,
        "address": "127.0.0.1",
    }


@only_text
def test_for_people_it_is_one_line_too(
    client: FlaskClient, travis: dict[str, str], lines: Lines
) -> None:
    client.get("/pets/1?name=x", headers=travis | {"X-Request-ID": "abcd-1234"})
    client.get("/pets", headers={"X-Request-ID": "abcd-5678"})

    first, second = lines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO jwt_server.access \[abcd-1234\]"
        r" GET /pets/<id:pet_id> 200 - \d+\.\d ms user=1 from=127\.0\.0\.1",
        first,
    )
    assert re.search(r"5678\] GET /pets 401 token_missing .* user=- from=127\.0\.0\.1$", second)


@only_json
def test_who_signs_in_and_who_is_refused_is_told(
    client: FlaskClient, travis: dict[str, str], lines: Lines
) -> None:
    client.post("/auth", data=CREDENTIALS)
    client.post("/auth", data=CREDENTIALS | {"password": "wrong"})
    client.get("/my-pets")
    client.get("/nowhere", headers=travis)
    client.get("/me", headers=travis)

    requests = [each for each in map(told, lines()) if each["logger"] == "jwt_server.access"]
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
        (1, "no address", ""),
        (1, "fe80::1%\x1b[31m", ""),
        (2, "203.0.113.9", ""),
    ],
)
@pytest.mark.usefixtures("database")
def test_the_address_is_the_clients_where_a_proxy_is_believed(
    make_app: MakeApp, lines: Lines, trusted: int, forwarded: str, address: str
) -> None:
    client = make_app(trusted_proxies=trusted).test_client()
    client.get("/healthz", environ_overrides={"HTTP_X_FORWARDED_FOR": forwarded})

    assert told(lines()[-1])["address"] == address


def test_every_other_line_has_the_requests_id(
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
    assert "no such table: pets" in "".join(failed)
    for id_, found in (("unusable", unusable), ("no-table", failed)):
        if log_format == "json":
            assert {told(line)["request_id"] for line in found} == {id_}
        else:
            assert all(f"[{id_}]" in line for line in found if not line.startswith("    "))


def test_a_line_of_no_request_has_no_id(lines: Lines, log_format: str) -> None:
    logging.getLogger("somewhere").warning("hello")

    [line] = lines()
    if log_format == "json":
        assert "request_id" not in told(line)
    else:
        assert line.endswith("WARNING somewhere [-] hello")


@only_json
def test_what_a_line_adds_is_kept_by_name(lines: Lines) -> None:
    logging.getLogger("somewhere").warning("hello", extra={"user": 5, "at": Path("x")})

    facts = told(lines()[0])
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


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("place", PLACES)
def test_nothing_that_a_client_sends_gets_into_the_log(
    make_app: MakeApp, lines: Lines, log_format: str, place: str
) -> None:
    client = make_app(trusted_proxies=1).test_client()
    lines()
    for text in INJECTIONS.values():
        client.post("/auth", **PLACES[place](text))

        found = lines()
        assert len(found) in {1, 2}  # a sign-in that failed is also in the audit log
        for line, logger in zip(
            found[::-1], ("jwt_server.access", "jwt_server.audit"), strict=False
        ):
            assert line.isprintable()
            assert "forged" not in line
            assert (told(line)["logger"] == logger) if log_format == "json" else (logger in line)


@pytest.mark.parametrize("text", INJECTIONS.values(), ids=INJECTIONS)
def test_a_text_from_outside_that_is_logged_stays_one_line(
    lines: Lines, log_format: str, text: str
) -> None:
    logging.getLogger("somewhere").error("They said %s", text)

    [line] = lines()
    assert line.isprintable()
    if log_format == "json":
        assert told(line)["message"] == f"They said {text}"
    else:
        assert "ERROR somewhere [-] They said " in line


@pytest.mark.parametrize("text", INJECTIONS.values(), ids=INJECTIONS)
def test_an_exception_can_not_pass_for_a_line(
    app: Flask, lines: Lines, log_format: str, text: str
) -> None:
    def broken() -> None:
        raise RuntimeError(text)

    app.before_request_funcs.setdefault(None, []).insert(0, broken)
    app.test_client().get("/healthz")

    first, *more, last = lines()
    assert "unexpected error" in first
    assert "GET - 500 " in last.replace('"', " ")
    for line in (first, *more, last):
        assert line.isprintable()
    if log_format == "json":
        assert more == []
        assert told(first)["exc_info"].endswith(f"RuntimeError: {text}")
    else:
        assert more
        assert all(line.startswith("    ") for line in more)


def test_nor_can_a_stack(lines: Lines, log_format: str) -> None:
    logging.getLogger("somewhere").error("x\nforged", stack_info=True)

    first, *more = lines()
    assert first.isprintable()
    assert all(line.startswith("    ") for line in more)
    assert bool(more) == (log_format == "text")


def test_nothing_secret_is_logged(client: FlaskClient, clock: Clock, lines: Lines) -> None:
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
def test_a_leak_would_be_found(secret: str) -> None:
    assert find_secrets(f"something {secret}") != []


@pytest.fixture
def gunicorns_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """Where gunicorn's lines go, as it was when the test ends."""
    for name, value in BASE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    log = logging.getLogger("gunicorn.error")
    before, propagates = list(log.handlers), log.propagate
    yield log
    log.handlers, log.propagate = before, propagates


def test_gunicorn_does_not_log_what_a_bad_request_holds(
    capsys: pytest.CaptureFixture[str], gunicorns_log: logging.Logger
) -> None:
    log = Logger(Config())  # type: ignore[no-untyped-call]  # gunicorn has no types
    log.warning("Invalid request from ip=2001:db8::1: Invalid HTTP Header: 'Bearer mypassword'")
    log.exception("Error handling request %s %s", "GET", "/?password=mypassword")
    log.warning("another: warning: %s", "as it is")

    first, second, third = capsys.readouterr().err.splitlines()
    assert told(first)["message"] == "Invalid request from ip=2001:db8::1: Invalid HTTP Header"
    assert told(second)["message"] == "Error handling request"
    assert told(third)["message"] == "another: warning: as it is"


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


def test_gunicorns_own_lines_are_json_as_well_and_hold_nothing_secret(tmp_path: Path) -> None:
    with running(tmp_path, BASE_ENVIRONMENT) as server:
        for request in BAD:
            server.raw(request)
        signed_in = send_to_server(
            server, "POST", "/auth", {"X-Request-ID": "of-the-client"},
            "username=travis&password=mypassword", "application/x-www-form-urlencoded",
        )  # fmt: skip
        assert signed_in.status == 200
    log = server.log()

    found = [told(line) for line in log.splitlines()]
    assert {each["logger"] for each in found} == {
        "gunicorn.error", "jwt_server", "jwt_server.access", "jwt_server.audit",
    }  # fmt: skip
    assert any("Booting worker" in each["message"] for each in found)
    assert any("Invalid request from" in each["message"] for each in found)
    [audit, access] = [each for each in found if each.get("request_id") == "of-the-client"]
    assert (audit["action"], audit["user_id"], audit["address"]) == ("signed_in", 1, "127.0.0.1")
    assert (access["route"], access["status"], access["user_id"]) == ("/auth", 200, 1)
    assert access["pid"] != server.process.pid
    assert find_secrets(log) == []
    assert log.replace("\n", "").isprintable()


def test_text_can_be_had_from_gunicorn_too(tmp_path: Path) -> None:
    with running(tmp_path, BASE_ENVIRONMENT | {"LOG_FORMAT": "text"}) as server:
        server.raw(BAD[3])
    log = server.log()

    assert re.search(r"^\d{4}-\S+ \S+ INFO gunicorn.error \[-\] Booting worker", log, re.MULTILINE)
    assert re.search(r" INFO jwt_server.access \[\w{32}\] GET /healthz 200 - ", log)
    assert log.replace("\n", "").isprintable()


@pytest.mark.parametrize(("stream", "expected"), [("terminal", "text"), ("pipe", "json")])
def test_people_get_text_and_machines_json(tmp_path: Path, stream: str, expected: str) -> None:
    there, here = os.openpty() if stream == "terminal" else os.pipe()
    code = "from jwt_server.config import load_settings; print(load_settings().log_format)"
    try:
        printed = subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=here,
            env=environment(tmp_path, BASE_ENVIRONMENT), check=True, text=True,
        ).stdout  # fmt: skip
    finally:
        os.close(there)
        os.close(here)

    assert printed.strip() == expected


def test_flask_run_does_not_tell_what_a_request_asks_for(tmp_path: Path) -> None:
    port, log_file = free_port(), tmp_path / "flask.log"
    assert flask(tmp_path, BASE_ENVIRONMENT, "init-db").returncode == 0
    with log_file.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "flask", "--app", "wsgi", "run", "--port", str(port)],
            cwd=tmp_path, env=environment(tmp_path, BASE_ENVIRONMENT), stdout=log, stderr=log,
        )  # fmt: skip
    with answering(port, process, log_file, 20) as server:
        send_to_server(server, "GET", f"/my-pets?token={token()}&password=mypassword")
        server.raw(b"GET /?password=mypassword nonsense HTTP/1.1\r\n\r\n")

    assert find_secrets(server.log()) == []
    assert f"Running on http://127.0.0.1:{port}" in server.log()
    assert server.log().count("GET /my-pets 403") == 1


@contextmanager
def two_streams(folder: Path, output: Path, log: Path) -> Iterator[Server]:
    """A server whose standard output and standard error go to different files."""
    port = free_port()
    assert flask(folder, BASE_ENVIRONMENT, "init-db").returncode == 0
    with output.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*GUNICORN, "-c", str(ROOT / "gunicorn.conf.py"), "wsgi:app"],
            cwd=folder, env=environment(folder, BASE_ENVIRONMENT | {"PORT": str(port)}),
            stdout=out, stderr=err,
        )  # fmt: skip
    with answering(port, process, log, 60) as server:
        yield server


def test_the_log_goes_to_standard_error_and_to_no_other_place(tmp_path: Path) -> None:
    folder, output, log = tmp_path / "service", tmp_path / "stdout", tmp_path / "stderr"
    folder.mkdir()

    with two_streams(folder, output, log) as server:
        body = "username=travis&password=wrong"
        send_to_server(server, "POST", "/auth", {}, body, "application/x-www-form-urlencoded")
        server.raw(BAD[0])

    logged = {told(line)["logger"] for line in log.read_text().splitlines()}
    assert logged == {"gunicorn.error", "jwt_server", "jwt_server.access", "jwt_server.audit"}
    assert output.read_text() == ""
    there = {path.name.partition("-")[0] for path in folder.rglob("*")}
    assert there == {"server.db"}  # with -wal and -shm


OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
JOURNAL = "journalctl --unit jwt-server --output cat"
FILTERS = re.findall(rf"^{JOURNAL} \| ((?:.*\\\n)*.*)$", OPERATIONS, re.MULTILINE)


@only_json
def test_the_documented_line_is_as_a_real_one(client: FlaskClient, lines: Lines) -> None:
    documented = told(OPERATIONS.split("```json\n")[1].split("```")[0])
    client.post("/auth", data=CREDENTIALS | {"password": "wrong"})

    [*_, line] = lines()
    real = told(line)
    assert list(documented) == list(real)
    for name in ("level", "logger", "message", "method", "route", "status", "code", "user_id"):
        assert documented[name] == real[name]


def test_the_documented_actions_are_those_of_the_audit_log() -> None:
    [sentence] = re.findall(r"^The actions are ([^.]*)\.$", OPERATIONS, re.MULTILINE)

    assert re.findall(r"`(\w+)`", sentence) == [action.value for action in Action]


# What else is in the unit's journal: systemd's own lines, a start that failed, parts of a line.
NO_LINES_OF_OURS = (
    "Started jwt-server.service - Login service.",
    "SALT_ROUNDS: Must be from 4 to 31.",
    "jwt-server.service: Main process exited, code=exited, status=1/FAILURE",
    '{"level": "ERROR", "status": 5',
    "500", '"ERROR"', "null", "[]", "",
)  # fmt: skip


def test_the_documented_filters_take_the_journal_as_lines() -> None:
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
def test_the_documented_filters_pass_over_what_is_no_json(
    client: FlaskClient, settings: Settings, lines: Lines, tmp_path: Path
) -> None:
    client.get("/healthz")
    spoil(settings.database, "missing")
    client.get("/my-pets", headers=bearer(token(exp=2**40)))
    [_, error, failed] = written = lines()
    journal = tmp_path / "journal"
    journal.write_text("".join(f"{line}\n" for line in (*NO_LINES_OF_OURS, *written) * 2))

    by_status, by_level = (filtered(journal, command) for command in FILTERS)

    assert [json.loads(line) for line in by_status] == [told(failed)] * 2
    [counted] = by_level
    assert counted.split(maxsplit=1) == ["2", told(error)["message"]]


def filtered(journal: Path, command: str) -> list[str]:
    """What a documented command prints of this journal."""
    done = subprocess.run(  # noqa: S602 - as it is typed, and our own
        f"cat {journal} | {command}",
        shell=True, capture_output=True, text=True, timeout=10, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()
