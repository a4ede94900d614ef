"""Accounts over HTTP: sign-up, the user's own account, its password, its export, its end."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from passlib.hash import bcrypt

from jwt_server.config import Settings
from jwt_server.database import PAGE_SIZE, Connection
from jwt_server.users import users
from tests.helpers.app import Clock, MakeApp
from tests.helpers.auth import JSON, access, refresh, sign_in
from tests.helpers.databases import file_of
from tests.helpers.factories import (
    CREDENTIALS,
    INSERT_SESSION,
    OPERATOR,
    add_user,
    bearer,
    bearer_of,
    everything,
    execute,
    execute_many,
    session_row,
)
from tests.helpers.sql import columns, counting_steps, every_row, references, tables

PASSWORD = "correct horse battery"
NEW = {"username": "Ada", "password": PASSWORD}


@pytest.fixture
def open_client(make_app: MakeApp, client: FlaskClient) -> FlaskClient:
    """A client of a service with open sign-up."""
    return make_app(signup="open").test_client()


def test_sign_up_creates_an_account(open_client: FlaskClient, clock: Clock) -> None:
    response = open_client.post("/users", json=NEW)

    assert response.status_code == 201
    assert response.headers["Location"] == "/me"
    assert response.get_json() == {
        "id": 2, "username": "Ada", "admin": False, "claims": {},
        "created_at": "2023-11-14T22:13:20Z",
    }  # fmt: skip
    tokens = sign_in(open_client, username="ADA", password=PASSWORD)
    me = open_client.get("/me", headers=bearer(tokens["access_token"]))
    assert me.get_json() == response.get_json()


def test_outer_space_of_usernames_is_removed(open_client: FlaskClient) -> None:
    new = {"username": " Ada \n", "password": PASSWORD}

    signed_up = open_client.post("/users", json=new)
    again = open_client.post("/users", json=NEW)
    headers = bearer(sign_in(open_client, username="ada\t", password=PASSWORD)["access_token"])
    renamed = open_client.patch("/me", json={"username": "\xa0Ada L. "}, headers=headers)

    assert (signed_up.status_code, signed_up.get_json()["username"]) == (201, "Ada")
    assert again.status_code == 409
    assert (renamed.status_code, renamed.get_json()["username"]) == (200, "Ada L.")


def test_a_new_password_is_not_trimmed(open_client: FlaskClient) -> None:
    passwords = ["8 chars.", " 8 chars", "chars 8 ", "\tchars8\n", "x" * 256]
    for number, password in enumerate(passwords):
        new = {"username": f"ada{number}", "password": password}
        assert open_client.post("/users", json=new).status_code == 201
        assert sign_in(open_client, **new)
        trimmed = new | {"password": password.strip()[:255]}
        status = open_client.post("/auth", data=trimmed).status_code
        assert status == (200 if trimmed == new else 401)


def test_sign_up_is_closed_by_default(client: FlaskClient, db: Connection) -> None:
    response = client.post("/users", json=NEW, headers=JSON)

    assert (response.status_code, response.get_json()["code"]) == (403, "signup_closed")
    assert users.find_by_name(db, "ada") is None


def test_sign_up_with_a_taken_name_returns_409(open_client: FlaskClient) -> None:
    for name in ("travis", "TRAVIS", "ｔravis"):
        response = open_client.post("/users", json=NEW | {"username": name}, headers=JSON)
        assert (response.status_code, response.get_json()["code"]) == (409, "username_taken")


INVALID_SIGN_UPS: list[tuple[dict[str, Any], str]] = [
    ({"username": "", "password": PASSWORD}, "username"),
    ({"username": "a" * 65, "password": PASSWORD}, "username"),
    ({"username": " ", "password": PASSWORD}, "username"),
    ({"username": "\N{DIAERESIS}a", "password": PASSWORD}, "username"),  # a space in NFKC
    ({"username": "a\u200b", "password": PASSWORD}, "username"),
    ({"username": "a\tb", "password": PASSWORD}, "username"),
    ({"username": "a\u115f", "password": PASSWORD}, "username"),
    ({"username": 1, "password": PASSWORD}, "username"),
    ({"password": PASSWORD}, "username"),
    ({"username": "ada"}, "password"),
    ({"username": "ada", "password": "7 chars"}, "password"),
    ({"username": "ada", "password": "x" * 257}, "password"),
    ({"username": "ada", "password": "password1"}, "password"),
    ({"username": "lovelace", "password": "Lovelace1234"}, "password"),
    ({"username": "ada", "password": "x\0yyyyyyyyy"}, "password"),
    ({"username": "ada", "password": PASSWORD, "admin": True}, "admin"),
]


def test_invalid_sign_up_names_the_field(open_client: FlaskClient, db: Connection) -> None:
    for body, field in INVALID_SIGN_UPS:
        response = open_client.post("/users", json=body, headers=JSON)
        assert response.status_code == 422
        assert set(response.get_json()["errors"]) == {field}

    assert [user["username"] for user in users.each_by_name(db)] == ["travis"]


def test_common_passwords_are_refused(
    open_client: FlaskClient, db: Connection, travis: dict[str, str]
) -> None:
    before = everything(db)

    for password in ("password", "jennifer", "Chocolate"):
        change = {"current_password": "mypassword", "new_password": password}
        signed_up = open_client.post("/users", json=NEW | {"password": password})
        changed = open_client.put("/me/password", json=change, headers=travis)
        for refused in (signed_up, changed):
            assert refused.status_code == 422
            assert "one of the most common" in refused.text

    assert everything(db) == before


def test_account_has_no_secrets(client: FlaskClient, travis: dict[str, str]) -> None:
    response = client.get("/me", headers=travis)

    assert set(response.get_json()) == {"id", "username", "admin", "claims", "created_at"}
    assert "bcrypt" not in response.text


def test_rename_needs_a_recent_password(client: FlaskClient, clock: Clock, db: Connection) -> None:
    tokens = sign_in(client)
    headers = bearer(tokens["access_token"]) | JSON

    renamed = client.patch("/me", json={"username": "Travis Ω"}, headers=headers)
    assert (renamed.status_code, renamed.get_json()["username"]) == (200, "Travis Ω")
    assert sign_in(client, username="travis ω")

    add_user(db, "ada")
    for name, status in (("ADA", 409), ("", 422), ("Travis Ω", 200), ("TRAVIS Ω", 200)):
        response = client.patch("/me", json={"username": name}, headers=headers)
        assert response.status_code == status
    clock.advance(15 * 60)
    headers = bearer(refresh(client, tokens["refresh_token"])["access_token"]) | JSON
    late = client.patch("/me", json={"username": "late"}, headers=headers)
    assert (late.status_code, late.get_json()["code"]) == (401, "insufficient_user_authentication")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("PATCH", "/me", {"username": "thief"}, 401, "insufficient_user_authentication"),
        ("PUT", "/me/password", {"new_password": PASSWORD}, 422, "invalid_fields"),
        ("PUT", "/me/password", {"current_password": "x", "new_password": PASSWORD}, 403,
         "wrong_password"),
        ("DELETE", "/me", None, 401, "insufficient_user_authentication"),
        ("DELETE", "/me", {"password": "x"}, 403, "wrong_password"),
    ],
)  # fmt: skip
def test_account_changes_need_the_password(
    client: FlaskClient, clock: Clock, db: Connection,
    method: str, path: str, body: dict[str, str] | None, status: int, code: str,
) -> None:  # fmt: skip
    tokens = sign_in(client)
    clock.advance(15 * 60)
    headers = bearer(refresh(client, tokens["refresh_token"])["access_token"]) | JSON
    before = everything(db)

    response = client.open(path, method=method, json=body, headers=headers)

    assert (response.status_code, response.get_json()["code"]) == (status, code)
    assert everything(db) == before
    assert sign_in(client)


def test_password_change_ends_all_sessions_and_opens_one(client: FlaskClient) -> None:
    mine, other = sign_in(client), sign_in(client)
    body = {"current_password": "mypassword", "new_password": PASSWORD}

    response = client.put("/me/password", json=body, headers=bearer(mine["access_token"]))

    tokens = response.get_json()
    assert response.status_code == 200
    assert tokens.pop("sessions_ended") == 3  # one is the fixture's
    assert set(tokens) == set(mine)
    assert access(client, mine) == access(client, other) == 401
    assert refresh(client, mine["refresh_token"])["code"] == "session_ended"
    assert access(client, tokens) == 200
    assert "access_token" in refresh(client, tokens["refresh_token"])
    assert client.post("/auth", data=CREDENTIALS).status_code == 401
    assert sign_in(client, password=PASSWORD)


def test_refused_password_change_changes_nothing(
    client: FlaskClient, travis: dict[str, str]
) -> None:
    for body, status, named in (
        ({"current_password": "wrong", "new_password": PASSWORD}, 403, "wrong_password"),
        ({"current_password": "wrong", "new_password": "short"}, 403, "wrong_password"),
        ({"current_password": "mypassword", "new_password": "short"}, 422, "new_password"),
        ({"current_password": "mypassword", "new_password": "travis42"}, 422, "new_password"),
        ({"current_password": "mypassword"}, 422, "new_password"),
        ({"new_password": PASSWORD}, 422, "current_password"),
    ):
        response = client.put("/me/password", json=body, headers=travis | JSON)
        assert response.status_code == status
        assert named in response.text

    assert sign_in(client)
    assert client.get("/pets", headers=travis).status_code == 200


def test_deletion_removes_pets_sessions_and_addresses(
    client: FlaskClient, db: Connection, clock: Clock
) -> None:
    stranger = bearer_of(db, add_user(db, "stranger"), int(clock()))
    tokens = sign_in(client)
    headers = bearer(tokens["access_token"]) | JSON

    wrong = client.delete("/me", json={"password": "wrong"}, headers=headers)
    assert (wrong.status_code, wrong.get_json()["code"]) == (403, "wrong_password")
    done = client.delete("/me", json={"password": "mypassword"}, headers=headers)

    assert (done.status_code, done.data) == (204, b"")
    assert client.get("/me", headers=headers).get_json()["code"] == "token_user_gone"
    assert refresh(client, tokens["refresh_token"])["code"] == "refresh_token_invalid"
    assert db.driver.execute("SELECT * FROM pets WHERE user_id = 1").fetchall() == []
    assert db.driver.execute("SELECT * FROM sessions WHERE user_id = 1").fetchall() == []
    assert db.driver.execute("SELECT * FROM known_addresses").fetchall() == []
    assert client.get("/me", headers=stranger).status_code == 200


@pytest.mark.parametrize("body", [{}, {"json": {}}, {"data": {}}], ids=["none", "JSON", "form"])
def test_deletion_after_reauth_needs_no_body(
    client: FlaskClient, clock: Clock, db: Connection, body: dict[str, Any]
) -> None:
    headers = bearer(sign_in(client)["access_token"])
    assert client.delete("/me", headers=headers, **body).status_code == 401
    client.post("/auth/reauth", json={"password": "mypassword"}, headers=headers)
    clock.advance(15 * 60 - 1)

    response = client.delete("/me", headers=headers, **body)

    assert (response.status_code, response.data) == (204, b"")
    assert users.find_by_name(db, "travis") is None


def test_deletion_without_body_is_refused_unless_this_session_has_reauthenticated_recently(
    client: FlaskClient, clock: Clock, db: Connection
) -> None:
    tokens, other = sign_in(client), bearer(sign_in(client)["access_token"])
    headers = bearer(tokens["access_token"]) | JSON
    for password in ("wrong", "mypassword"):  # of which the first does not count
        response = client.delete("/me", headers=headers)
        code = response.get_json()["code"]
        assert (response.status_code, code) == (401, "insufficient_user_authentication")
        assert "max_age=900" in response.headers["WWW-Authenticate"]
        client.post("/auth/reauth", json={"password": password}, headers=headers)
    assert client.delete("/me", headers=other).status_code == 401
    wrong = client.delete("/me", json={"password": "wrong"}, headers=headers)
    assert (wrong.status_code, wrong.get_json()["code"]) == (403, "wrong_password")
    clock.advance(15 * 60 + 1)
    headers = bearer(refresh(client, tokens["refresh_token"])["access_token"])

    assert client.delete("/me", headers=headers).status_code == 401
    assert users.find_by_name(db, "travis")


def test_the_last_admin_can_not_delete_the_account(client: FlaskClient, db: Connection) -> None:
    users.set_admin(db, 1, admin=True, actor=OPERATOR)
    headers = bearer(sign_in(client)["access_token"]) | JSON
    before = everything(db)

    response = client.delete("/me", json={"password": "mypassword"}, headers=headers)

    assert (response.status_code, response.get_json()["code"]) == (409, "last_admin")
    assert client.get("/me", headers=headers).get_json()["admin"] is True
    assert everything(db) == before


def test_export_has_everything_but_secrets(
    client: FlaskClient, db: Connection, clock: Clock
) -> None:
    bearer_of(db, add_user(db, "stranger"), int(clock()))
    tokens = sign_in(client)

    response = client.get("/me/export", headers=bearer(tokens["access_token"]))

    found = response.get_json()
    assert found["users"] == [
        {
            "id": 1, "username": "travis", "admin": False, "disabled": False, "claims": {},
            "created_at": "2023-11-14T22:13:20Z", "last_sign_in_at": "2023-11-14T22:13:20Z",
            "password_expires_at": None,
        }
    ]  # fmt: skip
    assert [pet["name"] for pet in found["pets"]] == ["Bunny", "Ru"]
    assert len(found["sessions"]) == 2
    assert found["sessions"][0]["ended_at"] is None
    assert found["known_addresses"] == [{"network": "127.0.0.1", "last_at": "2023-11-14T22:13:20Z"}]
    assert "bcrypt" not in response.text
    assert "stranger" not in response.text


def test_export_of_many_rows_has_each_once(
    client: FlaskClient, db: Connection, travis: dict[str, str]
) -> None:
    numbers = range(3 * PAGE_SIZE)
    for statement in (
        "INSERT INTO pets (user_id, name, created_at) VALUES (1, ?, 0)",
        "INSERT INTO known_addresses VALUES (1, ?, 0)",
        "INSERT INTO audit (at, action, user_id, actor_id, details) VALUES (?, '', 1, 1, '{}')",
        "INSERT INTO audit (at, action, user_id, actor_id, details) VALUES (?, '', 9, 1, '{}')",
        INSERT_SESSION.replace("VALUES (?,", "VALUES ('session-' || ?,").replace(
            "?, ?, '', ''", "9, 9, '', ''"
        ),
    ):
        values = session_row(1, "", 0)[1:-2] if "session" in statement else ()
        execute_many(db, statement, [(number, *values) for number in numbers])
    counts = {
        table: db.driver.execute(f"SELECT count(*) AS rows FROM {table}").fetchone()["rows"]  # noqa: S608 - ours
        for table in personal_tables(db)
    }

    exported = client.get("/me/export", headers=travis).get_json()

    for table, rows in exported.items():
        keys = {row["network" if table == "known_addresses" else "id"] for row in rows}
        assert len(rows) == len(keys) == counts[table]


def test_a_page_of_the_export_reads_as_few_rows_however_many_there_are(db: Connection) -> None:
    """Of the audit log the user's own rows are read once, by user and by actor."""
    steps = {}
    insert = "INSERT INTO audit (at, action, user_id, actor_id, details) VALUES (?, '', 1, 1, '{}')"
    page = {"user_id": 1, "at": 0, "id": 0, "limit": 100}
    for size in (500, 4_000):
        execute(db, "DELETE FROM audit")
        execute_many(db, insert, [(at,) for at in range(size)])
        with counting_steps(db) as count:
            before = count()
            assert len(db.queries.users.export_audit(**page)) == 100
            steps[size] = count() - before

    assert steps[4_000] < 2 * steps[500]


