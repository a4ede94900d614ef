"""Users as admins see them: list, search, filters, lockouts, sessions."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jwt_server.database import Connection, Database
from jwt_server.users import users
from tests.helpers.admin import PASSWORD, Admin, Rows, add_admin, facts
from tests.helpers.app import Clock, MakeApp
from tests.helpers.auth import DEFAULT_LIMITS, access, guesses, sign_in
from tests.helpers.factories import OPERATOR, SESSION, add_user, everything

NOW = "2023-11-14T22:13:20Z"


def names(boss: Admin, query: str) -> list[str]:
    return [user["username"] for user in boss.get(f"/admin/users?{query}")]


def add_users(db: Connection, *usernames: str) -> list[int]:
    return [add_user(db, username, password_hash="-") for username in usernames]


def test_a_user_has_these_fields(boss: Admin, client: FlaskClient) -> None:
    user = {
        "id": 1, "username": "travis", "admin": False, "claims": {}, "created_at": NOW,
        "disabled": False, "locked_until": None, "last_sign_in_at": None, "sessions": 1,
        "password_expires_at": None,
    }  # fmt: skip

    assert boss.get("/admin/users/1") == user
    assert boss.get("/admin/users?search=travis") == [user]
    sign_in(client)
    user |= {"last_sign_in_at": NOW, "sessions": 2}
    assert boss.get("/admin/users/1") == user
    response = boss.send("GET", "/admin/users")
    assert "bcrypt" not in response.text
    assert response.headers["Cache-Control"] == "no-store"


def test_a_created_user_is_there_and_recorded(
    boss: Admin, client: FlaskClient, db: Connection, rows: Rows
) -> None:
    body = {"username": " Ada\xa0L. ", "admin": True, "claims": {"role": "x"}}
    response = boss.send("POST", "/admin/users", json=body)

    added = response.json
    assert (response.status, response.headers["Location"]) == (201, "/admin/users/3")
    temporary = added.pop("temporary_password")
    assert added == boss.get("/admin/users/3")
    assert (added["username"], added["admin"], added["sessions"]) == ("Ada L.", True, 0)
    details = {"username": "Ada L.", "admin": True, "claims": {"role": "x"}}
    assert [facts(row) for row in rows()] == [
        ("user_added", boss.id, 3, "127.0.0.1", details)
    ]  # fmt: skip
    assert sign_in(client, username="ada l.", password=temporary)
    before = everything(db)
    for name, status in (("ADA L.", 409), ("", 422), ("x" * 65, 422), ("a\u200b", 422)):
        assert boss.send("POST", "/admin/users", json={"username": name}).status == status
    assert boss.send("POST", "/admin/users", json={}).status == 422
    assert everything(db) == before


def test_search_is_by_prefix_in_any_spelling(boss: Admin, db: Connection) -> None:
    add_users(db, "Straße 1", "strasse", "Strand", "Ädle", "ﬁn", "ae", "名前")
    add_users(db, "50%", "5_0", "a\u3000b")

    for search, found in {
        "": ["50%", "5_0", "a b", "ae", "boss", "ﬁn", "strand", "strasse", "strasse 1", "travis",
             "ädle", "名前"],
        "STRASS": ["strasse", "strasse 1"],
        "straß": ["strasse", "strasse 1"],
        "str": ["strand", "strasse", "strasse 1"],
        "ädl": ["ädle"],
        "A\N{COMBINING DIAERESIS}DL": ["ädle"],
        "FI": ["ﬁn"],
        "ﬁ": ["ﬁn"],
        "ｔｒａ": ["travis"],
        "名": ["名前"],
        "5%": [], "50%": ["50%"], "5_": ["5_0"], "_": [], "*": [],
        "a\u3000": ["a b", "ae"], "a\u3000b": ["a b"], "a b": ["a b"],
        "ravis": [], "nobody": [], "x" * 65: [], "x" * 9000: [],
        "\0": [], "a\0": [], "\u202e": [], "tra\u200b": [],
    }.items():  # fmt: skip
        response = boss.send("GET", "/admin/users", query_string={"search": search})
        assert response.status == 200
        shown = [user["username"].casefold() for user in response.json]
        assert shown == [name.casefold().replace("ﬁ", "fi") for name in found], search
    assert len(names(boss, "search=%0a+")) == 12  # outer space is trimmed


@pytest.fixture
def crowd(boss: Admin, db: Connection) -> dict[str, tuple[bool, bool]]:
    """Users of each kind: whether admin, whether disabled."""
    kinds = {
        f"u{number:02}": (number % 2 == 1, number // 2 % 2 == 1) for number in range(24)
    }  # fmt: skip
    for user_id, (admin, disabled) in zip(add_users(db, *kinds), kinds.values(), strict=True):
        users.set_admin(db, user_id, admin=admin, actor=OPERATOR)
        users.set_disabled(db, user_id, disabled=disabled, actor=OPERATOR)
    return kinds


@pytest.mark.parametrize("disabled", [None, True, False])
@pytest.mark.parametrize("admin", [None, True, False])
def test_filters_hold_on_each_page(
    boss: Admin, crowd: dict[str, tuple[bool, bool]], admin: bool | None, disabled: bool | None
) -> None:
    sent = {"admin": admin, "disabled": disabled}
    query = {name: str(flag).lower() for name, flag in sent.items() if flag is not None}
    found, sizes = [], []
    response = boss.send("GET", "/admin/users", query_string=query | {"search": "U", "limit": 5})
    while True:
        found += [user["username"] for user in response.json]
        sizes.append(len(response.json))
        assert {(user["admin"], user["disabled"]) for user in response.json} <= {
            (is_admin, is_disabled)
            for is_admin in ((True, False) if admin is None else (admin,))
            for is_disabled in ((True, False) if disabled is None else (disabled,))
        }
        if "Link" not in response.headers:
            break
        path, _, rest = response.headers["Link"].removeprefix("<").partition(">")
        assert rest == '; rel="next"'
        assert urlsplit(path).path == "/admin/users"
        for name, value in query.items():
            assert f"{name}={value}" in path
        response = boss.send("GET", path)

    assert found == [
        name for name, (is_admin, is_disabled) in crowd.items()
        if admin in {None, is_admin} and disabled in {None, is_disabled}
    ]  # fmt: skip
    assert set(sizes[:-1]) <= {5}


def test_a_user_deleted_between_pages_skips_none(boss: Admin, db: Connection) -> None:
    ids = add_users(db, *"abcdef")
    first = boss.send("GET", "/admin/users?limit=3")
    for user_id in ids[1:4]:
        assert boss.send("DELETE", f"/admin/users/{user_id}").status == 204
    link = first.headers["Link"].removeprefix("<").partition(">")[0]

    assert [user["username"] for user in first.json] == ["a", "b", "boss"]
    assert names(boss, urlsplit(link).query) == ["e", "f", "travis"]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "admin=1", "admin=True", "admin=", "disabled=no",
     "admin=true&admin=true", "search=a&search=a", "after=x", "after=", "after=MQ",
     "after=WzFd", "after=WyJhIiwxXQ", "after=e30", "after=WyJcdWQ4MDAiXQ"],
)  # fmt: skip
def test_a_bad_query_is_422_naming_the_field(boss: Admin, query: str) -> None:
    response = boss.send("GET", f"/admin/users?{query}")

    assert response.status == 422
    assert set(response.json["errors"]) == {query.partition("=")[0]}


@pytest.fixture
def limited(make_app: MakeApp, database: Database) -> Flask:
    return make_app(**DEFAULT_LIMITS)


def test_lockouts_are_shown_and_forgotten(
    limited: Flask, db: Connection, clock: Clock, rows: Rows
) -> None:
    client = limited.test_client()
    boss = add_admin(client, db, int(clock()))
    guess = guesses(client)
    for _ in range(5):
        assert boss.get("/admin/users/1")["locked_until"] is None
        guess()
    assert boss.get("/admin/users/1")["locked_until"] == "2023-11-14T22:13:21Z"
    assert boss.get("/admin/users?search=tra")[0]["locked_until"] == "2023-11-14T22:13:21Z"
    assert boss.get("/admin/users?search=boss")[0]["locked_until"] is None
    clock.advance(1)
    assert boss.get("/admin/users/1")["locked_until"] is None
    guess()
    assert guess(password="mypassword").status_code == 429
    rows()

    unlocked = [boss.send("DELETE", "/admin/users/1/lockout").status for _ in range(2)]

    assert unlocked == [204, 204]
    assert boss.get("/admin/users/1")["locked_until"] is None
    assert [facts(row) for row in rows()] == [("user_unlocked", boss.id, 1, "127.0.0.1", {})]
    assert guess(password="mypassword").status_code == 200


def test_sessions_are_listed_and_ended(
    boss: Admin, client: FlaskClient, db: Connection, clock: Clock, rows: Rows
) -> None:
    user_id = add_user(db, "ada")
    path = f"/admin/users/{user_id}/sessions"
    assert boss.get(path) == []
    mine, other = (sign_in(client, username="ada", password=PASSWORD) for _ in range(2))
    first, second = boss.get(path)
    assert set(first) == {
        "id", "created_at", "last_used_at", "address", "user_agent", "current",
    }  # fmt: skip
    assert first["current"] is False
    assert boss.get(f"/admin/users/{user_id}")["sessions"] == 2
    assert [each["current"] for each in boss.get(f"/admin/users/{boss.id}/sessions")] == [True]
    rows()

    for session, status in ((first["id"], 204), (first["id"], 404), (SESSION, 404)):
        assert boss.send("DELETE", f"{path}/{session}").status == status

    assert (access(client, mine), access(client, other)) == (401, 200)
    assert boss.get(path) == [second]
    assert [row["details"] for row in rows()] == [{"session": first["id"]}]
    assert [boss.send("DELETE", path).status for _ in range(2)] == [204, 204]
    assert access(client, other) == 401
    [row] = rows()
    assert facts(row) == ("sessions_ended", boss.id, user_id, "127.0.0.1", {"sessions": 1})
    assert client.get("/pets", headers=boss.headers).status_code == 200


def test_everyone_can_be_signed_out(
    boss: Admin, client: FlaskClient, rows: Rows, travis: dict[str, str]
) -> None:
    assert boss.send("DELETE", "/admin/sessions").status == 204

    assert [facts(row) for row in rows()] == [
        ("sessions_ended", boss.id, None, "127.0.0.1", {"sessions": 2})
    ]
    for headers in (boss.headers, travis):
        assert client.get("/pets", headers=headers).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None), ("PATCH", "", {"admin": True}), ("PATCH", "", {}), ("DELETE", "", None),
        ("GET", "/sessions", None), ("DELETE", "/sessions", None), ("DELETE", "/lockout", None),
    ],
)  # fmt: skip
def test_an_unknown_user_is_404(
    boss: Admin, db: Connection, method: str, path: str, body: Any
) -> None:
    before = everything(db)
    for user_id in (99, 10**18 - 1):
        response = boss.send(method, f"/admin/users/{user_id}{path}", json=body)
        assert (response.status, response.json["code"]) == (404, "not_found")
    assert everything(db) == before
