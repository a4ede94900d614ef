"""Custom claims: what an admin may set, and where they are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient

from jwt_server.database import Connection, Database
from jwt_server.users import claims, users
from tests.helpers.admin import PASSWORD, Admin, add_admin
from tests.helpers.app import Clock, MakeApp
from tests.helpers.auth import JSON, Tokens, refresh, sign_in
from tests.helpers.factories import OPERATOR, add_user, bearer, everything, execute

ROLE = {"role": "editor", "https://hasura.io/jwt/claims": {"x-hasura-role": "user"}}
REGISTERED = {"iss", "aud", "sub", "iat", "exp", "jti", "sid", "admin"}


def payload(access_token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(access_token, options={"verify_signature": False})
    return found


def custom(tokens: Tokens) -> dict[str, Any]:
    """Return the claims of an access token that are not the service's own."""
    found = payload(tokens["access_token"])
    return {name: found[name] for name in found.keys() - REGISTERED - {"client_id"}}


def of_size(size: int, character: str = "x") -> dict[str, str]:
    """Return claims of that many bytes of compact JSON in UTF-8."""
    room = size - len('{"a":""}')
    count, rest = divmod(room, len(character.encode()))
    return {"a": character * count + "x" * rest}


VALID: list[dict[str, Any]] = [
    {},
    ROLE,
    of_size(1024),
    of_size(1024, "é"),  # six times as long when escaped
    of_size(1024, "\N{CAT}"),
    {"a": {"b": {"c": {}}}},
    {"a": [{"b": [1]}]},
    {"": "", "a\nb": "\x7f\u202e", "Role": None, "__proto__": {"admin": True}},
    {"a": [True, None, 1 - 2**53, 2**53 - 1, 1.5, 1e300]},
    {"admins": True, "sub ": 1},
]


@pytest.mark.parametrize("value", VALID, ids=range(len(VALID)))
def test_valid_claims_are_stored_as_sent(boss: Admin, client: FlaskClient, value: Any) -> None:
    added = boss.send("POST", "/admin/users", json={"username": "ada", "claims": value})
    changed = boss.change(1, claims=value)

    assert (added.status, changed.status) == (201, 200)
    assert added.json["claims"] == changed.json["claims"] == value
    assert boss.get("/admin/users/1")["claims"] == value
    tokens = sign_in(client)
    assert custom(tokens) == value
    me = client.get("/me", headers=bearer(tokens["access_token"]))
    assert me.get_json()["claims"] == value


DEEP = "Nested more than 4 deep."
NUMBERS = "Infinite numbers are not allowed."
CHARACTERS = "NUL and lone surrogates are not allowed."
INTEGERS = "Send an integer beyond ±9007199254740991 as a string"
INVALID: list[tuple[str, int, str]] = [
    (json.dumps(of_size(1025), ensure_ascii=False), 422, "1025 bytes of compact JSON"),
    (json.dumps(of_size(1026, "é")), 422, "1026 bytes of compact JSON"),
    ('{"a":{"b":{"c":{"d":{}}}}}', 422, DEEP),
    ('{"a":[[[[]]]]}', 422, DEEP),
    *(('{"a":' + "[" * depth + "]" * depth + "}", 422, DEEP) for depth in (100, 490, 800)),
    ('{"a":' + "[" * 2000 + "]" * 2000 + "}", 400, "nested too deeply"),
    *((json.dumps({name: 1}), 422, f"Reserved for the service or by standards: {name}.")
      for name in sorted(claims.RESERVED)),
    ('{"a":9007199254740992}', 422, INTEGERS),
    ('{"a":{"b":[-9007199254740992]}}', 422, INTEGERS),
    ('{"Admin":true}', 422, "standards: Admin."),
    ('{"\u017fub":"2"}', 422, "standards: "),
    ('{"sub":"2","exp":1}', 422, "standards: exp, sub."),
    ('{"a":NaN}', 400, "NaN is not a JSON value"),
    ('{"a":-Infinity}', 400, "-Infinity is not a JSON value"),
    ('{"a":1e400}', 422, NUMBERS),
    ('{"a":[-1e400]}', 422, NUMBERS),
    (r'{"a":"\ud800"}', 422, CHARACTERS),
    (r'{"\udfff":1}', 422, CHARACTERS),
    (r'{"a":{"b":["\u0000"]}}', 422, CHARACTERS),
    (r'{"a\u0000":1}', 422, CHARACTERS),
    ('{"a":1,"a":2}', 400, "repeated"),
    ('{"a":' + "9" * 5000 + "}", 400, "too many digits"),
    ("[]", 422, "Send a JSON object."),
    ('"x"', 422, "Send a JSON object."),
    ('"{}"', 422, "Send a JSON object."),
    ("1", 422, "Send a JSON object."),
    ("null", 422, "may not be null"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "status", "message"), INVALID, ids=range(len(INVALID)))
