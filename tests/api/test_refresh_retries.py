"""What a refresh token that was just replaced gets: a lost response signs nobody out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from jwt_server.database import Connection
from jwt_server.security.refresh_tokens import RefreshTokens
from tests.helpers.app import Clock, MakeApp
from tests.helpers.auth import DAY, JSON, Tokens, access, run_at_once, sign_in

KEY, OTHER_KEY = "k" * 22, "o" * 64
HOME, NEXT_DOOR, STRANGER = "198.51.100.7", "198.51.100.8", "203.0.113.1"
SITE, SAME_SITE, OTHER_SITE = "2001:db8:1::1", "2001:db8:1:ff::2", "2001:db8:2::1"

SUCCESSOR, REUSED = "successor", "refresh_token_reused"
ELSEWHERE = "refresh_token_invalid"


def refresh(
    client: FlaskClient, token: str, key: str | None = None, address: str = HOME, agent: str = "a"
) -> Tokens:
    """Return the token object that a refresh token gets, or the problem details."""
    response = client.post(
        "/auth/refresh",
        json={"refresh_token": token} | ({"retry_key": key} if key else {}),
        headers=JSON | {"User-Agent": agent},
        environ_overrides={"REMOTE_ADDR": address},
    )
    assert response.status_code in (200, 401)
    found: Tokens = response.get_json()
    assert key is None or key not in response.text
    return found


@pytest.mark.parametrize(
    ("rotated_with", "seconds", "shown", "expected"),
    [
        (KEY, 0, KEY, SUCCESSOR),
        (KEY, DAY, KEY, SUCCESSOR),  # a laptop that slept over a lost response
        (KEY, 10, OTHER_KEY, SUCCESSOR),
        (KEY, 10, None, SUCCESSOR),
        (None, 10, KEY, SUCCESSOR),
        (None, 10, None, SUCCESSOR),
        (KEY, 11, OTHER_KEY, REUSED),
        (KEY, 11, KEY[:-1] + "x", REUSED),
        (KEY, 11, None, REUSED),
        (None, 11, KEY, REUSED),
        (None, 11, None, REUSED),
    ],
)
def test_a_replaced_token_with_a_key_and_without(
    client: FlaskClient, clock: Clock, rotated_with: str | None, seconds: int,
    shown: str | None, expected: str,
) -> None:  # fmt: skip
    first = sign_in(client)["refresh_token"]
    second = refresh(client, first, rotated_with)
    clock.advance(seconds)

    again = refresh(client, first, shown)

    if expected == SUCCESSOR:
        assert again["refresh_token"] == second["refresh_token"]
        assert again["access_token"] != second["access_token"]
        assert again["refresh_expires_in"] == second["refresh_expires_in"] - seconds
        assert access(client, again) == 200
        assert "access_token" in refresh(client, second["refresh_token"], "n" * 22)
    else:
        assert again["code"] == expected
        assert refresh(client, second["refresh_token"], KEY)["code"] == "session_ended"
        assert access(client, second) == 401


@pytest.mark.parametrize(
    ("rotated_at", "shown_at", "agent", "expected"),
    [
        (HOME, NEXT_DOOR, "a", SUCCESSOR),
        (SITE, SAME_SITE, "a", SUCCESSOR),
        (HOME, STRANGER, "a", ELSEWHERE),
        (HOME, SITE, "a", ELSEWHERE),
        (SITE, OTHER_SITE, "a", ELSEWHERE),
        (HOME, HOME, "b", ELSEWHERE),
    ],
)
@pytest.mark.parametrize("shown", [OTHER_KEY, None])
def test_within_the_grace_a_client_elsewhere_is_refused_and_the_session_lives_on(
    client: FlaskClient, rotated_at: str, shown_at: str, agent: str, expected: str,
    shown: str | None,
) -> None:  # fmt: skip
    first = sign_in(client)["refresh_token"]
    second = refresh(client, first, KEY, rotated_at)

    again = refresh(client, first, shown, shown_at, agent)

    assert again.get("code", SUCCESSOR) == expected
    assert again.get("refresh_token") == (
        second["refresh_token"] if expected == SUCCESSOR else None
    )
    assert access(client, second) == 200
    assert "access_token" in refresh(client, second["refresh_token"], OTHER_KEY)


def test_with_its_key_a_client_may_be_anywhere(client: FlaskClient, clock: Clock) -> None:
    first = sign_in(client)["refresh_token"]
    second = refresh(client, first, KEY)
    clock.advance(60)

    again = refresh(client, first, KEY, STRANGER, "after an update")

    assert again["refresh_token"] == second["refresh_token"]


def test_once_the_successor_is_used_no_key_helps(client: FlaskClient) -> None:
    first = sign_in(client)["refresh_token"]
    second = refresh(client, first, KEY)
    third = refresh(client, second["refresh_token"], OTHER_KEY)

    assert refresh(client, first, KEY)["code"] == REUSED
    assert access(client, third) == 401


def test_a_key_works_until_the_session_expires(client: FlaskClient, clock: Clock) -> None:
    first = sign_in(client)["refresh_token"]
    refresh(client, first, KEY)
    clock.advance(7 * DAY - 1)
    assert "access_token" in refresh(client, first, KEY)
    clock.advance(1)

    assert refresh(client, first, KEY)["code"] == "session_expired"


def test_the_key_of_an_older_rotation_is_another_key(client: FlaskClient, clock: Clock) -> None:
    first = sign_in(client)["refresh_token"]
    second = refresh(client, first, KEY)["refresh_token"]
    refresh(client, second, OTHER_KEY)
    clock.advance(11)

    assert refresh(client, second, KEY)["code"] == REUSED


def test_a_thief_who_refreshes_first_is_found_by_the_owners_next_refresh(
    client: FlaskClient, clock: Clock
) -> None:
    stolen = sign_in(client)["refresh_token"]
    thiefs = refresh(client, stolen, OTHER_KEY, STRANGER, "thief")
    clock.advance(11)

    assert refresh(client, stolen, KEY)["code"] == REUSED
    assert access(client, thiefs) == 401


@pytest.mark.parametrize("key", [OTHER_KEY, None])
def test_a_thief_who_refreshes_second_gets_nothing(
    client: FlaskClient, db: Connection, clock: Clock, key: str | None
) -> None:
    stolen = sign_in(client)["refresh_token"]
    owners = refresh(client, stolen, KEY)

    for _ in range(3):
        assert refresh(client, stolen, key, STRANGER, "thief")["code"] == ELSEWHERE
    raced = "SELECT count(*) AS rows FROM audit WHERE action = 'refresh_raced'"
    assert db.driver.execute(raced).fetchone()["rows"] == 1
    assert access(client, owners) == 200
    clock.advance(11)
    assert refresh(client, stolen, key, STRANGER, "thief")["code"] == REUSED
    assert access(client, owners) == 401


def test_another_key_is_counted_each_time_and_audited_once_per_rotation(
    client: FlaskClient, db: Connection
) -> None:
    def counts() -> dict[str, float]:
        metrics = client.application.extensions["jwt-server"].metrics
        return {
            sample.labels["reason"]: sample.value
            for family in metrics.refresh_retries.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        }

    before = counts()
    token = sign_in(client)["refresh_token"]
    for _ in range(2):
        successor = refresh(client, token, KEY)["refresh_token"]
        for key in (KEY, None, None, OTHER_KEY, OTHER_KEY, "z" * 30):
            assert refresh(client, token, key)["refresh_token"] == successor
        token = successor

    assert {name: counts()[name] - before[name] for name in before} == {
        "same_key": 2, "no_key": 4, "other_key": 6
    }  # fmt: skip
    rows = db.driver.execute("SELECT details FROM audit WHERE action = 'refresh_raced'").fetchall()
    assert [set(json.loads(row["details"])) for row in rows] == [{"session"}] * 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("sessions SET ended_at = 1700000000", "session_ended"),
        ("sessions SET generation = generation + 1", REUSED),
        ("users SET disabled = 1", "session_ended"),
    ],
)
def test_a_session_that_changes_while_a_race_is_recorded_is_read_again(
    client: FlaskClient, db: Connection, monkeypatch: pytest.MonkeyPatch, change: str, code: str
) -> None:
    token = sign_in(client)["refresh_token"]
    refresh(client, token, KEY)
    matches = RefreshTokens.matches

    def match_then_change(*args: Any) -> bool:
        db.driver.execute(f"UPDATE {change}")
        monkeypatch.undo()
        return matches(*args)

    monkeypatch.setattr(RefreshTokens, "matches", match_then_change)

    assert refresh(client, token, OTHER_KEY)["code"] == code
    raced = db.driver.execute("SELECT * FROM audit WHERE action = 'refresh_raced'").fetchall()
    assert raced == []


def test_tabs_that_race_with_keys_of_their_own_get_one_successor(
    client: FlaskClient, db: Connection
) -> None:
    token = sign_in(client)["refresh_token"]
    keys = iter([*(f"{number:022}" for number in range(4)), *[KEY] * 4])

    responses = run_at_once(lambda: refresh(client, token, next(keys)), 8)

    assert len({each["refresh_token"] for each in responses}) == 1
    row = db.driver.execute("SELECT generation FROM sessions ORDER BY number DESC").fetchone()
    assert row["generation"] == 2
    assert {access(client, each) for each in responses} == {200}


def test_a_session_from_before_the_upgrade_matches_any_place(
    client: FlaskClient, db: Connection, clock: Clock
) -> None:
    first = sign_in(client)["refresh_token"]
    second = refresh(client, first)
    db.driver.execute("UPDATE sessions SET retry_key_hash = NULL, rotated_by_hash = NULL")

    again = refresh(client, first, KEY, STRANGER, "b")

    assert again["refresh_token"] == second["refresh_token"]
    clock.advance(11)
    assert refresh(client, first, KEY)["code"] == REUSED


def test_a_key_outlives_a_change_of_the_secret(
    make_app: MakeApp, client: FlaskClient, clock: Clock
) -> None:
    first = sign_in(client)["refresh_token"]
    refresh(client, first, KEY)
    clock.advance(DAY)
    secrets = client.application.extensions["jwt-server"].settings.secret_keys
    changed = make_app(secret_keys=(b"n" * 32, *secrets)).test_client()

    assert "access_token" in refresh(changed, first, KEY)


def test_neither_key_nor_place_is_stored(client: FlaskClient, db: Connection) -> None:
    refresh(client, sign_in(client)["refresh_token"], KEY, STRANGER, "agent")

    row = db.driver.execute("SELECT * FROM sessions ORDER BY number DESC").fetchone()
    assert len(row["retry_key_hash"]) == len(row["rotated_by_hash"]) == 32
    stored = str(row)
    assert KEY not in stored
    assert STRANGER not in stored


@pytest.mark.parametrize("key", ["", "k" * 21, "k" * 65, "k" * 21 + "+", 5, None, ["k" * 22]])
def test_an_invalid_key_is_refused_and_the_token_stays_valid(client: FlaskClient, key: Any) -> None:
    token = sign_in(client)["refresh_token"]

    response = client.post("/auth/refresh", json={"refresh_token": token, "retry_key": key})

    assert (response.status_code, response.text.split(":")[0]) == (422, "retry_key")
    assert "access_token" in refresh(client, token, KEY)
