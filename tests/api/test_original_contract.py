"""Section 1 of the contract, byte for byte, in this process and through gunicorn.

The answers were recorded from the original server; a front end written for it must not notice
the change.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient

from jwt_server.database import Connection
from tests.helpers.app import Clock
from tests.helpers.factories import CREDENTIALS, add_user, bearer, bearer_of, token
from tests.helpers.http import Send, send_to_server
from tests.helpers.server import BASE_ENVIRONMENT, Server, running

FORM = "application/x-www-form-urlencoded"
TEXT = "text/plain; charset=utf-8"
PETS = b'[{"name":"Bunny","species":"dog"},{"name":"Ru","species":"cat"}]'
WRONG = b"Incorrect username and/or password."


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(urlencode(CREDENTIALS), FORM), (json.dumps(CREDENTIALS), "application/json")],
    ids=["form", "json"],
)
def test_signing_in_gives_the_bare_token_which_reads_the_pets(
    send: Send, body: str, content_type: str
) -> None:
    answer = send("POST", "/auth", data=body, content_type=content_type)

    assert answer.status == 200
    assert answer.headers["Content-Type"] == TEXT
    assert answer.text.count(".") == 2
    assert answer.text == answer.text.strip('" \n')
    assert "Set-Cookie" not in answer.headers

    pets = send("GET", "/my-pets", headers=bearer(answer.text))

    assert (pets.status, pets.body) == (200, PETS)
    assert pets.headers["Content-Type"] == "application/json"


MISSING: list[tuple[str, bytes | None, str | None]] = [
    ("Username", None, None),
    ("Username", b"", FORM),
    ("Username", b"", "application/json"),
    ("Username", b"{}", "application/json"),
    ("Username", b"password=x", FORM),
    ("Username", b"username=&password=x", FORM),
    ("Username", b"password=x&password=y", FORM),
    ("Username", b'{"username":null,"password":"x"}', "application/json"),
    ("Username", b'{"username":false,"password":"x"}', "application/json"),
    ("Username", b'{"username":0,"password":"x"}', "application/json"),
    ("Username", b'{"username":-0.0,"password":"x"}', "application/json"),
    ("Username", b'{"username":"","password":[]}', "application/json"),
    ("Username", b'{"username":"travis","password":"mypassword"}', "text/plain"),
    ("Username", b'{"username":"travis","password":"mypassword"}', None),
    ("Username", b"username=travis&password=mypassword", "multipart/form-data; boundary=x"),
    ("Username", b'{"username":"travis","password":"mypassword"}', FORM),
    ("Password", b"username=travis", FORM),
    ("Password", b"username=travis&password=", FORM),
    ("Password", b'{"username":"travis"}', "application/json"),
    ("Password", b'{"username":"travis","password":null}', "application/json"),
    ("Password", b'{"username":"travis","password":false}', "application/json"),
    ("Password", b'{"username":["travis"],"password":0}', "application/json"),
]


@pytest.mark.parametrize(("field", "body", "content_type"), MISSING)
def test_a_missing_or_empty_credential_is_named(
    send: Send, field: str, body: bytes | None, content_type: str | None
) -> None:
    answer = send("POST", "/auth", data=body, content_type=content_type)

    assert (answer.status, answer.text) == (422, f"{field} required.")
    assert answer.headers["Content-Type"] == TEXT


def test_unknown_user_and_wrong_password_get_the_same_answer(send: Send) -> None:
    unknown = send("POST", "/auth", data="username=nobody&password=x", content_type=FORM)
    wrong = send("POST", "/auth", data="username=travis&password=x", content_type=FORM)

    assert (unknown.status, unknown.body) == (wrong.status, wrong.body) == (401, WRONG)
    varying = {"X-Request-ID", "Date"}
    assert {name: value for name, value in unknown.headers if name not in varying} == {
        name: value for name, value in wrong.headers if name not in varying
    }


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({}, "No token."),
        (bearer("x"), "Malformed token."),
        (bearer(token(key=b"another secret of thirty-two bytes and more")), "Forged token."),
        (bearer(token(exp=1)), "Expired token. Sign in again."),
        (bearer(token(sub="999999")), "Token of a user who is gone."),
    ],
    ids=["none", "malformed", "forged", "expired", "of nobody"],
)
def test_my_pets_refuses_with_403_and_says_why(
    send: Send, headers: dict[str, str], text: str
) -> None:
    answer = send("GET", "/my-pets", headers=headers)

    assert (answer.status, answer.text) == (403, text)
    assert answer.headers["Content-Type"] == TEXT
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("method", ["PUT", "TRACE"])
def test_another_method_is_405_with_allow(send: Send, method: str) -> None:
    answer = send(method, "/auth", headers={"Authorization": "Bearer x"})

    assert answer.status == 405
    assert "Bearer" not in answer.text  # TRACE would send it back
    assert answer.headers["Allow"] == "OPTIONS, POST"


def test_a_method_that_http_does_not_know_is_501_with_allow(send: Send) -> None:
    answer = send("PROPFIND", "/auth")

    assert answer.status == 501
    assert answer.headers["Allow"] == "OPTIONS, POST"


def test_options_without_an_origin_tells_the_methods(send: Send) -> None:
    answer = send("OPTIONS", "/auth")

    assert answer.status == 200
    assert set(answer.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "html" not in answer.headers.get("Content-Type", "")


@pytest.mark.parametrize("path", ["/", "/nowhere", "/Auth", "/auth/x", "/auth//", "/My-pets"])
@pytest.mark.parametrize("method", ["GET", "POST", "PROPFIND"])
def test_an_unknown_path_is_404(send: Send, method: str, path: str) -> None:
    answer = send(method, path)

    assert (answer.status, answer.text) == (404, "There is nothing here.")


def test_a_trailing_slash_matches_without_a_redirect(send: Send) -> None:
    signed_in = send("POST", "/auth/", data=urlencode(CREDENTIALS), content_type=FORM)

    assert signed_in.status == 200
    assert send("GET", "/my-pets/", headers=bearer(signed_in.text)).body == PETS


def test_pets_are_only_the_callers_own_in_id_order_and_in_utf8(
    client: FlaskClient, db: Connection, clock: Clock
) -> None:
    other = add_user(db, "Ünal")
    db.driver.execute(
        "INSERT INTO pets (user_id, name, species, created_at)"
        " VALUES (?, 'Zoë', NULL, 0), (1, 'Aki', 'fox', 0), (?, 'Ab', '犬', 0)",
        (other, other),
    )

    answer = client.get("/my-pets", headers=bearer_of(db, other, int(clock())))

    assert answer.data == '[{"name":"Zoë","species":null},{"name":"Ab","species":"犬"}]'.encode()


def test_an_unexpected_error_is_a_generic_500_and_goes_to_the_log(tmp_path: Path) -> None:
    with running(tmp_path, BASE_ENVIRONMENT) as server:
        _break(tmp_path / "server.db")
        answer = send_to_server(server, "GET", "/my-pets", bearer(token()))
        log = server.log()

    assert answer.status == 500
    assert answer.text == "Something went wrong on our side. Try again later."
    assert answer.headers["X-Request-ID"] in log
    assert "no such table: pets" in log
    assert "pets" not in answer.text


def _break(path: Path) -> None:
    with closing(sqlite3.connect(path)) as driver:
        driver.execute("DROP TABLE pets")


def test_the_demo_hashes_of_the_original_verify(client: FlaskClient, db: Connection) -> None:
    hashes = {
        "mypassword": "$2a$10$3pwJNVCM6NKzBOD1HPZHjuFdjX2Dg771aPZNbbBw9jTUbEMS919Te",
        "password": "$2a$10$9ih.rp5cst7821W3F6mmh.XtB7l2/4mtlQSCGkQk4nUA6olU6Ztka",
    }
    for password, password_hash in hashes.items():
        add_user(db, f"user of {password}", password_hash=password_hash)
        answer = client.post(
            "/auth", data={"username": f"user of {password}", "password": password}
        )
        assert answer.status_code == 200


def test_my_pets_answers_head_without_a_body(send: Send) -> None:
    answer = send("HEAD", "/my-pets", headers=bearer(token()))

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(PETS))


def test_the_server_is_the_real_one(server: Server) -> None:
    assert send_to_server(server, "GET", "/healthz").headers["Server"] == "gunicorn"