def test_export_has_the_unknown_address(
    client: FlaskClient, db: Connection, travis: dict[str, str]
) -> None:
    db.driver.execute("INSERT INTO known_addresses VALUES (1, '', 0), (1, '192.0.2.1', 0)")

    exported = client.get("/me/export", headers=travis).get_json()

    assert [row["network"] for row in exported["known_addresses"]] == ["", "192.0.2.1"]


@pytest.mark.parametrize("path", ["/me/export", "/my-pets"])
def test_a_user_gets_four_long_responses_at_once(
    client: FlaskClient, db: Connection, clock: Clock, travis: dict[str, str], path: str
) -> None:
    insert = "INSERT INTO pets (user_id, name, created_at) VALUES (?, ?, 0)"
    stranger = add_user(db, "stranger")
    rows = [(user, "x" * 100) for user in (1, stranger) for _ in range(900)]
    execute_many(db, insert, rows)
    sent = [client.get(path, headers=travis) for _ in range(4)]

    refused = client.get(path, headers=travis | JSON)
    other = client.get(path, headers=bearer_of(db, stranger, int(clock())))
    short = client.get("/pets", headers=travis)

    assert (refused.status_code, refused.get_json()["code"]) == (429, "too_many_tries")
    assert refused.headers["Retry-After"] == "1"
    assert (other.status_code, short.status_code) == (200, 200)
    for response in sent:
        assert response.status_code == 200
        response.close()
    again = client.get(path, headers=travis)
    assert (again.status_code, again.text.count("x" * 100)) == (200, 900)
    other.close()