def test_invalid_claims_are_refused_by_each_route_and_the_command(
    app: Flask, boss: Admin, db: Connection, text: str, status: int, message: str
) -> None:
    before = everything(db)
    for method, path in (("POST", "/admin/users"), ("PATCH", "/admin/users/1")):
        body = f'{{"username":"ada","claims":{text}}}'
        response = boss.send(method, path, data=body, content_type="application/json")
        assert (response.status, set(response.json.get("errors", {}))) == (
            status, {"claims"} if status == 422 else set(),
        ), response.text  # fmt: skip
        assert message in response.text

    done = app.test_cli_runner().invoke(args=["users", "claims", "travis", "--", text])

    assert done.exit_code in {1, 2}
    assert message in done.output or "null" in message
    assert everything(db) == before


def test_a_form_has_claims_and_flags_as_text(boss: Admin, db: Connection) -> None:
    form = {"username": "ada", "admin": "true", "claims": '{"role":"é","n":[1]}'}
    added = boss.send("POST", "/admin/users", data=form)
    changed = boss.send("PATCH", "/admin/users/1", data={"disabled": "true", "claims": "{}"})

    assert (added.status, added.json["admin"]) == (201, True)
    assert added.json["claims"] == {"role": "é", "n": [1]}
    assert (changed.status, changed.json["disabled"]) == (200, True)
    for field, text in (
        ("claims", "x"), ("claims", ""), ("claims", "[]"), ("claims", '{"a":1,"a":2}'),
        ("claims", '{"a":NaN}'), ("claims", '{"sub":1}'), ("claims", "[" * 9000),
        ("admin", "1"), ("admin", "True"), ("admin", ""), ("disabled", "no"),
    ):  # fmt: skip
        refused = boss.send("PATCH", "/admin/users/1", data={field: text})
        assert (refused.status, set(refused.json["errors"])) == (422, {field}), text
    assert boss.get("/admin/users/1") == changed.json


@pytest.fixture(params=["HS256", "ES256", "at+jwt"])
def issuer(
    request: pytest.FixtureRequest, make_app: MakeApp, database: Database, tmp_path: Path
) -> Flask:
    """An app for each kind of token."""
    settings: dict[str, Any] = {"jwt_algorithm": "ES256", "jwt_keys_dir": tmp_path / "keys"}
    if request.param == "at+jwt":
        settings["jwt_typ"] = "at+jwt"
    app = make_app(**settings) if request.param != "HS256" else make_app()
    if request.param != "HS256":
        app.test_cli_runner().invoke(args=["keys", "rotate"])
    return app


def test_claims_are_in_the_tokens_from_the_next_sign_in_or_refresh_on(
    issuer: Flask, db: Connection, clock: Clock
) -> None:
    client = issuer.test_client()
    old = sign_in(client)
    assert custom(old) == {}

    users.set_claims(db, 1, claims.encode(ROLE), actor=OPERATOR)

    new = refresh(client, old["refresh_token"])
    retried = refresh(client, old["refresh_token"])
    assert retried["refresh_token"] == new["refresh_token"]
    by_text = client.post("/auth", data={"username": "travis", "password": "mypassword"}).text
    form = {"grant_type": "password", "username": "travis", "password": "mypassword"}
    by_oauth = client.post("/auth/token", data=form).get_json()
    for tokens in (new, retried, by_oauth, {"access_token": by_text}, sign_in(client)):
        assert custom(tokens) == ROLE
        assert client.get("/pets", headers=bearer(tokens["access_token"])).status_code == 200
    assert client.get("/pets", headers=bearer(old["access_token"])).status_code == 200
    users.set_claims(db, 1, "{}", actor=OPERATOR)
    clock.advance(1)
    assert custom(refresh(client, new["refresh_token"])) == {}


