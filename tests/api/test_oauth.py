"""The OAuth 2.0 token endpoint and the metadata for verifiers."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from jwt_server.web.service import EXTENSION
from tests.helpers.app import Clock, MakeApp
from tests.helpers.auth import access, refresh, sign_in
from tests.helpers.databases import file_of
from tests.helpers.factories import CREDENTIALS, add_user, bearer

PASSWORD = {"grant_type": "password", **CREDENTIALS}
AXIOS = {"Accept": "application/json, text/plain, */*"}


def ask(client: FlaskClient, form: dict[str, Any], status: int = 200) -> dict[str, Any]:
    response = client.post("/auth/token", data=form, headers=AXIOS)

    assert response.status_code == status
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert "WWW-Authenticate" not in response.headers
    body: dict[str, Any] = response.get_json()
    return body


def test_password_grant_opens_a_session(client: FlaskClient) -> None:
    tokens = ask(client, PASSWORD)

    assert set(tokens) == set(sign_in(client))
    assert access(client, tokens) == 200


def test_refresh_token_grant_rotates(client: FlaskClient, clock: Clock) -> None:
    first = ask(client, PASSWORD)
    clock.advance(60)

    second = ask(client, {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]})

    assert second["refresh_token"] != first["refresh_token"]
    assert access(client, second) == 200


def test_what_oauth_libraries_add_is_ignored(client: FlaskClient) -> None:
    added = {"scope": "openid", "client_id": "spa", "client_secret": "x", "audience": "api"}
    headers = {"Authorization": "Basic eDp5"}

    response = client.post("/auth/token", data=PASSWORD | added, headers=headers)

    assert response.status_code == 200
    assert "scope" not in response.get_json()


@pytest.mark.parametrize("empty", ["", None])
def test_a_parameter_without_a_value_counts_as_omitted(client: FlaskClient, empty: Any) -> None:
    left_out = {"client_id": empty, "scope": empty, "refresh_token": empty}

    response = client.post("/auth/token", json=PASSWORD | left_out)

    assert (response.status_code, "error" in response.get_json()) == (200, False)


def test_refresh_route_ignores_what_oauth_libraries_add(client: FlaskClient) -> None:
    tokens = sign_in(client)
    added = {
        "grant_type": "refresh_token", "client_id": "spa", "client_secret": "x", "scope": "a",
        "redirect_uri": "app:/",
    }  # fmt: skip

    response = client.post(
        "/auth/refresh", data={"refresh_token": tokens["refresh_token"], **added}
    )

    assert response.status_code == 200
    assert "refresh_token" in response.get_json()


@pytest.mark.parametrize("username", ["travis", "nobody", "off"])
def test_wrong_password_is_an_invalid_grant_for_all_names(
    client: FlaskClient, db: Connection, username: str
) -> None:
    add_user(db, "off")
    db.driver.execute("UPDATE users SET disabled = 1 WHERE username = 'off'")

    error = ask(client, PASSWORD | {"username": username, "password": "wrong"}, 400)

    assert error == {
        "error": "invalid_grant",
        "error_description": "Incorrect username and/or password.",
    }


def test_refresh_errors_are_invalid_grants(client: FlaskClient, clock: Clock) -> None:
    first = sign_in(client)["refresh_token"]
    refresh(client, first)
    clock.advance(60)

    for token in ("r1.x", first, first):  # unknown, reused, of an ended session
        error = ask(client, {"grant_type": "refresh_token", "refresh_token": token}, 400)
        assert error["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"grant_type": "password"},
        {"grant_type": "password", "username": "travis"},
        {"grant_type": "password", "username": "", "password": "mypassword"},
        {"grant_type": "refresh_token"},
        {"grant_type": ["password", "password"], **CREDENTIALS},
        PASSWORD | {"username": "x" * 65},
        PASSWORD | {"password": "x" * 257},
        PASSWORD | {"client_id": "x" * 129},
        PASSWORD | {"client_id": "é"},
        PASSWORD | {"client_id": "x\n"},
        PASSWORD | {"scope": ["a", "b"]},
        PASSWORD | {"username": "a\0b"},
    ],
)
def test_unusable_parameters_are_an_invalid_request(
    client: FlaskClient, form: dict[str, Any]
) -> None:
    error = ask(client, form, 400)

    assert error["error"] == "invalid_request"
    assert CREDENTIALS["password"] not in error["error_description"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"grant_type=%ff%", "application/x-www-form-urlencoded"),
        (b"grant_type=password", "text/plain"),
        (b"{", "application/json"),
        (b"x" * 70_000, "application/x-www-form-urlencoded"),
    ],
)
def test_unreadable_body_is_an_invalid_request(
    client: FlaskClient, body: bytes, content_type: str
) -> None:
    response = client.post("/auth/token", data=body, content_type=content_type)

    assert response.status_code == 400
    assert response.get_json()["error"] == "invalid_request"


@pytest.mark.parametrize("grant_type", ["client_credentials", "authorization_code", "PASSWORD"])
def test_other_grant_types_are_unsupported(client: FlaskClient, grant_type: str) -> None:
    error = ask(client, {"grant_type": grant_type, "username": "x" * 65, "scope": ["a", "b"]}, 400)

    assert error["error"] == "unsupported_grant_type"


def test_errors_outside_of_the_route_are_in_json_too(client: FlaskClient, db: Connection) -> None:
    db.driver.execute("ALTER TABLE users RENAME TO others")

    for method, status, error in (
        ("GET", 405, "invalid_request"),
        ("PROPFIND", 501, "invalid_request"),
        ("POST", 500, "server_error"),
    ):
        response = client.open("/auth/token/", method=method, data=PASSWORD)
        assert (response.status_code, response.get_json()["error"]) == (status, error)
        assert ("Allow" in response.headers) is (status != 500)
        assert "users" not in response.text


def test_limits_are_shared_with_the_other_sign_in(make_app: MakeApp, database: Database) -> None:
    client = make_app(throttle_pair=5).test_client()
    wrong = PASSWORD | {"password": "wrong"}
    for _ in range(5):
        ask(client, wrong, 400)

    response = client.post("/auth/token", data=wrong)

    assert response.status_code == 429
    assert response.get_json()["error"] == "temporarily_unavailable"
    assert int(response.headers["Retry-After"]) >= 1
    assert client.post("/auth", data=CREDENTIALS).status_code == 429


def test_missing_database_is_temporarily_unavailable(
    client: FlaskClient, settings: Settings
) -> None:
    file_of(settings).unlink()

    response = client.post("/auth/token", data=PASSWORD)

    assert response.status_code == 503
    assert response.get_json()["error"] == "temporarily_unavailable"
    assert "Retry-After" in response.headers


def test_a_token_of_rfc_9068_without_a_client_is_malformed(
    make_app: MakeApp, database: Database, clock: Clock
) -> None:
    app = make_app(jwt_algorithm="ES256", jwt_typ="at+jwt")
    assert app.test_cli_runner().invoke(args=["keys", "rotate"]).exit_code == 0
    token = ask(app.test_client(), PASSWORD)["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    key = app.extensions[EXTENSION].tokens.keys.signing_key(clock())
    headers = {**key.header, "typ": "at+jwt"}
    good = jwt.encode(claims, key.signing, "ES256", headers)
    bad = jwt.encode(claims | {"client_id": 1}, key.signing, "ES256", headers)

    def read(token: str) -> TestResponse:
        return app.test_client().get("/pets", headers=bearer(token))

    assert read(good).status_code == 200
    assert (read(bad).status_code, read(bad).text) == (401, "Malformed token.")


def test_the_length_of_a_password_is_that_of_its_nfc(client: FlaskClient, db: Connection) -> None:
    add_user(db, "ada", "é" * 200)
    form = {"grant_type": "password", "username": "ada", "password": "e\u0301" * 200}

    assert access(client, ask(client, form)) == 200


def test_a_body_that_is_cut_off_is_an_invalid_request(client: FlaskClient) -> None:
    response = client.post(
        "/auth/token",
        input_stream=BytesIO(b"grant_type"),
        content_type="application/x-www-form-urlencoded",
        environ_overrides={"CONTENT_LENGTH": "100"},
    )

    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_request")


PATHS = ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "issuer",
    ["HTTPS://login.example.com", "https://example.com/login/", "http://localhost:3000",
     "http://127.0.0.2", "https://[2001:db8::1]:8443"],
)  # fmt: skip
def test_metadata_names_keys_and_token_endpoint(make_app: MakeApp, path: str, issuer: str) -> None:
    app: Flask = make_app(jwt_algorithm="EdDSA", jwt_issuer=issuer)

    response = app.test_client().get(path)

    base = issuer.rstrip("/")
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "public, max-age=600"
    assert response.get_json() == {
        "issuer": issuer,
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "token_endpoint": f"{base}/auth/token",
        "grant_types_supported": ["password", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["none"],
        "response_types_supported": [],
    }


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("algorithm", "issuer"),
    [
        ("HS256", "https://login.example.com"),
        ("EdDSA", "jwt-server"),
        ("EdDSA", "http://login.example.com"),
        ("EdDSA", "https://"),
        ("EdDSA", "https://example.com/?x"),
        ("EdDSA", "https://example.com#"),
        ("EdDSA", "https://ada@example.com"),
        ("EdDSA", "https://example.com:99999"),
        ("EdDSA", "https://[::1"),
    ],
)
def test_no_metadata_without_a_url_or_public_keys(
    make_app: MakeApp, path: str, algorithm: str, issuer: str
) -> None:
    app: Flask = make_app(jwt_algorithm=algorithm, jwt_issuer=issuer)

    assert app.test_client().get(path).status_code == 404


@pytest.mark.parametrize(
    ("issuer", "path", "status"),
    [("https://example.com/a/b/", "a/b", 200), ("https://example.com/a/b", "a", 404),
     ("https://example.com", "a", 404)],
)  # fmt: skip
def test_metadata_of_an_issuer_with_a_path_has_it_at_the_end(
    make_app: MakeApp, issuer: str, path: str, status: int
) -> None:
    app: Flask = make_app(jwt_algorithm="EdDSA", jwt_issuer=issuer)

    response = app.test_client().get(f"{PATHS[1]}/{path}")

    assert response.status_code == status
    assert ("issuer" in response.text) is (status == 200)


def test_typ_and_client_id_of_rfc_9068(make_app: MakeApp, database: Database) -> None:
    changes: dict[str, Any] = {"jwt_algorithm": "ES256"}
    plain = make_app(**changes).test_client()
    typed = make_app(**changes, jwt_typ="at+jwt").test_client()
    app = plain.application.test_cli_runner().invoke(args=["keys", "rotate"])
    assert app.exit_code == 0
    before = ask(plain, PASSWORD)

    named = ask(typed, PASSWORD | {"client_id": "spa"})
    unnamed = sign_in(typed)

    for tokens, client_id in ((named, "spa"), (unnamed, "jwt-server")):
        assert jwt.get_unverified_header(tokens["access_token"])["typ"] == "at+jwt"
        claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
        assert claims["client_id"] == client_id
    refreshed = refresh(typed, named["refresh_token"])
    claims = jwt.decode(refreshed["access_token"], options={"verify_signature": False})
    assert claims["client_id"] == "spa"
    for client in (plain, typed):  # switching leaves valid tokens valid
        assert {access(client, each) for each in (before, named, unnamed, refreshed)} == {200}
    changed = typed.put(
        "/me/password",
        json={"current_password": CREDENTIALS["password"], "new_password": "correct horse battery"},
        headers=bearer(refreshed["access_token"]),
    ).get_json()
    claims = jwt.decode(changed["access_token"], options={"verify_signature": False})
    assert claims["client_id"] == "spa"
    claims = jwt.decode(before["access_token"], options={"verify_signature": False})
    assert "client_id" not in claims
