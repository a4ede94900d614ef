"""Sessions over HTTP: refresh, reuse, sign-out, limits and pruning."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from passlib.hash import bcrypt

from jwt_server.auth import sessions
from jwt_server.auth.guard import authenticate, require_still_signed_in
from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from jwt_server.errors import TokenRevoked
from jwt_server.security.refresh_tokens import RefreshTokens, parse
from jwt_server.users import users
from tests.helpers.app import Clock, MakeApp
from tests.helpers.auth import DAY, JSON, access, guesses, refresh, run_at_once, sign_in
from tests.helpers.factories import (
    CREDENTIALS,
    INSERT_SESSION,
    OPERATOR,
    add_user,
    bearer,
    bearer_of,
    execute_many,
    session_row,
    token,
)
from tests.helpers.fuzzing import examples


def test_token_object(client: FlaskClient) -> None:
    tokens = sign_in(client)

    assert set(tokens) == {
        "access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in"
    }  # fmt: skip
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 900)
    assert tokens["refresh_expires_in"] == 7 * DAY
    assert access(client, tokens) == 200


def test_refresh_returns_new_tokens(client: FlaskClient, clock: Clock) -> None:
    first = sign_in(client)
    clock.advance(60)

    second = refresh(client, first["refresh_token"])

    assert set(second) == set(first)
    assert second["access_token"] != first["access_token"]
    assert second["refresh_token"] != first["refresh_token"]
    assert access(client, first) == access(client, second) == 200


def test_session_expires_after_its_absolute_lifetime(client: FlaskClient, clock: Clock) -> None:
    tokens = sign_in(client)
    for _ in range(4):
        clock.advance(7 * DAY - 1)
        tokens = refresh(client, tokens["refresh_token"])
    assert tokens["refresh_expires_in"] == 30 * DAY - 4 * (7 * DAY - 1)

    clock.advance(tokens["refresh_expires_in"])

    assert refresh(client, tokens["refresh_token"])["code"] == "session_expired"


def test_session_expires_without_a_refresh(client: FlaskClient, clock: Clock) -> None:
    tokens = sign_in(client)
    clock.advance(7 * DAY - 1)
    last = refresh(client, tokens["refresh_token"])
    clock.advance(7 * DAY)

    assert refresh(client, last["refresh_token"])["code"] == "session_expired"


def test_access_token_does_not_outlive_its_session(client: FlaskClient, clock: Clock) -> None:
    tokens = sign_in(client)
    for _ in range(4):
        clock.advance(7 * DAY - 1)
        tokens = refresh(client, tokens["refresh_token"])
    clock.advance(tokens["refresh_expires_in"] - 60)

    tokens = refresh(client, tokens["refresh_token"])

    assert (tokens["expires_in"], tokens["refresh_expires_in"]) == (60, 60)


@pytest.mark.parametrize("seconds", [0, 10])
def test_replaced_token_gets_the_same_successor_within_the_grace(
    client: FlaskClient, clock: Clock, seconds: int
) -> None:
    first = sign_in(client)
    clock.advance(60)  # the grace counts from the rotation
    second = refresh(client, first["refresh_token"])
    clock.advance(seconds)

    again = refresh(client, first["refresh_token"])

    assert again["refresh_token"] == second["refresh_token"]
    assert again["refresh_expires_in"] == second["refresh_expires_in"] - seconds  # no extension
    assert access(client, again) == 200
    assert "access_token" in refresh(client, second["refresh_token"])


def test_grace_is_counted_from_the_rotation(client: FlaskClient, clock: Clock) -> None:
    first = sign_in(client)
    clock.advance(60)
    refresh(client, first["refresh_token"])
    for _ in range(2):
        clock.advance(5)
        assert "access_token" in refresh(client, first["refresh_token"])
    clock.advance(1)

    assert refresh(client, first["refresh_token"])["code"] == "refresh_token_reused"


def test_reuse_after_the_grace_ends_the_session(
    client: FlaskClient, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    stolen = sign_in(client)
    victims = refresh(client, stolen["refresh_token"])
    clock.advance(11)

    assert refresh(client, stolen["refresh_token"])["code"] == "refresh_token_reused"

    assert refresh(client, victims["refresh_token"])["code"] == "session_ended"
    assert refresh(client, stolen["refresh_token"])["code"] == "session_ended"
    assert access(client, stolen) == access(client, victims) == 401
    assert caplog.text.count("audit: refresh_token_reused") == 1
    assert stolen["refresh_token"] not in caplog.text


def test_reuse_of_an_older_token_ends_the_session_within_the_grace(
    client: FlaskClient,
) -> None:
    first = sign_in(client)
    second = refresh(client, first["refresh_token"])
    third = refresh(client, second["refresh_token"])

    assert refresh(client, first["refresh_token"])["code"] == "refresh_token_reused"

    assert refresh(client, third["refresh_token"])["code"] == "session_ended"
    assert access(client, third) == 401


def test_token_ahead_of_the_database_ends_the_session(client: FlaskClient, db: Connection) -> None:
    tokens = sign_in(client)
    ahead = refresh(client, tokens["refresh_token"])
    db.driver.execute("UPDATE sessions SET generation = 1")  # as a restored backup would

    assert refresh(client, ahead["refresh_token"])["code"] == "refresh_token_reused"
    assert refresh(client, tokens["refresh_token"])["code"] == "session_ended"


def altered(token: str, part: int, change: Any) -> str:
    parts = token.split(".")
    parts[part] = change(parts[part])
    return ".".join(parts)


FORGERIES: dict[str, Callable[[str], str]] = {
    "another version": lambda token: altered(token, 0, lambda _: "r2"),
    "another session": lambda token: altered(token, 1, lambda text: text[::-1]),
    "another generation": lambda token: altered(token, 2, lambda _: "2"),
    "generation 0": lambda token: altered(token, 2, lambda _: "0"),
    "a leading zero": lambda token: altered(token, 2, lambda _: "01"),
    "digits of another script": lambda token: altered(token, 2, lambda _: "١"),
    "another MAC": lambda token: altered(token, 3, lambda text: text[::-1]),
    "no MAC": lambda token: altered(token, 3, lambda _: ""),
    "a line end": lambda token: token + "\n",
    "padded": lambda token: token + "=",
    "not a token": lambda _: "x",
    "very long": lambda _: "x" * 200,
}


def test_forged_refresh_token_changes_nothing(client: FlaskClient) -> None:
    token = sign_in(client)["refresh_token"]

    for kind, forge in FORGERIES.items():
        assert refresh(client, forge(token))["code"] == "refresh_token_invalid", kind

    assert "access_token" in refresh(client, token)


def test_access_and_refresh_tokens_are_not_interchangeable(
    client: FlaskClient,
) -> None:
    tokens = sign_in(client)

    response = client.post("/auth/refresh", json={"refresh_token": tokens["access_token"]})
    assert response.status_code in (401, 422)
    assert access(client, {"access_token": tokens["refresh_token"]}) == 401


def test_neither_database_nor_secret_alone_makes_a_refresh_token(
    client: FlaskClient, db: Connection, settings: Settings
) -> None:
    token = sign_in(client)["refresh_token"]
    session_id, generation = parse(token)
    nonce = db.queries.auth.find_for_refresh(id=session_id)["nonce"]
    tokens = RefreshTokens(settings.secret_keys)

    with_another_secret = RefreshTokens((b"x" * 32,))
    for forged in (
        with_another_secret.issue(session_id, generation, nonce),
        tokens.issue(session_id, generation, b"x" * 16),
    ):
        assert not tokens.verify(forged, session_id, generation, nonce)
    assert tokens.verify(token, session_id, generation, nonce)


def test_rotation_of_secret_key_keeps_sessions(
    make_app: MakeApp, client: FlaskClient, settings: Settings
) -> None:
    old = sign_in(client)
    new_secret = b"a newer secret key, of 32 bytes and more"
    swapped = make_app(secret_keys=(new_secret, *settings.secret_keys)).test_client()
    done = make_app(secret_keys=(new_secret,)).test_client()

    refreshed = refresh(swapped, old["refresh_token"])

    assert refresh(client, refreshed["refresh_token"])["code"] == "refresh_token_invalid"
    assert "access_token" in refresh(done, refreshed["refresh_token"])


def test_text_sign_in_opens_a_session_without_refresh(
    client: FlaskClient, db: Connection, clock: Clock
) -> None:
    text = client.post("/auth", data=CREDENTIALS).text
    row = db.driver.execute("SELECT * FROM sessions WHERE refreshable = 0").fetchone()

    assert row["ends_at"] == row["expires_at"] == int(clock()) + 12 * 60 * 60
    listed = client.get("/auth/sessions", headers=bearer(text)).get_json()
    assert [each["id"] for each in listed if each["current"]] == [row["id"]]


def test_logout_ends_the_session(client: FlaskClient) -> None:
    tokens, other = sign_in(client), sign_in(client)

    response = client.post("/auth/logout", headers=bearer(tokens["access_token"]))

    assert (response.status_code, response.data) == (204, b"")
    assert access(client, tokens) == 401
    assert refresh(client, tokens["refresh_token"])["code"] == "session_ended"
    assert access(client, other) == 200


@pytest.mark.parametrize(
    ("scope", "mine", "others"), [("local", 401, 200), ("others", 200, 401), ("global", 401, 401)]
)
def test_logout_scopes(
    client: FlaskClient, db: Connection, clock: Clock, scope: str, mine: int, others: int
) -> None:
    tokens, other = sign_in(client), sign_in(client)
    stranger = bearer_of(db, add_user(db, "stranger"), int(clock()))

    response = client.post(f"/auth/logout?scope={scope}", headers=bearer(tokens["access_token"]))

    assert response.status_code == 204
    assert (access(client, tokens), access(client, other)) == (mine, others)
    assert client.get("/pets", headers=stranger).status_code == 200


def test_logout_with_an_unknown_scope_returns_422(
    client: FlaskClient, travis: dict[str, str]
) -> None:
    for query in ("scope=all", "scope=", "scope=local&scope=global"):
        assert client.post(f"/auth/logout?{query}", headers=travis).status_code == 422

    assert client.get("/pets", headers=travis).status_code == 200


def test_logout_with_a_refresh_token_ends_its_session(client: FlaskClient, clock: Clock) -> None:
    tokens = sign_in(client)
    refreshed = refresh(client, tokens["refresh_token"])
    clock.advance(100)

    for text in (tokens["refresh_token"], tokens["refresh_token"], "x"):
        response = client.post("/auth/logout", json={"refresh_token": text})
        assert (response.status_code, response.data) == (204, b"")

    assert access(client, refreshed) == 401


def test_logout_without_a_token_returns_401(client: FlaskClient) -> None:
    assert client.post("/auth/logout").status_code == 401
    assert client.post("/auth/logout", headers=bearer("x")).status_code == 401


def test_list_sessions(client: FlaskClient, db: Connection, clock: Clock) -> None:
    bearer_of(db, add_user(db, "stranger"), int(clock()))
    db.driver.execute("DELETE FROM sessions WHERE user_id = 1")
    client.environ_base["HTTP_USER_AGENT"] = "Phone/1 (\x1b[2J) " + "x" * 300
    first = sign_in(client)
    clock.advance(60)
    second = sign_in(client)
    refresh(client, first["refresh_token"])
    client.post("/auth/logout", headers=bearer(sign_in(client)["access_token"]))

    listed = client.get("/auth/sessions", headers=bearer(second["access_token"])).get_json()

    assert [each["current"] for each in listed] == [False, True]
    assert listed[0] == {
        "id": parse(first["refresh_token"])[0],
        "created_at": "2023-11-14T22:13:20Z",
        "last_used_at": "2023-11-14T22:13:20Z",
        "address": "127.0.0.1",
        "user_agent": "Phone/1 (?[2J) " + "x" * 185,
        "current": False,
    }


def test_no_response_tells_when_a_session_was_refreshed(client: FlaskClient, clock: Clock) -> None:
    """It would tell a thief of both tokens when the refresh token is within the grace."""
    stolen = bearer(client.post("/auth", json=CREDENTIALS).text)  # the text form lasts for hours
    tokens = sign_in(client)
    session_id = parse(tokens["refresh_token"])[0]
    youngest_id = parse(sign_in(client)["refresh_token"])[0]

    def shown(path: str, *names: str) -> dict[str, Any]:
        body = client.get(path, headers=stolen).get_json()
        rows = body["sessions"] if path == "/me/export" else body
        assert [row["id"] for row in rows[-2:]] == [session_id, youngest_id]
        return {name: rows[-2][name] for name in names}

    until_the_hour = 2800
    for waits, used, expires in (
        ([0, 1, until_the_hour - 2], "2023-11-14T22:13:20Z", "2023-11-21T22:00:00Z"),
        ([1, 1, 3598], "2023-11-14T23:00:00Z", "2023-11-21T23:00:00Z"),
    ):
        for wait in waits:
            clock.advance(wait)
            tokens = refresh(client, tokens["refresh_token"])
            assert shown("/auth/sessions", "last_used_at") == {"last_used_at": used}
            assert shown("/me/export", "last_used_at", "rotated_at", "expires_at") == {
                "last_used_at": used, "rotated_at": used, "expires_at": expires
            }  # fmt: skip


def test_ending_another_session_needs_a_recent_password(client: FlaskClient, clock: Clock) -> None:
    mine, other = sign_in(client), sign_in(client)
    headers = bearer(mine["access_token"]) | JSON
    path = f"/auth/sessions/{parse(other['refresh_token'])[0]}"
    clock.advance(15 * 60 - 1)
    headers |= bearer(refresh(client, mine["refresh_token"])["access_token"])
    clock.advance(1)

    refused = client.delete(path, headers=headers)
    assert (refused.status_code, refused.get_json()["code"]) == (
        401, "insufficient_user_authentication"
    )  # fmt: skip
    assert refused.headers["WWW-Authenticate"] == (
        'Bearer error="insufficient_user_authentication", max_age=900'
    )
    wrong = client.post("/auth/reauth", json={"password": "wrong"}, headers=headers)
    assert (wrong.status_code, wrong.get_json()["code"]) == (403, "wrong_password")
    assert client.delete(path, headers=headers).status_code == 401
    right = client.post("/auth/reauth", json={"password": "mypassword"}, headers=headers)
    assert (right.status_code, right.data) == (204, b"")
    assert client.delete(path, headers=headers).status_code == 204
    assert client.delete(path, headers=headers).status_code == 404
    assert refresh(client, other["refresh_token"])["code"] == "session_ended"


def test_ending_the_current_session_needs_no_recent_password(
    client: FlaskClient, clock: Clock
) -> None:
    tokens = sign_in(client)
    clock.advance(15 * 60 - 1)
    headers = bearer(refresh(client, tokens["refresh_token"])["access_token"])
    clock.advance(1)

    session_id = parse(tokens["refresh_token"])[0]
    assert client.delete(f"/auth/sessions/{session_id}", headers=headers).status_code == 204
    assert client.get("/pets", headers=headers).status_code == 401


def test_other_users_session_returns_404(client: FlaskClient, db: Connection, clock: Clock) -> None:
    stranger = bearer_of(db, add_user(db, "stranger"), int(clock()))
    tokens = sign_in(client)

    session_id = parse(tokens["refresh_token"])[0]
    for path in (session_id, "x" * 22, "x", f"{session_id}x"):
        assert client.delete(f"/auth/sessions/{path}", headers=stranger).status_code == 404
    assert access(client, tokens) == 200


def test_the_oldest_of_51_sessions_ends(client: FlaskClient, clock: Clock, db: Connection) -> None:
    db.driver.execute("DELETE FROM sessions")
    opened = []
    for _ in range(sessions.MAX_SESSIONS_PER_USER + 1):
        opened.append(sign_in(client))
        clock.advance(1)

    assert access(client, opened[0]) == 401
    assert refresh(client, opened[0]["refresh_token"])["code"] == "session_ended"
    assert access(client, opened[1]) == access(client, opened[-1]) == 200


def test_sign_in_prunes_sessions_past_their_retention(
    client: FlaskClient, clock: Clock, db: Connection
) -> None:
    ended = sign_in(client)
    client.post("/auth/logout", headers=bearer(ended["access_token"]))
    clock.advance(sessions.RETENTION_SECONDS)
    sign_in(client)
    assert refresh(client, ended["refresh_token"])["code"] == "session_ended"
    clock.advance(1)

    sign_in(client)

    assert refresh(client, ended["refresh_token"])["code"] == "refresh_token_invalid"
    ids = {row["id"] for row in db.driver.execute("SELECT id FROM sessions")}
    assert parse(ended["refresh_token"])[0] not in ids


def insert_expired(db: Connection, times: Iterable[int]) -> None:
    """Insert the sessions `old1`, `old2` and so on, which have expired at these times."""
    rows = [(*session_row(1, f"old{number}", 0)[:-2], at, 0) for number, at in enumerate(times, 1)]
    execute_many(db, INSERT_SESSION, rows)


def test_sign_in_prunes_oldest_sessions_in_batches(client: FlaskClient, db: Connection) -> None:
    """Twenty per sign-in; here the sessions that were opened last expired first."""
    insert_expired(db, range(99, 54, -1))

    for left in (25, 5, 0):
        sign_in(client)
        rows = db.driver.execute("SELECT id FROM sessions WHERE id LIKE 'old%'").fetchall()
        assert {row["id"] for row in rows} == {f"old{number}" for number in range(1, left + 1)}


def test_prune_deletes_all_expired_sessions(
    client: FlaskClient, clock: Clock, db: Connection
) -> None:
    insert_expired(db, [0] * 2500)
    run = client.application.test_cli_runner().invoke

    assert run(args=["prune"]).output.splitlines()[0] == "Deleted: 2500 sessions"
    assert run(args=["prune"]).output.splitlines()[0] == "Deleted: 0 sessions"


def test_sessions_end_command(
    client: FlaskClient, db: Connection, clock: Clock, travis: dict[str, str]
) -> None:
    stranger = bearer_of(db, add_user(db, "stranger"), int(clock()))
    run = client.application.test_cli_runner().invoke

    assert run(args=["sessions", "end"]).exit_code == 2
    assert run(args=["sessions", "end", "--all", "--user", "travis"]).exit_code == 2
    assert run(args=["sessions", "end", "--user", "nobody"]).exit_code == 1
    assert run(args=["sessions", "end", "--user", "TRAVIS"]).output == "Ended: 1 session\n"
    assert client.get("/pets", headers=travis).status_code == 401
    assert client.get("/pets", headers=stranger).status_code == 200
    assert run(args=["sessions", "end", "--all"]).output == "Ended: 1 session\n"
    assert client.get("/pets", headers=stranger).status_code == 401


def test_tokens_of_a_deleted_user_are_refused(client: FlaskClient, db: Connection) -> None:
    tokens = sign_in(client)
    db.driver.execute("DELETE FROM users WHERE id = 1")

    assert refresh(client, tokens["refresh_token"])["code"] == "refresh_token_invalid"
    response = client.get("/pets", headers=bearer(tokens["access_token"]))
    assert response.text == "Token of a user who is gone."


def test_refresh_token_of_a_disabled_user_is_refused(client: FlaskClient, db: Connection) -> None:
    """Even if the session has not been ended."""
    tokens = sign_in(client)
    db.queries.users.set_disabled(id=1, disabled=True)

    assert refresh(client, tokens["refresh_token"])["code"] == "session_ended"

    db.queries.users.set_disabled(id=1, disabled=False)
    assert "access_token" in refresh(client, tokens["refresh_token"])


def test_token_of_another_users_session_is_refused(
    client: FlaskClient, db: Connection, clock: Clock
) -> None:
    from_elsewhere = bearer_of(db, add_user(db, "stranger"), int(clock()))
    db.driver.execute("UPDATE sessions SET user_id = 1")

    assert client.get("/pets", headers=from_elsewhere).text == "Revoked token. Sign in again."


@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=examples(50),
    deadline=None,
)
@given(st.text() | st.from_regex(r"r1\.[A-Za-z0-9_-]{22}\.[0-9]{1,10}\.[A-Za-z0-9_-]{43}"))
def test_arbitrary_text_refreshes_nothing(client: FlaskClient, text: str) -> None:
    response = client.post("/auth/refresh", json={"refresh_token": text})

    assert response.status_code in (401, 422)


def test_access_token_lifetime_is_bounded_by_the_idle_lifetime(
    make_app: MakeApp, db: Connection, clock: Clock
) -> None:
    client = make_app(refresh_token_idle_ttl=300).test_client()
    tokens = sign_in(client)

    assert (tokens["expires_in"], tokens["refresh_expires_in"]) == (300, 300)
    clock.advance(300)
    assert access(client, tokens) == 401


def test_grace_of_zero_disables_the_grace(make_app: MakeApp, db: Connection) -> None:
    client = make_app(refresh_grace=0).test_client()
    first = sign_in(client)
    refresh(client, first["refresh_token"])

    assert refresh(client, first["refresh_token"])["code"] == "refresh_token_reused"


def test_clock_set_back_does_not_extend_the_grace(client: FlaskClient, clock: Clock) -> None:
    clock.advance(3600)
    first = sign_in(client)
    refresh(client, first["refresh_token"])
    clock.advance(-3600)

    assert refresh(client, first["refresh_token"])["code"] == "refresh_token_reused"


def test_logout_ignores_other_authorization_schemes(client: FlaskClient) -> None:
    for authorization in ("Basic dHJhdmlzOng=", "Bearer", "x"):
        tokens = sign_in(client)
        response = client.post(
            "/auth/logout",
            json={"refresh_token": tokens["refresh_token"]},
            headers={"Authorization": authorization},
        )
        assert response.status_code == 204
        assert access(client, tokens) == 401


def test_logout_with_any_text_returns_204(client: FlaskClient) -> None:
    for text in ("", "x" * 10_000, "\0", "x\0", "\ud800", "é", "r1.x"):
        data = json.dumps({"refresh_token": text})
        response = client.post("/auth/logout", data=data, content_type="application/json")
        assert (response.status_code, response.data) == (204, b""), ascii(text)

    form = "application/x-www-form-urlencoded"
    for data in ("refresh_token=", "refresh_token=%00", "refresh_token=x"):
        assert client.post("/auth/logout", data=data, content_type=form).status_code == 204


def test_logout_with_a_non_string_returns_422(client: FlaskClient) -> None:
    values: list[Any] = [1, True, [], {}, None]
    for value in values:
        response = client.post("/auth/logout", json={"refresh_token": value}, headers=JSON)
        assert response.status_code == 422
        assert set(response.get_json()["errors"]) == {"refresh_token"}


def test_logout_with_a_refresh_token_validates_the_scope(client: FlaskClient) -> None:
    tokens = sign_in(client)
    body = {"refresh_token": tokens["refresh_token"]}

    assert client.post("/auth/logout?scope=x", json=body).status_code == 422
    assert access(client, tokens) == 200


def test_order_of_checks(
    make_app: MakeApp, database: Database, travis: dict[str, str], clock: Clock
) -> None:
    """First access, then the size, the type and the syntax of the body, then its fields."""
    client, closed = make_app(signup="open").test_client(), make_app().test_client()
    routes = [("POST", "/auth/logout?scope=x"), ("PATCH", "/me"), ("POST", "/users")]
    bodies = [
        (b"x" * 70_000, "text/plain", 413),
        (b"x", "text/plain", 415),
        (b"{", "application/json", 400),
    ]
    for data, content_type, status in bodies:
        body: dict[str, Any] = {"data": data, "content_type": content_type}
        for method, path in routes:
            response = client.open(path, method=method, headers=travis, **body)
            assert response.status_code == status, path
        assert closed.post("/users", **body).status_code == 403

    clock.advance(15 * 60 - 1)
    late = bearer(token(int(clock())))
    clock.advance(1)
    for data, content_type, _ in bodies:
        response = client.patch("/me", headers=late, data=data, content_type=content_type)
        assert response.status_code == 401


def test_require_still_signed_in_refuses_an_ended_session(
    client: FlaskClient, db: Connection, travis: dict[str, str], clock: Clock
) -> None:
    app = client.application
    with app.test_request_context("/me"):
        user = authenticate(travis["Authorization"])
        sessions.end_all(db, 1, int(clock()))

        with pytest.raises(TokenRevoked):
            require_still_signed_in(db, user)


def test_token_has_the_admin_flag_as_of_sign_in(db: Connection) -> None:
    users.set_admin(db, 1, admin=True, actor=OPERATOR)
    verified = users.get_by_id(db, 1)
    add_user(db, "another")
    users.set_admin(db, users.get_by_name(db, "another")["id"], admin=True, actor=OPERATOR)
    users.set_admin(db, 1, admin=False, actor=OPERATOR)

    for current in (
        users.replace_hash(db, verified, verified["password_hash"], 0),
        users.replace_hash(db, verified, verified["password_hash"]),
    ):
        assert current == {"id": 1, "admin": 0, "claims": "{}", "password_expires_at": None}


def test_concurrent_sign_ins_with_an_old_hash_succeed(
    client: FlaskClient, db: Connection, settings: Settings
) -> None:
    """One of them replaces the hash, and the others verify again."""
    add_user(db, "old", password_hash=bcrypt.using(rounds=4).hash("correct horse"))

    addresses = iter([f"192.0.2.{number}" for number in range(8)])

    def sign_in_once() -> int:
        guess = guesses(client.application.test_client())
        return guess("old", "correct horse", next(addresses)).status_code

    assert set(run_at_once(sign_in_once, 8)) == {200}
