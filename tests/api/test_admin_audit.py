"""The audit log as admins read it: selections, pages, and nothing secret."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient

from jwt_server import audit
from jwt_server.audit import Action, Actor
from jwt_server.database import Connection
from jwt_server.security import passwords
from jwt_server.users import users
from tests.helpers.admin import PASSWORD, Admin, Rows, facts
from tests.helpers.app import Clock
from tests.helpers.auth import HOME, STRANGER, guesses, sign_in
from tests.helpers.factories import CREDENTIALS, OPERATOR, add_user, bearer, execute

START = 1_600_000_000
"""When the rows of `history` begin, long before those of other tests' users."""


@pytest.fixture
def history(boss: Admin, db: Connection) -> list[dict[str, Any]]:
    """Rows of two users by three actors, three in each second; the clock stepped back midway."""
    made = []
    kinds = list(product((Action.SESSION_ENDED, Action.PASSWORD_SET), (1, boss.id), (1, 2, None)))
    with db.transaction():
        db.driver.execute("DELETE FROM audit")
        for number, (action, user, actor) in enumerate(kinds * 5):
            at = START + number // 3 - (10 if number > 30 else 0)
            audit.record(db, Actor(actor, HOME, at), action, user, number=number)
            made.append({"at": at, "action": action, "user": user, "actor": actor, "n": number})
    made.sort(key=lambda row: (row["at"], row["n"]), reverse=True)
    return made


def read_pages(boss: Admin, query: dict[str, Any]) -> list[int]:
    """Return the numbers of the rows on all pages, and check that the links keep the query."""
    found = []
    response = boss.send("GET", "/admin/audit", query_string=query)
    while True:
        assert response.status == 200, response.text
        found += [row["details"]["number"] for row in response.json]
        if "Link" not in response.headers:
            return found
        assert len(response.json) == query["limit"]
        url = urlsplit(response.headers["Link"].removeprefix("<").partition(">")[0])
        kept = {name: value for name, [value] in parse_qs(url.query).items() if name != "after"}
        assert kept == {name: str(value) for name, value in query.items()}
        response = boss.send("GET", f"{url.path}?{url.query}")


@pytest.mark.parametrize("limit", [3, 7, 100])
def test_selections_and_their_pages(boss: Admin, history: list[dict[str, Any]], limit: int) -> None:
    since, until = "2020-09-13T12:26:42Z", "2020-09-13T12:26:50Z"
    for user, actor, action, times in product(
        (None, 1, 99), (None, boss.id), (None, "password_set"), product((0, 1), (0, 1))
    ):
        query: dict[str, Any] = {"limit": limit}
        query |= {"user": user} if user else {}
        query |= {"actor": actor} if actor else {}
        query |= {"action": action} if action else {}
        query |= {"since": since} if times[0] else {}
        query |= {"until": until} if times[1] else {}

        assert read_pages(boss, query) == [
            row["n"]
            for row in history
            if user in {None, row["user"]}
            and actor in {None, row["actor"]}
            and action in {None, row["action"]}
            and (not times[0] or row["at"] >= START + 2)
            and (not times[1] or row["at"] < START + 10)
        ], query


def test_rows_are_newest_first_with_current_names(
    boss: Admin, db: Connection, client: FlaskClient
) -> None:
    user_id = add_user(db, "Ada")
    boss.change(user_id, username="Eve")

    row, *_ = boss.get("/admin/audit")

    assert row.pop("id") == len(boss.get("/admin/audit"))
    assert row == {
        "at": "2023-11-14T22:13:20Z", "action": "user_renamed", "actor_id": boss.id,
        "actor": "boss", "user_id": user_id, "username": "Eve", "address": "127.0.0.1",
        "details": {"username": "Eve", "former_username": "Ada"},
    }  # fmt: skip
    boss.change(boss.id, username="chief")
    assert boss.get("/admin/audit")[1]["actor"] == "chief"


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "user=0", "user=-1", "user=x", "user=9999999999999999999", "actor=01",
     "action=nonsense", "action=", "since=x", "since=", "until=2026-13-01", "until=1700000000",
     "user=1&user=1", "since=2026-01-01&since=2026-01-01", "after=x", "after=WzFd",
     "after=WzEsMiwzXQ", "after=WzEsIjIiXQ", "after=WzEsLTJd", "after=WzEsdHJ1ZV0"],
)  # fmt: skip
def test_a_bad_query_is_422_naming_the_field(boss: Admin, query: str) -> None:
    response = boss.send("GET", f"/admin/audit?{query}")

    assert response.status == 422
    assert set(response.json["errors"]) == {query.partition("=")[0]}


@pytest.mark.parametrize(
    ("since", "is_found"),
    [("2020-09-13T12:26:40Z", True), ("2020-09-13T12:26:41Z", False),
     ("2020-09-13T14:26:40%2b02:00", True), ("2020-09-13T14:26:41%2b02:00", False),
     ("2020-09-13", True), ("2020-09-14", False), ("0001-01-01", True), ("9999-12-31", False),
     ("2020-09-13T12:26:40", True), ("2020-09-13 12:26:41", False)],
)  # fmt: skip
def test_times_are_iso_8601(boss: Admin, db: Connection, since: str, is_found: bool) -> None:
    audit.record(db, Actor(None, HOME, START), Action.SIGNED_UP, 7)

    found = boss.get(f"/admin/audit?user=7&since={since}")

    assert (len(found) == 1) is is_found


