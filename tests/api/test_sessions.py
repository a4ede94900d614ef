"""Sessions: refresh tokens and their rotation, theft, signing out, at a clock that tests move."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
from tests.helpers.factories import CREDENTIALS, OPERATOR, add_user, bearer, bearer_of, token
from tests.helpers.fuzzing import examples

JSON = {"Accept": "application/json"}
DAY = 24 * 60 * 60

Tokens = dict[str, Any]


def sign_in(client: FlaskClient, **changes: str) -> Tokens:
    answer = client.post("/auth", json=CREDENTIALS | changes, headers=JSON)
    assert answer.status_code == 200
    tokens: Tokens = answer.get_json()
    return tokens


def refresh(client: FlaskClient, shown: str) -> Tokens:
    """The object, or the problem."""
    answer = client.post("/auth/refresh", json={"refresh_token": shown}, headers=JSON)
    assert answer.status_code in (200, 401)
    assert ("WWW-Authenticate" in answer.headers) == (answer.status_code == 401)
    found: Tokens = answer.get_json()
    return found


def access(client: FlaskClient, tokens: Tokens) -> int:
    return client.get("/pets", headers=bearer(tokens["access_token"])).status_code


def test_the_token_object_is_that_of_the_contract(client: FlaskClient) -> None:
    tokens = sign_in(client)

    assert set(tokens) == {
        "access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in"
    }  # fmt: skip
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 900)
    assert tokens["refresh_expires_in"] == 7 * DAY
    assert access(client, tokens) == 200


def test_a_refresh_gives_fresh_tokens_and_the_old_access_token_lives_on(
    client: FlaskClient, clock: Clock
) -> None:
    first = sign_in(client)
    clock.advance(60)

    second = refresh(client, first["refresh_token"])

    assert set(second) == set(first)
    assert second["access_token"] != first["access_token"]
    assert second["refresh_token"] != first["refresh_token"]
    assert access(client, first) == access(client, second) == 200


def test_it_goes_on_for_as_long_as_the_session_may(client: FlaskClient, clock: Clock) -> None:
    tokens = sign_in(client)
    for _ in range(4):
        clock.advance(7 * DAY - 1)
        tokens = refresh(client, tokens["refresh_token"])
    assert tokens["refresh_expires_in"] == 30 * DAY - 4 * (7 * DAY - 1)

    clock.advance(tokens["refresh_expires_in"])

    assert refresh(client, tokens["refresh_token"])["code"] == "session_expired"


def test_a_session_that_is_not_refreshed_expires_to_the_second(
    client: FlaskClient, clock: Clock
) -> None:
    tokens = sign_in(client)
    clock.advance(7 * DAY - 1)
    last = refresh(client, tokens["refresh_token"])
    clock.advance(7 * DAY)

    assert refresh(client, last["refresh_token"])["code"] == "session_expired"


def test_an_access_token_does_not_outlive_its_session(client: FlaskClient, clock: Clock) -> None:
    tokens = sign_in(client)
    for _ in range(4):
        clock.advance(7 * DAY - 1)
        tokens = refresh(client, tokens["refresh_token"])
    clock.advance(tokens["refresh_expires_in"] - 60)

    tokens = refresh(client, tokens["refresh_token"])

    assert (tokens["expires_in"], tokens["refresh_expires_in"]) == (60, 60)


@pytest.mark.parametrize("seconds", [0, 10])
def test_within_the_grace_the_replaced_token_gets_the_same_successor(
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


def test_the_grace_runs_from_the_rotation_and_is_not_extended(
    client: FlaskClient, clock: Clock
) -> None:
    first = sign_in(client)
    clock.advance(60)
    refresh(client, first["refresh_token"])
    for _ in range(2):
        clock.advance(5)
        assert "access_token" in refresh(client, first["refresh_token"])
    clock.advance(1)

    assert refresh(client, first["refresh_token"])["code"] == "refresh_token_reused"


def test_a_stolen_token_ends_the_session_for_thief_and_victim(
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


def test_a_token_from_two_generations_back_ends_it_even_within_the_grace(
    client: FlaskClient,
) -> None:
    first = sign_in(client)
    second = refresh(client, first["refresh_token"])
    third = refresh(client, second["refresh_token"])

    assert refresh(client, first["refresh_token"])["code"] == "refresh_token_reused"

    assert refresh(client, third["refresh_token"])["code"] == "session_ended"
    assert access(client, third) == 401


def test_a_generation_ahead_of_the_database_ends_the_session(
    client: FlaskClient, db: Connection
) -> None:
    tokens = sign_in(client)
    ahead = refresh(client, tokens["refresh_token"])
    db.driver.execute("UPDATE sessions SET generation = 1")  # as a restored backup would

    assert refresh(client, ahead["refresh_token"])["code"] == "refresh_token_reused"
    assert refresh(client, tokens["refresh_token"])["code"] == "session_ended"


def spoilt(token: str, part: int, change: Any) -> str:
    parts = token.split(".")
    parts[part] = change(parts[part])
    return ".".join(parts)


FORGERIES: dict[str, Callable[[str], str]] = {
    "another version": lambda token: spoilt(token, 0, lambda _: "r2"),
    "another session": lambda token: spoilt(token, 1, lambda text: text[::-1]),
    "another generation": lambda token: spoilt(token, 2, lambda _: "2"),
    "generation 0": lambda token: spoilt(token, 2, lambda _: "0"),
    "a leading zero": lambda token: spoilt(token, 2, lambda _: "01"),
    "digits of another script": lambda token: spoilt(token, 2, lambda _: "١"),
    "another MAC": lambda token: spoilt(token, 3, lambda text: text[::-1]),
    "no MAC": lambda token: spoilt(token, 3, lambda _: ""),
    "a line end": lambda token: token + "\n",
    "padded": lambda token: token + "=",
    "nothing of ours": lambda _: "x",
    "very long": lambda _: "x" * 200,
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forgery_is_refused_and_harms_nobody(client: FlaskClient, kind: str) -> None:
    tokens = sign_in(client)

    assert refresh(client, FORGERIES[kind](tokens["refresh_token"]))["code"] == (
        "refresh_token_invalid"
    )

    assert "access_token" in refresh(client, tokens["refresh_token"])


def test_an_access_token_refreshes_nothing_and_a_refresh_token_opens_nothing(
    client: FlaskClient,
) -> None:
    tokens = sign_in(client)

    answer = client.post("/auth/refresh", json={"refresh_token": tokens["access_token"]})
    assert answer.status_code in (401, 422)
    assert access(client, {"access_token": tokens["refresh_token"]}) == 401


def test_neither_the_row_nor_the_secret_alone_makes_a_token(
    client: FlaskClient, db: Connection, settings: Settings
) -> None:
    shown = parse(sign_in(client)["refresh_token"])
    row = db.queries.auth.find(id=shown.session_id)
    ours = RefreshTokens.from_secrets(settings.secret_keys)

    with_another_secret = RefreshTokens.from_secrets((b"x" * 32,))
    made = with_another_secret.issue(shown.session_id, 1, row["nonce"])
    assert not ours.verify(parse(made), row["nonce"])
    assert not ours.verify(parse(ours.issue(shown.session_id, 1, b"x" * 16)), row["nonce"])
    assert ours.verify(shown, row["nonce"])


def test_secrets_are_swapped_without_signing_anybody_out(
    make_app: MakeApp, client: FlaskClient, settings: Settings
) -> None:
    old = sign_in(client)
    new_secret = b"a newer secret key, of 32 bytes and more"
    swapped = make_app(secret_keys=(new_secret, *settings.secret_keys)).test_client()
    done = make_app(secret_keys=(new_secret,)).test_client()

    refreshed = refresh(swapped, old["refresh_token"])

    assert refresh(client, refreshed["refresh_token"])["code"] == "refresh_token_invalid"
    assert "access_token" in refresh(done, refreshed["refresh_token"])


def test_the_text_forms_token_can_not_be_refreshed_and_ends_its_session(
    client: FlaskClient, db: Connection, clock: Clock
) -> None:
    text = client.post("/auth", data=CREDENTIALS).text
    row = db.driver.execute("SELECT * FROM sessions WHERE refreshable = 0").fetchone()

    assert row["ends_at"] == row["expires_at"] == int(clock()) + 12 * 60 * 60
    listed = client.get("/auth/sessions", headers=bearer(text)).get_json()
    assert [each["id"] for each in listed if each["current"]] == [row["id"]]


def test_logout_ends_the_session_at_once(client: FlaskClient) -> None:
    tokens, other = sign_in(client), sign_in(client)

    answer = client.post("/auth/logout", headers=bearer(tokens["access_token"]))

    assert (answer.status_code, answer.data) == (204, b"")
    assert access(client, tokens) == 401
    assert refresh(client, tokens["refresh_token"])["code"] == "session_ended"
    assert access(client, other) == 200


@pytest.mark.parametrize(
    ("scope", "mine", "others"), [("local", 401, 200), ("others", 200, 401), ("global", 401, 401)]
)
def test_logout_has_three_scopes(
    client: FlaskClient, db: Connection, clock: Clock, scope: str, mine: int, others: int
) -> None:
    tokens, other = sign_in(client), sign_in(client)
    stranger = bearer_of(db, add_user(db, "stranger"), int(clock()))

    answer = client.post(f"/auth/logout?scope={scope}", headers=bearer(tokens["access_token"]))

    assert answer.status_code == 204
    assert (access(client, tokens), access(client, other)) == (mine, others)
    assert client.get("/pets", headers=stranger).status_code == 200


@pytest.mark.parametrize("query", ["scope=all", "scope=", "scope=local&scope=global"])
def test_another_scope_is_refused(client: FlaskClient, travis: dict[str, str], query: str) -> None:
    answer = client.post(f"/auth/logout?{query}", headers=travis)

    assert answer.status_code == 422
    assert client.get("/pets", headers=travis).status_code == 200


def test_logout_with_a_refresh_token_ends_its_session_and_always_succeeds(
    client: FlaskClient, clock: Clock
) -> None:
    tokens = sign_in(client)
    refreshed = refresh(client, tokens["refresh_token"])
    clock.advance(100)

    for shown in (tokens["refresh_token"], tokens["refresh_token"], "x"):
        answer = client.post("/auth/logout", json={"refresh_token": shown})
        assert (answer.status_code, answer.data) == (204, b"")

    assert access(client, refreshed) == 401


def test_logout_of_nobody_is_refused(client: FlaskClient) -> None:
    assert client.post("/auth/logout").status_code == 401
    assert client.post("/auth/logout", headers=bearer("x")).status_code == 401


def test_sessions_are_listed_for_their_user(
    client: FlaskClient, db: Connection, clock: Clock
) -> None:
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
        "id": parse(first["refresh_token"]).session_id,
        "created_at": "2023-11-14T22:13:20Z",
        "last_used_at": "2023-11-14T22:14:20Z",
        "address": "127.0.0.1",
        "user_agent": "Phone/1 (?[2J) " + "x" * 185,
        "current": False,
    }


def test_ending_another_session_needs_a_recent_password(client: FlaskClient, clock: Clock) -> None:
    mine, other = sign_in(client), sign_in(client)
    headers = bearer(mine["access_token"]) | JSON
    path = f"/auth/sessions/{parse(other['refresh_token']).session_id}"
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


def test_ones_own_session_ends_without(client: FlaskClient, clock: Clock) -> None:
    tokens = sign_in(client)
    clock.advance(15 * 60 - 1)
    headers = bearer(refresh(client, tokens["refresh_token"])["access_token"])
    clock.advance(1)

    session_id = parse(tokens["refresh_token"]).session_id
    assert client.delete(f"/auth/sessions/{session_id}", headers=headers).status_code == 204
    assert client.get("/pets", headers=headers).status_code == 401


def test_anothers_session_is_not_there(client: FlaskClient, db: Connection, clock: Clock) -> None:
    stranger = bearer_of(db, add_user(db, "stranger"), int(clock()))
    tokens = sign_in(client)

    session_id = parse(tokens["refresh_token"]).session_id
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


def test_dead_sessions_are_cleared_away_as_new_ones_come(
    client: FlaskClient, clock: Clock, db: Connection
) -> None:
    dead = sign_in(client)
    client.post("/auth/logout", headers=bearer(dead["access_token"]))
    clock.advance(sessions.RETENTION_SECONDS)
    sign_in(client)
    assert refresh(client, dead["refresh_token"])["code"] == "session_ended"
    clock.advance(1)

    sign_in(client)

    assert refresh(client, dead["refresh_token"])["code"] == "refresh_token_invalid"
    ids = {row["id"] for row in db.driver.execute("SELECT id FROM sessions")}
    assert parse(dead["refresh_token"]).session_id not in ids


def test_the_oldest_dead_sessions_go_first_and_not_all_at_once(
    client: FlaskClient, db: Connection
) -> None:
    """Twenty for each new one; here the later a session was opened, the sooner it has died."""
    db.driver.execute(
        "INSERT INTO sessions WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
        " WHERE i < 45) SELECT NULL, 'dead' || i, 1, x'00', 1, 1, 0, 0, 0, 0, 100 - i, 0, NULL,"
        " '', '' FROM n"
    )

    for left in (25, 5, 0):
        sign_in(client)
        rows = db.driver.execute("SELECT id FROM sessions WHERE id LIKE 'dead%'").fetchall()
        assert {row["id"] for row in rows} == {f"dead{number}" for number in range(1, left + 1)}


def test_prune_clears_all_of_them_away(client: FlaskClient, clock: Clock, db: Connection) -> None:
    db.driver.execute(
        "INSERT INTO sessions WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
        " WHERE i < 2500) SELECT NULL, 'dead' || i, 1, x'00', 1, 1, 0, 0, 0, 0, 0, 0, NULL, '', ''"
        " FROM n"
    )
    run = client.application.test_cli_runner().invoke

    assert run(args=["prune"]).output.splitlines()[0] == "Deleted: 2500 sessions"
    assert run(args=["prune"]).output.splitlines()[0] == "Deleted: 0 sessions"


def test_sessions_end_from_the_command_line(
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


def test_a_deleted_users_refresh_token_is_nobodys(client: FlaskClient, db: Connection) -> None:
    tokens = sign_in(client)
    db.driver.execute("DELETE FROM users WHERE id = 1")

    assert refresh(client, tokens["refresh_token"])["code"] == "refresh_token_invalid"
    answer = client.get("/pets", headers=bearer(tokens["access_token"]))
    assert answer.text == "Token of a user who is gone."


def test_a_disabled_users_refresh_token_is_of_an_ended_session(
    client: FlaskClient, db: Connection
) -> None:
    """Also where nobody has ended the session itself."""
    tokens = sign_in(client)
    users.set_disabled(db, 1, disabled=True, actor=OPERATOR)

    assert refresh(client, tokens["refresh_token"])["code"] == "session_ended"

    users.set_disabled(db, 1, disabled=False, actor=OPERATOR)
    assert "access_token" in refresh(client, tokens["refresh_token"])  # nothing was used up


def test_a_token_of_anothers_session_is_revoked(
    client: FlaskClient, db: Connection, clock: Clock
) -> None:
    from_elsewhere = bearer_of(db, add_user(db, "stranger"), int(clock()))
    db.driver.execute("UPDATE sessions SET user_id = 1")

    assert client.get("/pets", headers=from_elsewhere).text == "Revoked token. Sign in again."


@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=examples(200),
    deadline=None,
)
@given(st.text() | st.from_regex(r"r1\.[A-Za-z0-9_-]{22}\.[0-9]{1,10}\.[A-Za-z0-9_-]{43}"))
def test_no_text_at_all_refreshes_anything(client: FlaskClient, text: str) -> None:
    answer = client.post("/auth/refresh", json={"refresh_token": text})

    assert answer.status_code in (401, 422)


def test_where_sessions_idle_out_sooner_access_tokens_go_with_them(
    make_app: MakeApp, db: Connection, clock: Clock
) -> None:
    client = make_app(refresh_token_idle_ttl=300).test_client()
    tokens = sign_in(client)

    assert (tokens["expires_in"], tokens["refresh_expires_in"]) == (300, 300)
    clock.advance(300)
    assert access(client, tokens) == 401


def test_without_a_grace_there_is_none(make_app: MakeApp, db: Connection) -> None:
    client = make_app(refresh_grace=0).test_client()
    first = sign_in(client)
    refresh(client, first["refresh_token"])

    assert refresh(client, first["refresh_token"])["code"] == "refresh_token_reused"


def test_a_clock_that_goes_back_makes_no_longer_grace(client: FlaskClient, clock: Clock) -> None:
    clock.advance(3600)
    first = sign_in(client)
    refresh(client, first["refresh_token"])
    clock.advance(-3600)

    assert refresh(client, first["refresh_token"])["code"] == "refresh_token_reused"


@pytest.mark.parametrize("authorization", ["Basic dHJhdmlzOng=", "Bearer", "x"])
def test_logout_by_refresh_token_takes_any_header_that_is_no_bearers(
    client: FlaskClient, authorization: str
) -> None:
    tokens = sign_in(client)

    answer = client.post(
        "/auth/logout",
        json={"refresh_token": tokens["refresh_token"]},
        headers={"Authorization": authorization},
    )

    assert answer.status_code == 204
    assert access(client, tokens) == 401


@pytest.mark.parametrize("token", ["", "x" * 10_000, "\0", "x\0", "\ud800", "é", "r1.x"], ids=ascii)
def test_logout_by_any_text_is_204(client: FlaskClient, token: str) -> None:
    data = json.dumps({"refresh_token": token})

    answer = client.post("/auth/logout", data=data, content_type="application/json")

    assert (answer.status_code, answer.data) == (204, b"")


@pytest.mark.parametrize("data", ["refresh_token=", "refresh_token=%00", "refresh_token=x"])
def test_logout_by_any_text_in_a_form_is_204(client: FlaskClient, data: str) -> None:
    form = "application/x-www-form-urlencoded"
    assert client.post("/auth/logout", data=data, content_type=form).status_code == 204


@pytest.mark.parametrize("token", [1, True, [], {}, None])
def test_logout_by_what_is_no_text_is_told_so(client: FlaskClient, token: Any) -> None:
    answer = client.post("/auth/logout", json={"refresh_token": token}, headers=JSON)

    assert (answer.status_code, set(answer.get_json()["errors"])) == (422, {"refresh_token"})


def test_logout_by_a_refresh_token_of_another_scope_is_refused(client: FlaskClient) -> None:
    tokens = sign_in(client)
    body = {"refresh_token": tokens["refresh_token"]}

    assert client.post("/auth/logout?scope=x", json=body).status_code == 422
    assert access(client, tokens) == 200


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/auth/logout?scope=x"), ("PATCH", "/me"), ("POST", "/users")]
)
@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"x" * 70_000, "text/plain", 413),
        (b"x", "text/plain", 415),
        (b"{", "application/json", 400),
    ],
)
def test_the_checks_come_in_the_order_of_the_contract(
    make_app: MakeApp, database: Database, travis: dict[str, str], clock: Clock,
    method: str, path: str, data: bytes, content_type: str, status: int,
) -> None:  # fmt: skip
    client = make_app(signup="open").test_client()
    closed = make_app().test_client()

    def ask(client: FlaskClient, headers: dict[str, str]) -> int:
        return client.open(
            path, method=method, data=data, content_type=content_type, headers=headers
        ).status_code

    assert ask(client, travis) == status
    if path == "/users":
        assert ask(closed, {}) == 403
    if path == "/me":
        clock.advance(15 * 60 - 1)
        late = bearer(token(int(clock())))
        clock.advance(1)
        assert ask(client, late) == 401


def test_who_is_signed_out_in_the_midst_of_a_request_is_told_so(
    client: FlaskClient, db: Connection, travis: dict[str, str], clock: Clock
) -> None:
    app = client.application
    with app.test_request_context("/me"):
        caller = authenticate(travis["Authorization"])
        sessions.end_all(db, 1, int(clock()))

        with pytest.raises(TokenRevoked):
            require_still_signed_in(db, caller)


def test_a_demotion_in_the_midst_of_a_sign_in_is_in_its_token(db: Connection) -> None:
    users.set_admin(db, 1, admin=True, actor=OPERATOR)
    verified = users.get_by_id(db, 1)
    add_user(db, "another")
    users.set_admin(db, users.get_by_name(db, "another")["id"], admin=True, actor=OPERATOR)
    users.set_admin(db, 1, admin=False, actor=OPERATOR)

    for current in (
        users.replace_hash(db, verified, verified["password_hash"], 0),
        users.replace_hash(db, verified, verified["password_hash"]),
    ):
        assert current == {"id": 1, "admin": 0}


def test_all_sign_ins_at_once_with_an_old_hash_get_in(
    client: FlaskClient, db: Connection, settings: Settings
) -> None:
    """One of them renews the hash, and the others verify again."""
    add_user(db, "old", password_hash=bcrypt.using(rounds=4).hash("correct horse"))
    barrier = threading.Barrier(8)

    def sign_in_once(_number: int) -> int:
        barrier.wait(timeout=10)
        data = {"username": "old", "password": "correct horse"}
        return client.application.test_client().post("/auth", data=data).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(sign_in_once, range(8))) == {200}