def test_claims_never_replace_those_of_the_service(
    issuer: Flask, db: Connection, clock: Clock
) -> None:
    """Not even ones that an older release or another program has stored."""
    forged = dict.fromkeys([*REGISTERED, "client_id"], "forged")
    execute(db, "UPDATE users SET claims = ?", json.dumps(forged | {"role": "x"}))

    tokens = sign_in(issuer.test_client())

    found = payload(tokens["access_token"])
    assert found.pop("role") == "x"
    if issuer.extensions["jwt-server"].settings.jwt_typ == "JWT":
        assert found.pop("client_id") == "forged"
    assert "forged" not in found.values()
    assert (found["sub"], found["iat"], found["admin"]) == ("1", int(clock()), False)


LARGEST = [of_size(1024), of_size(1024, "é"), of_size(1024, "\N{CAT}"), of_size(516, "\\")]


def test_the_largest_claims_leave_room_in_the_longest_token(
    make_app: MakeApp, db: Connection, tmp_path: Path
) -> None:
    app = make_app(
        jwt_algorithm="RS256", jwt_keys_dir=tmp_path / "keys", jwt_typ="at+jwt",
        jwt_issuer="https://login.example.com/" + "x" * 100,
    )  # fmt: skip
    app.test_cli_runner().invoke(args=["keys", "rotate"])
    form = {"grant_type": "password", "username": "travis", "password": "mypassword"}
    form["client_id"] = "x" * 128
    for value in LARGEST:
        largest = claims.encode(value)
        assert len(largest.encode()) == 1024
        users.set_claims(db, 1, largest, actor=OPERATOR)

        token = app.test_client().post("/auth/token", data=form).get_json()["access_token"]

        assert payload(token)["a"] == value["a"]
        assert len(token) < 4096
        assert app.test_client().get("/pets", headers=bearer(token)).status_code == 200


def test_claims_are_in_the_export(boss: Admin, client: FlaskClient, db: Connection) -> None:
    user_id = add_user(db, "ada")
    boss.change(user_id, claims=ROLE)
    headers = bearer(sign_in(client, username="ada", password=PASSWORD)["access_token"])

    exported = client.get("/me/export", headers=headers).get_json()

    assert exported["users"][0]["claims"] == ROLE
    assert exported["audit"][0]["details"] == {"claims": ROLE}


def test_users_can_not_set_their_claims(client: FlaskClient, travis: dict[str, str]) -> None:
    for path, body in (("/me", {"username": "travis"}), ("/users", {})):
        sent = body | {"claims": ROLE}
        method = "PATCH" if path == "/me" else "POST"
        response = client.open(path, method=method, json=sent, headers=travis | JSON)
        assert response.status_code in {403, 422}
    assert client.get("/me", headers=travis).get_json()["claims"] == {}


def test_the_commands_show_set_and_clear_claims(
    app: Flask, client: FlaskClient, db: Connection, clock: Clock
) -> None:
    def run(*args: str) -> Any:
        done = app.test_cli_runner().invoke(args=["users", *args])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert json.loads(run("claims", "travis")) == {}
    assert json.loads(run("claims", "TRAVIS", ' {"role" : "\u202eé"} ')) == {"role": "\u202eé"}
    assert json.loads(run("claims", "travis")) == {"role": "\u202eé"}
    assert "\u202e" not in run("show", "travis")
    assert json.loads(run("show", "travis", "--json"))["claims"] == {"role": "\u202eé"}
    assert custom(sign_in(client)) == {"role": "\u202eé"}
    boss = add_admin(client, db, int(clock()))
    assert boss.get("/admin/users/1")["claims"] == {"role": "\u202eé"}
    assert json.loads(run("claims", "travis", "{}")) == {}
    unknown = app.test_cli_runner().invoke(args=["users", "claims", "nobody", "{}"])
    assert (unknown.exit_code, "There is no user 'nobody'." in unknown.output) == (1, True)
