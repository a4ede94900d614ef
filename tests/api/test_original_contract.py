"""The original API, byte for byte, in this process and through gunicorn.

The responses were recorded from the original server; its clients must not notice the change.
"""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient

from jwt_server.database import Connection
from tests.helpers.app import Clock
from tests.helpers.factories import CREDENTIALS, add_user, bearer, bearer_of, execute, token
from tests.helpers.http import Send, send_to_server
from tests.helpers.server import Server
from tests.helpers.sql import NO_TABLE_OF_PETS

FORM = "application/x-www-form-urlencoded"
TEXT = "text/plain; charset=utf-8"
PETS = b'[{"name":"Bunny","species":"dog"},{"name":"Ru","species":"cat"}]'
WRONG = b"Incorrect username and/or password."


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that sends requests twice."""
    if "send" in metafunc.fixturenames:
        metafunc.parametrize("send", ["app", "gunicorn"], indirect=True)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(urlencode(CREDENTIALS), FORM), (json.dumps(CREDENTIALS), "application/json")],
    ids=["form", "json"],
)
def test_sign_in_returns_bare_token_that_reads_pets(
    send: Send, body: str, content_type: str
) -> None:
    response = send("POST", "/auth", data=body, content_type=content_type)

    assert response.status == 200
    assert response.headers["Content-Type"] == TEXT
    assert response.text.count(".") == 2
    assert response.text == response.text.strip('" \n')
    assert "Set-Cookie" not in response.headers

    pets = send("GET", "/my-pets", headers=bearer(response.text))

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


def test_missing_credential_returns_422(send: Send) -> None:
    for field, body, content_type in MISSING:
        response = send("POST", "/auth", data=body, content_type=content_type)

        assert (response.status, response.text) == (422, f"{field} required."), body
        assert response.headers["Content-Type"] == TEXT


def test_unknown_user_and_wrong_password_get_the_same_response(send: Send) -> None:
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
def test_my_pets_returns_403_with_reason(send: Send, headers: dict[str, str], text: str) -> None:
    response = send("GET", "/my-pets", headers=headers)

    assert (response.status, response.text) == (403, text)
    assert response.headers["Content-Type"] == TEXT
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("method", ["PUT", "TRACE"])
def test_other_method_returns_405_with_allow(send: Send, method: str) -> None:
    response = send(method, "/auth", headers={"Authorization": "Bearer x"})

    assert response.status == 405
    assert "Bearer" not in response.text  # TRACE would send it back
    assert response.headers["Allow"] == "OPTIONS, POST"


def test_unknown_method_returns_501_with_allow(send: Send) -> None:
    response = send("PROPFIND", "/auth")

    assert response.status == 501
    assert response.headers["Allow"] == "OPTIONS, POST"


def test_options_without_origin_returns_allow(send: Send) -> None:
    response = send("OPTIONS", "/auth")

    assert response.status == 200
    assert set(response.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
    assert "Access-Control-Allow-Origin" not in response.headers
    assert "html" not in response.headers.get("Content-Type", "")


@pytest.mark.parametrize("method", ["GET", "POST", "PROPFIND"])
def test_unknown_path_returns_404(send: Send, method: str) -> None:
    for path in (
        "/nowhere", "/Auth", "/auth/x", "/auth//", "/My-pets", "//auth", "/%2Fauth", "/%2f/auth",
    ):  # fmt: skip
        response = send(method, path)

        assert (response.status, response.text) == (404, "There is nothing here."), path


def test_trailing_slash_matches_without_redirect(send: Send) -> None:
    signed_in = send("POST", "/auth/", data=urlencode(CREDENTIALS), content_type=FORM)

    assert signed_in.status == 200
    assert send("GET", "/my-pets/", headers=bearer(signed_in.text)).body == PETS


def test_my_pets_returns_own_pets_in_id_order_as_utf8(
    client: FlaskClient, db: Connection, clock: Clock
) -> None:
    other = add_user(db, "Ünal")
    execute(
        db,
        "INSERT INTO pets (user_id, name, species, created_at)"
        " VALUES (?, 'Zoë', NULL, 0), (1, 'Aki', 'fox', 0), (?, 'Ab', '犬', 0)",
        other,
        other,
    )

    response = client.get("/my-pets", headers=bearer_of(db, other, int(clock())))

    assert response.data == '[{"name":"Zoë","species":null},{"name":"Ab","species":"犬"}]'.encode()


def test_unexpected_error_returns_generic_500_and_is_logged(
    client: FlaskClient, db: Connection, travis: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    db.driver.execute("DROP TABLE pets")

    response = client.get("/my-pets", headers=travis)

    assert response.status_code == 500
    assert response.text == "Something went wrong on our side. Try again later."
    assert NO_TABLE_OF_PETS.search(caplog.text)


def test_hashes_of_the_original_verify(client: FlaskClient, db: Connection) -> None:
    hashes = {
        "mypassword": "$2a$10$3pwJNVCM6NKzBOD1HPZHjuFdjX2Dg771aPZNbbBw9jTUbEMS919Te",
        "password": "$2a$10$9ih.rp5cst7821W3F6mmh.XtB7l2/4mtlQSCGkQk4nUA6olU6Ztka",
    }
    for password, password_hash in hashes.items():
        add_user(db, f"user of {password}", password_hash=password_hash)
        response = client.post(
            "/auth", data={"username": f"user of {password}", "password": password}
        )
        assert response.status_code == 200


def test_head_my_pets_has_no_body(send: Send) -> None:
    response = send("HEAD", "/my-pets", headers=bearer(token()))

    assert (response.status, response.body) == (200, b"")
    assert response.headers["Content-Length"] == str(len(PETS))


def test_server_is_gunicorn(server: Server) -> None:
    assert send_to_server(server, "GET", "/healthz").headers["Server"] == "gunicorn"
