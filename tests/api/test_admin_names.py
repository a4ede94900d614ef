"""Names that look like HTML, run from right to left, or combine: text and nothing else."""

from __future__ import annotations

import json
import logging

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jwt_server.database import Connection
from tests.helpers.admin import PASSWORD, Admin
from tests.helpers.auth import sign_in
from tests.helpers.factories import add_user, bearer

NAMES = [
    "<img src=x onerror=alert(1)>",
    "\u05d0\u05d1\u05d2 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 abc",
    "z\u0335\u0327\u030d\u0308\xe1\u0322\u035e",
    "';DROP TABLE users;--",
    "{{7*7}}${7*7}%s",
    '"quoted", \\back\\slash',
    "\N{FAMILY} \N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E}",
]
REFUSED = [
    "\u202eevil", "a\u2066b", "a\u200db", "a\u200bb", "\ufeffa", "a\x1b[31mb", "a\rb", "a\u2028b",
    "a\u034fb", "a\U000e0041",
]  # fmt: skip
"""Each has an invisible character, or one that a terminal obeys."""


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_an_odd_name_is_text_everywhere(
    app: Flask, client: FlaskClient, boss: Admin, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    response = boss.send("POST", "/admin/users", json={"username": name})
    added = response.json
    assert (response.status, added["username"]) == (201, name)
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    user_id, password = added["id"], added["temporary_password"]
    assert boss.send("GET", "/admin/users", query_string={"search": name}).json[0]["id"] == user_id

    by_name = sign_in(client, username=name, password=password)
    body = {"current_password": password, "new_password": "a long passphrase"}
    headers = bearer(by_name["access_token"])
    tokens = client.put("/me/password", json=body, headers=headers).get_json()
    headers = bearer(tokens["access_token"])
    assert client.get("/me/export", headers=headers).get_json()["users"][0]["username"] == name
    assert client.get("/auth/verify", headers=headers).headers["X-Auth-Username"].isascii()

    [row] = boss.get(f"/admin/audit?user={user_id}&action=user_added")
    assert (row["username"], row["details"]["username"]) == (name, name)
    lines = [each.getMessage() for each in caplog.records if each.name == "jwt_server.audit"]
    assert all(line.isascii() and "\n" not in line for line in lines)
    assert f"username={json.dumps(name)}" in lines[0]

    run = app.test_cli_runner().invoke
    for args in (["list"], ["show", "--", name]):
        done = run(args=["users", *args])
        assert done.exit_code == 0, done.output
        assert name in done.stdout
    shown = json.loads(run(args=["users", "show", "--json", "--", name]).stdout)
    assert shown["username"] == name
    assert name in run(args=["audit"]).stdout
    assert boss.send("DELETE", f"/admin/users/{user_id}").status == 204


@pytest.mark.parametrize("name", REFUSED, ids=range(len(REFUSED)))
def test_a_name_with_an_invisible_character_is_refused(
    boss: Admin, db: Connection, name: str
) -> None:
    user_id = add_user(db, "ada")
    for response in (
        boss.send("POST", "/admin/users", json={"username": name, "password": PASSWORD}),
        boss.change(user_id, username=name),
    ):
        assert response.status == 422
        assert set(response.json["errors"]) == {"username"}


def test_an_error_repeats_no_markup_as_html(boss: Admin) -> None:
    for path in ("/admin/<script>", "/admin/users?admin=<script>alert(1)</script>"):
        response = boss.send("GET", path)
        assert response.status in {404, 422}
        assert "<script>" not in response.text
        assert response.headers["Content-Type"] == "application/problem+json"