SECRET_COLUMNS = {
    "password_hash", "username_key", "nonce", "generation", "user_id", "number",
    "retry_key_hash", "rotated_by_hash", "raced",
}  # fmt: skip


def personal_tables(db: Connection) -> dict[str, set[str]]:
    """The columns of each table that names a user: by a foreign key, or by a column's name."""
    personal: dict[str, set[str]] = {}
    for table in tables(db):
        names = columns(db, table)
        if "users" in references(db, table) or re.search("user|actor", " ".join(names)):
            personal[table] = set(names)
    return personal


def test_export_covers_every_table_that_refers_to_users(
    client: FlaskClient, db: Connection
) -> None:
    headers = bearer(sign_in(client)["access_token"])
    exported = client.get("/me/export", headers=headers).get_json()
    personal = personal_tables(db)

    assert set(exported) == set(personal)
    for name, found in personal.items():
        assert set(exported[name][0]) == found - SECRET_COLUMNS


@pytest.mark.parametrize(
    "column",
    [
        "user_id INTEGER",
        "owner INTEGER REFERENCES users",
        "actor_id INTEGER",
        "by_user INTEGER",
        "username TEXT",
    ],
)
def test_a_table_missing_from_the_export_is_found(db: Connection, column: str) -> None:
    db.driver.execute(db.engine.begin)  # rolled back at the end
    db.driver.execute("CREATE TABLE things (id INTEGER PRIMARY KEY)")
    known = {"users", "sessions", "known_addresses", "pets", "audit"}
    assert set(personal_tables(db)) == known

    db.driver.execute(f"CREATE TABLE notes ({column})")

    assert set(personal_tables(db)) == known | {"notes"}


