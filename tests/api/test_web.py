"""What holds for every response: content negotiation, headers, CORS, request IDs, access log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from jwt_server.errors import InvalidToken, NotSignedIn, ServiceError
from jwt_server.users import users
from jwt_server.web.problems import HTTP_ERRORS
from tests.helpers.app import MakeApp
from tests.helpers.databases import file_of
from tests.helpers.description import fill_path
from tests.helpers.factories import CREDENTIALS, OPERATOR, bearer, spoil, token
from tests.helpers.http import Send, send_to_app
from tests.helpers.sql import every_row

PUBLIC = {
    "auth.issue_token", "auth.refresh", "pages.alive", "pages.ready", "pages.show_asset",
    "pages.show_client", "pages.show_description", "pages.show_docs", "oauth.issue_tokens",
    "oauth.show_keys", "oauth.show_metadata", "oauth.show_metadata_of_path",
    "oauth.show_openid_configuration", "pages.show_panel", "pages.show_panel_file",
}  # fmt: skip # and me.sign_up if sign-up is open


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("application/json, text/plain, */*", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("text/plain", False),
        ("text/plain, application/json;q=0.9", False),
        ("application/json;q=0", False),
        ("application/json;q=0.5, text/*", False),
        ("application/json;q=high", False),
        ("text/plain;charset=utf-8, application/json;q=0.5", False),
        ('text/plain; charset="utf-8";q=0.9, application/json;q=0.8', False),
        ("application/json;profile=x", False),
        ("application/json;q=nan", False),
        ("image/png", False),
        (",;=/", False),
        ('a/b;c="' + '\\"' * 500, False),
        ("application/json".ljust(1025, ","), False),
        ("application/json", True),
        ("application/json".ljust(1024, ","), True),
        ("APPLICATION/JSON", True),
        ("application/json; charset=utf-8", True),
        ('text/plain;profile="a;charset=b", application/json', True),
        ('application/problem+json;x="y\\";charset=z", application/json', True),
        ("application/problem+json", True),
        ("application/*", True),
        ("application/json, */*;q=0.5", True),
        ("application/json;q=0.2, text/plain;q=0.1", True),
        ("text/plain;q=0.5, */*", True),
        ("text/*;q=0.3, application/problem+json;q=0.4", True),
    ],
)
def test_error_content_type_follows_accept(send: Send, accept: str | None, is_json: bool) -> None:
    headers = {} if accept is None else {"Accept": accept}

    refused = send("GET", "/my-pets", headers=headers)
    signed_in = send(
        "POST",
        "/auth",
        headers=headers,
        data="username=travis&password=mypassword",
        content_type="application/x-www-form-urlencoded",
    )

    assert refused.headers["Content-Type"] == (
        "application/problem+json" if is_json else "text/plain; charset=utf-8"
    )
    assert signed_in.headers["Content-Type"] == (
        "application/json" if is_json else "text/plain; charset=utf-8"
    )
    assert refused.headers["Vary"] == signed_in.headers["Vary"] == "Accept"


def test_problem_details_have_all_members(client: FlaskClient) -> None:
    response = client.get("/my-pets", headers={"Accept": "application/json"})

    assert response.get_json() == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "No token.",
        "code": "token_missing",
    }


@pytest.mark.parametrize("prefix", ["", "/login"])
@pytest.mark.usefixtures("database")
def test_the_404_at_the_root_points_to_the_docs(make_app: MakeApp, prefix: str) -> None:
    client = make_app(script_name=prefix).test_client()
    text = client.get(f"{prefix}/")
    problem = client.get(f"{prefix}/", headers={"Accept": "application/json"})

    assert text.status_code == problem.status_code == 404
    assert text.text.endswith(f" at {prefix}/docs.")
    assert problem.get_json()["detail"] == text.text
    assert problem.get_json()["code"] == "not_found"
    assert client.get(f"{prefix}/docs").status_code == 200
    assert "docs" not in client.get(f"{prefix}/nowhere").text


def test_problem_details_name_invalid_fields(client: FlaskClient, travis: dict[str, str]) -> None:
    response = client.post(
        "/pets", json={"species": 5}, headers=travis | {"Accept": "application/json"}
    )

    problem = response.get_json()
    assert problem["code"] == "invalid_fields"
    assert problem["errors"] == {
        "name": ["Missing data for required field."],
        "species": ["Not a valid string."],
    }


FORGED = bearer(token(key=b"another secret of thirty-two bytes and more"))
JSON_BODY = {"content_type": "application/json"}

# Status, method, path and other parts of a request for each code.
CODES: dict[str, tuple[int, str, str, dict[str, Any]]] = {
    "bad_request": (400, "GET", "/pets", {"headers": {"Host": "a" * 300}}),
    "body_too_large": (413, "POST", "/auth", {"data": b"x" * 65537}),
    "credential_required": (422, "POST", "/auth", {}),
    "invalid_fields": (422, "POST", "/auth", {"json": {"username": 1, "password": "x"}}),
    "malformed_body": (400, "POST", "/auth", JSON_BODY | {"data": b"{"}),
    "method_not_allowed": (405, "PUT", "/auth", {}),
    "method_not_implemented": (501, "BREW", "/auth", {}),
    "not_found": (404, "GET", "/nowhere", {}),
    "token_expired": (401, "GET", "/pets", {"headers": bearer(token(exp=1))}),
    "token_forged": (401, "GET", "/pets", {"headers": FORGED}),
    "token_malformed": (401, "GET", "/pets", {"headers": bearer("x")}),
    "token_missing": (401, "GET", "/pets", {}),
    "token_user_gone": (401, "GET", "/pets", {"headers": bearer(token(sub="99", exp=2**40))}),
    "unsupported_media_type": (
        415, "POST", "/pets",
        {"headers": bearer(token(exp=2**40)), "data": b"x", "content_type": "text/plain"},
    ),
    "wrong_credentials": (401, "POST", "/auth", {"json": {"username": "x", "password": "x"}}),
}  # fmt: skip


@pytest.mark.parametrize("code", CODES)
def test_error_code_and_status(client: FlaskClient, code: str) -> None:
    status, method, path, kwargs = CODES[code]
    headers = {"Accept": "application/json"} | kwargs.get("headers", {})

    response = client.open(path, method=method, **kwargs | {"headers": headers})

    problem = response.get_json()
    assert response.status_code == problem["status"] == status
    assert problem["code"] == code


def test_unavailable_database_is_503(
    client: FlaskClient, settings: Settings, travis: dict[str, str]
) -> None:
    spoil(file_of(settings), "missing")
    response = client.get("/pets", headers=travis | {"Accept": "application/json"})

    assert (response.status_code, response.get_json()["code"]) == (503, "database_unavailable")


def test_unexpected_error_is_500(
    client: FlaskClient, db: Connection, travis: dict[str, str]
) -> None:
    db.driver.execute("DROP TABLE pets")
    response = client.get("/pets", headers=travis | {"Accept": "application/json"})

    assert (response.status_code, response.get_json()["code"]) == (500, "internal_error")


def test_every_error_code_is_tested() -> None:
    errors: list[type[ServiceError]] = [ServiceError, *every_subclass(ServiceError)]
    raised = {error.code for error in errors}
    roots = {NotSignedIn.code, InvalidToken.code}  # base classes, never raised

    named = raised - roots | {code for code, _ in HTTP_ERRORS.values()}
    from_the_command_line = {"last_admin", "username_taken"}  # tests/cli/test_users.py
    disabled = {"token_user_disabled"}  # tests/cli/test_users.py
    of_sessions = {
        "insufficient_user_authentication", "refresh_token_invalid", "refresh_token_reused",
        "session_ended", "session_expired", "token_revoked",
    }  # fmt: skip # tests/api/test_sessions.py
    of_accounts = {"signup_closed", "wrong_password"}  # tests/api/test_me.py
    elsewhere = {"database_unavailable", "internal_error", "keys_unavailable"}
    elsewhere |= {"hashing_busy"}  # tests/unit/test_hash_queue.py
    elsewhere |= {"too_many_tries"}  # tests/api/test_attempts.py
    elsewhere |= {"too_many_pets"}  # tests/api/test_pets.py
    elsewhere |= {"unsupported_grant_type"}  # tests/api/test_oauth.py
    elsewhere |= {"admin_required"}  # tests/api/test_admin_guard.py
    elsewhere |= {"password_change_required"}  # tests/api/test_admin_passwords.py
    elsewhere |= from_the_command_line | disabled | of_sessions | of_accounts
    assert named - elsewhere == set(CODES)


def every_subclass(root: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for child in root.__subclasses__():
        yield child
        yield from every_subclass(child)


def test_sign_in_with_accept_json_returns_token_object(client: FlaskClient) -> None:
    response = client.post(
        "/auth",
        json=CREDENTIALS,
        headers={"Accept": "application/json"},
    )

    found = response.get_json()
    assert client.get("/my-pets", headers=bearer(found.pop("access_token"))).status_code == 200
    assert len(found.pop("refresh_token")) < 100
    assert found == {"token_type": "Bearer", "expires_in": 900, "refresh_expires_in": 7 * 86400}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/my-pets"), ("GET", "/nowhere"), ("POST", "/auth"), ("OPTIONS", "/auth"),
     ("GET", "/healthz"), ("GET", "/readyz"), ("PUT", "/auth"), ("DELETE", "/pets/1")],
)  # fmt: skip
def test_every_response_has_security_headers_and_no_cookie(
    send: Send, method: str, path: str
) -> None:
    response = send(method, path, headers={"Cookie": "session=x"})

    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert response.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in response.headers
    assert "html" not in response.headers.get("Content-Type", "")


@pytest.mark.parametrize("offered", ["abcd1234", "a" * 64, "A.b_c-d.123"])
def test_valid_request_id_is_kept(send: Send, offered: str) -> None:
    response = send("GET", "/healthz", headers={"X-Request-ID": offered})

    assert response.headers["X-Request-ID"] == offered


@pytest.mark.parametrize(
    "offered", ["", "short", "a" * 65, "with space", "<script>", 'quote"quote', "ümlaut12"]
)
def test_invalid_request_id_is_replaced(send: Send, offered: str) -> None:
    response = send("GET", "/healthz", headers={"X-Request-ID": offered})

    assert response.headers["X-Request-ID"] != offered
    assert len(response.headers["X-Request-ID"]) == 32


def test_access_log_has_route_and_no_client_data(
    client: FlaskClient, travis: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        client.get("/pets/1?password=mypassword", headers=travis)
        client.get("/no%0Awhere", headers=travis)
        client.open("/auth", method="BR\nEW")
        client.post("/auth", data={"username": "sekret-name", "password": "sekret-password"})

    lines = [record.args for record in caplog.records if "access" in record.name]
    assert [line[:4] for line in lines if isinstance(line, tuple)] == [
        ("GET", "/pets/{pet_id}", "200", None),
        ("GET", "-", "404", "not_found"),
        ("-", "-", "501", "method_not_implemented"),
        ("POST", "/auth", "401", "wrong_credentials"),
    ]
    for secret in ("mypassword", "sekret", travis["Authorization"], "where", "EW"):
        assert secret not in caplog.text


PREFLIGHT = {
    "Origin": "https://app.example.com",
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "authorization, content-type, x-anything",
}


@pytest.mark.parametrize("path", ["/auth", "/my-pets", "/pets/1", "/nowhere", "/healthz"])
def test_preflight_on_any_path_needs_no_token(send: Send, path: str) -> None:
    response = send("OPTIONS", path, headers=PREFLIGHT)

    assert (response.status, response.body) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Access-Control-Max-Age"] == "86400"
    allowed = response.headers["Access-Control-Allow-Headers"].split(", ")
    assert set(allowed) == {"authorization", "content-type", "x-anything"}
    methods = set(response.headers["Access-Control-Allow-Methods"].split(", "))
    assert methods >= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
    assert "Access-Control-Allow-Credentials" not in response.headers


def test_preflight_with_over_1_kib_of_headers_allows_none_of_them(send: Send) -> None:
    headers = PREFLIGHT | {"Access-Control-Request-Headers": "authorization" + ",a" * 1000}

    response = send("OPTIONS", "/auth", headers=headers)

    assert response.status == 204
    assert "Access-Control-Allow-Headers" not in response.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/my-pets"), ("POST", "/auth"), ("GET", "/nowhere"), ("PUT", "/auth"),
     ("BREW", "/auth"), ("OPTIONS", "/auth"), ("GET", "/healthz")],
)  # fmt: skip
def test_every_response_to_an_origin_has_cors_headers(send: Send, method: str, path: str) -> None:
    response = send(method, path, headers={"Origin": "null"})

    assert response.headers.getlist("Access-Control-Allow-Origin") == ["*"]
    exposed = response.headers["Access-Control-Expose-Headers"]
    assert exposed == "Link, Location, Retry-After, WWW-Authenticate, X-Request-ID"
    assert "Access-Control-Allow-Credentials" not in response.headers


def test_no_cors_headers_without_origin(send: Send) -> None:
    response = send("GET", "/my-pets")

    assert not [name for name, _ in response.headers if name.startswith("Access-Control")]


SHARED = [
    "/.well-known/jwks.json", "/openapi.json", "/client.js", "/docs/docs.js", "/docs/docs.css",
    "/admin/app.js", "/admin/admin.css",
]  # fmt: skip


@pytest.mark.parametrize("path", SHARED)
@pytest.mark.parametrize("origins", [("*",), ("https://app.example.com",)])
@pytest.mark.parametrize("origin", [None, "https://app.example.com", "https://other.example.com"])
def test_public_response_is_readable_from_every_origin(
    make_app: MakeApp, database: Database, path: str, origins: tuple[str, ...], origin: str | None
) -> None:
    get = partial(send_to_app, make_app(cors_origins=origins).test_client(), "GET", path)
    headers = {"Origin": origin} if origin else {}

    first = get(headers=headers)
    again = get(headers=headers | {"If-None-Match": first.headers.get("ETag", "")})

    assert (first.status, again.status) == (200, 304 if path.endswith((".js", ".css")) else 200)
    for response in (first, again):
        is_for_all = response.headers.get("Cross-Origin-Resource-Policy") == "cross-origin"
        assert is_for_all == (path == "/client.js")
        assert response.headers.getlist("Access-Control-Allow-Origin") == ["*"]
        assert "X-Request-ID" in response.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in response.headers
        assert "Origin" not in response.headers.get("Vary", "")


ORIGINS = ("https://app.example.com", "http://[::1]:5173")


@pytest.fixture
def strict_client(make_app: MakeApp) -> FlaskClient:
    """A client of the app with two origins in CORS_ORIGINS."""
    return make_app(cors_origins=ORIGINS).test_client()


@pytest.mark.parametrize("origin", ORIGINS)
def test_listed_origin_is_allowed(strict_client: FlaskClient, origin: str) -> None:
    for response in (
        strict_client.get("/my-pets", headers={"Origin": origin}),
        strict_client.options("/auth", headers=PREFLIGHT | {"Origin": origin}),
    ):
        assert response.headers["Access-Control-Allow-Origin"] == origin
        assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example.com", "https://appXexample.com", "https://app.example.com.evil",
     "https://app.example.com:8443", "http://app.example.com", "null", "http://:"],
)  # fmt: skip
def test_unlisted_origin_gets_no_cors_headers(strict_client: FlaskClient, origin: str) -> None:
    for response in (
        strict_client.get("/my-pets", headers={"Origin": origin}),
        strict_client.options("/auth", headers=PREFLIGHT | {"Origin": origin}),
    ):
        assert not [name for name, _ in response.headers if name.startswith("Access-Control")]
        assert "Origin" in response.headers["Vary"]


def test_every_route_is_public_or_requires_a_token(app: Flask) -> None:
    client = app.test_client()
    seen = set()
    for rule in app.url_map.iter_rules():
        seen.add(rule.endpoint)
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
            refused = send_to_app(client, method, fill_path(rule.rule)).status in {401, 403}
            assert refused != (rule.endpoint in PUBLIC), rule
    assert seen >= PUBLIC


# Method overrides of other frameworks, and valid fields for the routes that change something.
OVERRIDES = {"X-HTTP-Method-Override": "DELETE", "X-Method-Override": "DELETE"}
CHANGES = CREDENTIALS | {"name": "Rex", "new_password": "correct horse battery"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_get_changes_no_row(
    make_app: MakeApp, db: Connection, travis: dict[str, str], method: str
) -> None:
    """Not even `last_used_at` of the session: a request with an access token is not recorded."""
    app = make_app(signup="open")
    users.set_admin(db, 1, admin=True, actor=OPERATOR)
    client, before = app.test_client(), every_row(db)
    assert {"audit", "known_addresses", "pets", "sessions", "throttle", "users"} <= set(before)

    send = partial(send_to_app, client, method)
    for rule in app.url_map.iter_rules():
        path = fill_path(rule.rule)
        plain = send(path, headers=travis)
        send(f"{path}?scope=global", headers=travis | OVERRIDES, json=CHANGES)
        send(f"{path}?_method=DELETE", headers=travis, data=CHANGES)
        read = {404} if rule.endpoint in NEED_A_URL else {200, 204}
        assert plain.status in (read if is_read(app, rule.rule) else {405}), rule

    assert every_row(db) == before
    client.post("/pets", headers=travis, json={"name": "Rex"})
    assert every_row(db) != before  # the comparison detects changes


NEED_A_URL = {
    "oauth.show_metadata", "oauth.show_metadata_of_path", "oauth.show_openid_configuration",
}  # fmt: skip
"""Nothing is there unless the issuer is a URL."""


def is_read(app: Flask, path: str) -> bool:
    """Tell whether a route of this path accepts GET."""
    return any(
        rule.rule == path and "GET" in (rule.methods or ()) for rule in app.url_map.iter_rules()
    )


def test_invalid_host_returns_400(send: Send) -> None:
    assert send("GET", "/pets", headers={"Host": "a" * 300} | bearer(token())).status == 400


def test_error_outside_of_routes_has_all_headers(
    app: Flask, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("the cause")

    hooks = app.before_request_funcs.get(None, [])
    monkeypatch.setitem(app.before_request_funcs, None, [broken, *hooks])
    response = app.test_client().get("/healthz", headers={"Origin": "null"})

    assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (500, "*")
    assert "the cause" in caplog.text
    assert "cause" not in response.text