def test_a_deletion_removes_name_claims_and_address_from_older_rows(
    boss: Admin, client: FlaskClient, db: Connection
) -> None:
    body = {"username": "Ada", "claims": {"role": "countess"}}
    added = boss.send("POST", "/admin/users", json=body).json
    user_id, credentials = added["id"], {"username": "Ada", "password": PASSWORD}
    boss.change(user_id, username="Eve", claims={"role": "duchess"}, admin=True)
    password = boss.set_password(user_id)["temporary_password"]
    guesses(client)("Eve", address=STRANGER)
    client.post(
        "/auth", data=credentials | {"username": "Eve", "password": password},
        environ_overrides={"REMOTE_ADDR": HOME},
    )  # fmt: skip

    assert boss.send("DELETE", f"/admin/users/{user_id}").status == 204

    last, *older = boss.get(f"/admin/audit?user={user_id}")
    assert (last["action"], last["details"]) == ("user_deleted", {"username": "Eve"})
    assert (last["actor"], last["username"], last["address"]) == ("boss", None, "127.0.0.1")
    assert [row["action"] for row in older] == [
        "signed_in", "sign_in_failed", "password_set", "user_claims_set", "user_promoted",
        "user_renamed", "user_added",
    ]  # fmt: skip
    assert {row["username"] for row in older} == {None}
    assert {row["address"] for row in older if row["actor"] != "boss"} == {None}
    assert {row["address"] for row in older if row["actor"] == "boss"} == {"127.0.0.1"}
    kept = json.dumps(older)
    for text in ("Ada", "Eve", "countess", "duchess", HOME, STRANGER):
        assert text not in kept
    by_ada = boss.get(f"/admin/audit?actor={user_id}")
    assert {(row["actor"], row["address"]) for row in by_ada} == {(None, None)}


def test_every_change_has_one_row(boss: Admin, client: FlaskClient, rows: Rows) -> None:
    """With its actor, user and details; and a log line, neither with a password or token."""
    sign_in(client)
    [session, _] = boss.get("/admin/users/1/sessions")
    rows()
    address = "127.0.0.1"
    for method, path, body, action, details in (
        ("POST", "", {"username": "Ada", "claims": {"a": 1}}, "user_added",
         {"username": "Ada", "admin": False, "claims": {"a": 1}}),
        ("POST", "", {"username": "Eve"}, "user_added", {"username": "Eve", "admin": False}),
        ("PATCH", "/1", {"username": "Tom"}, "user_renamed",
         {"username": "Tom", "former_username": "travis"}),
        ("PATCH", "/1", {"admin": True}, "user_promoted", {}),
        ("PATCH", "/1", {"admin": False}, "user_demoted", {}),
        ("PATCH", "/1", {"claims": {"b": []}}, "user_claims_set", {"claims": {"b": []}}),
        ("DELETE", f"/1/sessions/{session['id']}", None, "session_ended", {}),
        ("DELETE", "/1/sessions", None, "sessions_ended", {"sessions": 1}),
        ("PATCH", "/1", {"disabled": True}, "user_disabled", {}),
        ("PATCH", "/1", {"disabled": False}, "user_enabled", {}),
        ("PUT", "/1/password", {}, "password_set", {"sessions_ended": 0}),
        ("PUT", "/1/password", {"password": PASSWORD}, "password_set", {"sessions_ended": 0}),
        ("DELETE", "/1", None, "user_deleted", {"username": "Tom"}),
    ):  # fmt: skip
        response = boss.send(method, f"/admin/users{path}", json=body)
        assert response.status in {200, 201, 204}, response.text
        user_id = response.json["id"] if method == "POST" else 1
        assert [facts(row) for row in rows()] == [(action, boss.id, user_id, address, details)]


def test_log_lines_have_the_row_and_no_secret(
    boss: Admin, client: FlaskClient, db: Connection, clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level("INFO")
    temporary = boss.set_password(1)["temporary_password"]
    tokens = sign_in(client, password=temporary)
    refused = client.get("/admin/users", headers=bearer(tokens["access_token"]))

    lines = [each for each in caplog.records if each.name == "jwt_server.audit"]
    assert [each.__dict__["action"] for each in lines] == [
        "password_set", "signed_in", "admin_refused",
    ]  # fmt: skip
    assert (lines[0].__dict__["actor_id"], lines[0].__dict__["user_id"]) == (boss.id, 1)
    assert refused.status_code == 403
    for secret in (temporary, tokens["access_token"], tokens["refresh_token"]):
        assert secret not in caplog.text


def test_a_sign_in_that_fails_after_the_deletion_does_not_name_the_user(
    client: FlaskClient, db: Connection, clock: Clock, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete_meanwhile(*_args: Any) -> None:
        users.remove(db, 1, actor=replace(OPERATOR, now=int(clock())))

    monkeypatch.setattr(passwords.Hasher, "verify_and_renew", delete_meanwhile)
    rows()
    refused = client.post("/auth", data=CREDENTIALS | {"password": "wrong"})

    assert refused.status_code == 401
    deleted, failed = rows()
    assert (deleted["action"], failed["action"]) == ("user_deleted", "sign_in_failed")
    assert (failed["user_id"], list(failed["details"])) == (None, ["unknown_name"])


@pytest.mark.parametrize("reason", ["disabled", "temporary_password_expired"])
def test_a_refused_sign_in_says_why_in_the_audit_log_only(
    boss: Admin, client: FlaskClient, db: Connection, clock: Clock, rows: Rows, reason: str
) -> None:
    if reason == "disabled":
        boss.change(1, disabled=True)
    else:
        execute(db, "UPDATE users SET password_expires_at = ?", int(clock()))
    rows()
    refused = client.post("/auth", data=CREDENTIALS)

    assert (refused.status_code, refused.text) == (401, "Incorrect username and/or password.")
    assert [row["details"] for row in rows()] == [{"reason": reason}]