def test_hash_of_a_disabled_user_is_not_replaced(client: FlaskClient, db: Connection) -> None:
    old = bcrypt.using(rounds=4).hash("correct horse")
    user_id = add_user(db, "old", password_hash=old)
    users.set_disabled(db, user_id, disabled=True, actor=OPERATOR)

    response = client.post("/auth", data={"username": "old", "password": "correct horse"})

    assert response.status_code == 401
    assert users.get_by_id(db, user_id)["password_hash"] == old


def test_hash_is_replaced_only_if_still_the_verified_one(
    db: Connection,
) -> None:
    user = users.get_by_id(db, 1)
    users.set_password(db, 1, "changed meanwhile", actor=OPERATOR)

    assert not users.replace_hash(db, user, user["password_hash"], 0)
    assert not users.replace_hash(db, user, "x")


def test_hash_of_a_user_disabled_meanwhile_is_not_replaced(db: Connection) -> None:
    user = users.get_by_id(db, 1)
    users.set_disabled(db, 1, disabled=True, actor=OPERATOR)

    assert not users.replace_hash(db, user, user["password_hash"], 0)
    assert not users.replace_hash(db, user, "x")


def use_secrets(open_client: FlaskClient) -> list[str]:
    """Sign up, in and refresh, and change the password; return the passwords and tokens."""
    open_client.post("/users", json=NEW)
    tokens = sign_in(open_client, **NEW)
    refreshed = refresh(open_client, tokens["refresh_token"])
    body = {"current_password": PASSWORD, "new_password": "another horse battery"}
    changed = open_client.put(
        "/me/password", json=body, headers=bearer(refreshed["access_token"])
    ).get_json()

    secrets = [PASSWORD, "another horse battery", "mypassword"]
    for each in (tokens, refreshed, changed):
        secrets += [each["access_token"], each["refresh_token"]]
        secrets += each["refresh_token"].split(".")[3:] + each["access_token"].split(".")[2:]
    return secrets


def test_database_has_no_tokens_and_no_passwords(open_client: FlaskClient, db: Connection) -> None:
    secrets = use_secrets(open_client)

    found = str(every_row(db))
    assert "Ada" in found
    assert not any(secret in found for secret in secrets)


def test_files_of_the_database_have_no_tokens_and_no_passwords(
    open_client: FlaskClient, settings: Settings
) -> None:
    path = file_of(settings)
    secrets = use_secrets(open_client)

    files = b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))
    assert b"Ada" in files
    assert not any(secret.encode() in files for secret in secrets)
