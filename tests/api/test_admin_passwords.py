"""Temporary passwords: set by an admin, valid for 7 days, good for nothing but their change."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient

from jwt_server.database import Connection
from jwt_server.security import passwords
from jwt_server.users import users
from tests.helpers.admin import PASSWORD, Admin, Rows, facts
from tests.helpers.app import Clock
from tests.helpers.auth import DAY, JSON, Tokens, access, refresh, sign_in
from tests.helpers.description import documented, fill_path, operations
from tests.helpers.factories import add_user, bearer, everything
from tests.helpers.http import send_to_app
from tests.helpers.sql import every_row

CHOSEN = "chosen by an admin"
OWN = "a passphrase of my own"


@pytest.fixture(params=["generated", "chosen", "of a new user"])
def temporary(request: pytest.FixtureRequest, boss: Admin, db: Connection) -> dict[str, str]:
    """The credentials of Ada, an admin with claims, whose password is temporary."""
    fields = {"admin": True, "claims": {"role": "editor"}}
    if request.param == "of a new user":
        response = boss.send("POST", "/admin/users", json={"username": "Ada"} | fields)
        return {"username": "Ada", "password": response.json["temporary_password"]}
    user_id = add_user(db, "Ada")
    boss.change(user_id, **fields)
    if request.param == "chosen":
        assert "temporary_password" not in boss.set_password(user_id, password=CHOSEN)
        return {"username": "Ada", "password": CHOSEN}
    return {"username": "Ada", "password": boss.set_password(user_id)["temporary_password"]}


SignIn = Callable[[FlaskClient, dict[str, str]], str]

# Ways to sign in; each returns an access token.
SIGN_INS: dict[str, SignIn] = {
    "text": lambda client, who: client.post("/auth", data=who).text,
    "JSON": lambda client, who: str(sign_in(client, **who)["access_token"]),
    "refreshed": lambda client, who: str(
        refresh(client, sign_in(client, **who)["refresh_token"])["access_token"]
    ),
    "OAuth": lambda client, who: str(
        client.post("/auth/token", data=who | {"grant_type": "password"}).get_json()["access_token"]
    ),
}

ALLOWED = {"PUT /me/password", "POST /auth/logout"}


@pytest.mark.parametrize("way", SIGN_INS)
def test_its_session_may_only_change_the_password_and_sign_out(
    app: Flask, temporary: dict[str, str], db: Connection, way: str
) -> None:
    client = app.test_client()
    token = SIGN_INS[way](client, temporary)
    claims = jwt.decode(token, options={"verify_signature": False})
    send = documented(partial(send_to_app, client))
    before, headers = everything(db), bearer(token) | JSON
    needs_token = {
        name: operation["security"] != []
        for name, operation in operations(client.get("/openapi.json").get_json())
    }
    for name in needs_token.keys() - ALLOWED:
        method, path = name.split()
        refused = send(method, fill_path(path), headers=headers)
        code = refused.json["code"] if refused.status == 403 else None
        assert (code == "password_change_required") is needs_token[name], name
        assert "WWW-Authenticate" not in refused.headers

    assert claims["admin"] is False
    assert "role" not in claims
    assert everything(db) == before
    text = client.get("/my-pets", headers=bearer(token))
    message = "Your password is temporary. Choose another one."
    assert (text.status_code, text.text) == (403, message)
    assert text.content_type == "text/plain; charset=utf-8"
    assert client.post("/auth/logout", headers=bearer(token)).status_code == 204
    assert client.get("/my-pets", headers=bearer(token)).text == "Revoked token. Sign in again."


def change_password(client: FlaskClient, token: str, old: str, new: str) -> Any:
    body = {"current_password": old, "new_password": new}
    return client.put("/me/password", json=body, headers=bearer(token) | JSON)


def test_after_the_change_everything_is_normal(
    client: FlaskClient, boss: Admin, temporary: dict[str, str], clock: Clock
) -> None:
    before = sign_in(client, **temporary)
    old = temporary["password"]
    for new in (old, "short", "ada ADA", "password1"):
        refused = change_password(client, before["access_token"], old, new)
        assert (refused.status_code, set(refused.get_json()["errors"])) == (422, {"new_password"})
    assert change_password(client, before["access_token"], "wrong", OWN).status_code == 403

    tokens = change_password(client, before["access_token"], old, OWN).get_json()

    assert tokens["sessions_ended"] == 1
    assert access(client, before) == 401
    assert "access_token" not in refresh(client, before["refresh_token"])
    assert client.post("/auth", data=temporary).status_code == 401
    clock.advance(8 * DAY)
    temporary["password"] = OWN
    for each in (tokens, sign_in(client, **temporary)):
        claims = jwt.decode(each["access_token"], options={"verify_signature": False})
        assert (claims["admin"], claims["role"]) == (True, "editor")
    headers = bearer(sign_in(client, **temporary)["access_token"])
    assert client.get("/admin/users", headers=headers).status_code == 200
    me = client.get("/me", headers=headers).get_json()
    assert (me["admin"], me["claims"]) == (True, {"role": "editor"})
    assert client.get("/admin/users?search=ada", headers=headers).get_json()[0][
        "password_expires_at"
    ] is None  # fmt: skip


def test_it_expires_after_seven_days(
    client: FlaskClient, temporary: dict[str, str], clock: Clock, rows: Rows
) -> None:
    """Then it is a wrong password like any other."""
    clock.advance(7 * DAY - 1)
    last = sign_in(client, **temporary)
    assert (last["expires_in"], last["refresh_expires_in"]) == (1, 1)
    rows()
    clock.advance(1)

    for ask in ({"headers": JSON}, {}):
        wrong, unknown, expired = (
            client.post("/auth", data=each, **ask)
            for each in (
                temporary | {"password": "wrong"}, temporary | {"username": "nobody"}, temporary,
            )
        )  # fmt: skip
        assert expired.status_code == wrong.status_code == 401
        assert expired.data == wrong.data == unknown.data
        assert {*expired.headers.keys()} == {*wrong.headers.keys()}
    assert {row["action"] for row in rows()} == {"sign_in_failed"}
    assert access(client, last) == 401
    assert refresh(client, last["refresh_token"])["code"] == "session_expired"
    form = temporary | {"grant_type": "password"}
    assert client.post("/auth/token", data=form).get_json()["error"] == "invalid_grant"


def test_sessions_end_with_it_at_the_latest(
    client: FlaskClient, temporary: dict[str, str], clock: Clock
) -> None:
    clock.advance(DAY)
    tokens: Tokens = sign_in(client, **temporary)
    assert tokens["refresh_expires_in"] == 6 * DAY
    clock.advance(5 * DAY)
    tokens = refresh(client, tokens["refresh_token"])
    assert (tokens["expires_in"], tokens["refresh_expires_in"]) == (900, DAY)
    clock.advance(DAY)
    assert refresh(client, tokens["refresh_token"])["code"] == "session_expired"
    assert change_password(client, tokens["access_token"], temporary["password"], OWN)


def test_setting_it_ends_the_users_sessions_and_is_recorded(
    client: FlaskClient, boss: Admin, db: Connection, clock: Clock, rows: Rows,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    user_id = add_user(db, "Ada")
    sessions = [sign_in(client, username="Ada", password=PASSWORD) for _ in range(3)]
    restricted = boss.get(f"/admin/users/{user_id}")
    assert (restricted["sessions"], restricted["password_expires_at"]) == (3, None)
    rows()
    with caplog.at_level("INFO"):
        shown = boss.set_password(user_id)

    password = shown.pop("temporary_password")
    assert (shown["sessions"], shown["password_expires_at"]) == (0, "2023-11-21T22:13:20Z")
    assert {access(client, each) for each in sessions} == {401}
    assert client.post("/auth", data={"username": "Ada", "password": PASSWORD}).status_code == 401
    row, *_ = rows()
    assert facts(row) == ("password_set", boss.id, user_id, "127.0.0.1", {"sessions_ended": 3})
    assert shown == boss.get(f"/admin/users/{user_id}")  # without the password
    assert password not in str(every_row(db)) + caplog.text + json.dumps(boss.get("/admin/audit"))


def test_each_generated_password_is_another_and_fits_the_policy(boss: Admin) -> None:
    passwords = {boss.set_password(1)["temporary_password"] for _ in range(20)}

    assert len(passwords) == 20
    assert all(len(password) >= 28 for password in passwords)


@pytest.mark.parametrize(
    "password", ["7 chars", "password1", "travis42", "x" * 257, "x\0yyyyyyyyy", "", 12345678, None]
)
def test_the_policy_holds_for_a_chosen_one(boss: Admin, db: Connection, password: Any) -> None:
    before = everything(db)
    for method, path, more in (
        ("PUT", "/admin/users/1/password", {}),
        ("POST", "/admin/users", {"username": "travis4"}),
    ):
        refused = boss.send(method, path, json={"password": password} | more)
        assert (refused.status, set(refused.json["errors"])) == (422, {"password"})
    assert everything(db) == before


def test_an_unknown_user_is_404(boss: Admin, db: Connection) -> None:
    before = everything(db)
    for body in ({}, {"password": CHOSEN}):
        assert boss.send("PUT", "/admin/users/99/password", json=body).status == 404
    assert everything(db) == before


def test_a_password_of_the_operator_is_not_temporary(
    app: Flask, client: FlaskClient, boss: Admin, db: Connection
) -> None:
    boss.set_password(1)
    done = app.test_cli_runner().invoke(args=["users", "passwd", "travis", "--generate"])
    password = done.output.split("\n")[0].removeprefix("Password: ")

    assert access(client, sign_in(client, password=password)) == 200
    assert users.get_by_id(db, 1)["password_expires_at"] is None


def test_tokens_of_its_last_seconds_have_no_negative_lifetime(
    boss: Admin, client: FlaskClient, db: Connection, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If hashing takes longer than it is valid."""
    temporary = boss.set_password(1)["temporary_password"]
    clock.advance(7 * DAY - 1)
    verify = passwords.Hasher.verify_and_renew

    def slowly(*args: Any) -> str | None:
        clock.advance(3)
        return verify(*args)

    monkeypatch.setattr(passwords.Hasher, "verify_and_renew", slowly)
    tokens = sign_in(client, password=temporary)

    assert (tokens["expires_in"], tokens["refresh_expires_in"]) == (0, 0)
    assert client.get("/me", headers=bearer(tokens["access_token"])).status_code == 401
