"""Statistics from the audit log, totals, and the states of the keys."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from jwt_server import audit
from jwt_server.audit import Action, Actor
from jwt_server.database import Connection
from jwt_server.users import users
from tests.helpers.admin import Admin, add_admin
from tests.helpers.app import Clock, MakeApp
from tests.helpers.auth import DAY, HOME, HOUR, guesses, refresh, sign_in
from tests.helpers.factories import OPERATOR, add_user, bearer, execute

COUNTED = (
    Action.SIGNED_IN, Action.SIGN_IN_FAILED, Action.LOCKED_OUT, Action.SIGNED_UP,
    Action.REFRESH_TOKEN_REUSED,
)  # fmt: skip
AGES = [
    0, 1, 1, HOUR - 1, HOUR, HOUR + 1, 5 * HOUR, DAY - 1, DAY, DAY + 1, 2 * DAY, 6 * DAY, 7 * DAY,
    8 * DAY, 29 * DAY, 30 * DAY, 364 * DAY, 365 * DAY, 400 * DAY, -1, -HOUR, -DAY,
]  # fmt: skip
"""Seconds before now; rows of the future are of a clock that stepped back."""
MIDNIGHT = 1_700_006_400


def unix(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())


@pytest.fixture(params=[MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + 5 * HOUR + 7])
def now(request: pytest.FixtureRequest, clock: Clock) -> int:
    clock.time = request.param
    return int(clock())


@pytest.fixture
def recorded(now: int, boss: Admin, db: Connection) -> dict[str, list[int]]:
    """The times of the rows of each action."""
    times = {
        action.value: [now - age - number for age in AGES] for number, action in enumerate(COUNTED)
    }
    with db.transaction():
        db.driver.execute("DELETE FROM audit")
        for action in COUNTED:
            for at in times[action]:
                audit.record(db, Actor(None, HOME, at), action, 1)
                audit.record(db, Actor(None, HOME, at), Action.SIGNED_OUT, 1)
    return times


@pytest.mark.parametrize("days", [1, 2, 7, 8, 30, 365])
def test_numbers_are_those_of_the_audit_log_by_full_hours_and_days_of_utc(
    recorded: dict[str, list[int]], boss: Admin, now: int, days: int
) -> None:
    found = boss.get(f"/admin/stats?days={days}")

    seconds = HOUR if days <= 7 else DAY
    since, until = unix(found["since"]), unix(found["until"])
    assert found["bucket_seconds"] == seconds
    assert since % seconds == until % seconds == 0
    assert until - since == days * DAY
    assert until - seconds <= now < until
    starts = range(since, until, seconds)
    assert found["series"] == {
        name: [sum(start <= at < start + seconds for at in times) for start in starts]
        for name, times in recorded.items()
    }
    assert sum(found["series"]["signed_in"]) >= 3


def test_a_week_is_the_default(boss: Admin) -> None:
    assert boss.get("/admin/stats") == boss.get("/admin/stats?days=7")


@pytest.mark.parametrize("days", ["0", "366", "-1", "1.5", "", "x", "01", "7&days=7"])
def test_a_bad_number_of_days_is_422(boss: Admin, days: str) -> None:
    response = boss.send("GET", f"/admin/stats?days={days}")

    assert (response.status, set(response.json["errors"])) == (422, {"days"})


def test_what_users_do_is_counted(boss: Admin, client: FlaskClient, clock: Clock) -> None:
    tokens = sign_in(client)
    for _ in range(2):
        guesses(client)()
    for _ in range(2):
        token = refresh(client, tokens["refresh_token"]).get("refresh_token", "")
        clock.advance(11)
    assert token == ""  # the second use was a reuse

    found = boss.get("/admin/stats?days=1")

    assert {name: numbers[-1] for name, numbers in found["series"].items()} == {
        "signed_in": 1, "sign_in_failed": 2, "locked_out": 0, "signed_up": 0,
        "refresh_token_reused": 1,
    }  # fmt: skip


def test_totals_are_those_of_now(
    boss: Admin, client: FlaskClient, db: Connection, clock: Clock
) -> None:
    for name, admin, disabled in (("a", True, False), ("b", True, True), ("c", False, True)):
        user_id = add_user(db, name)
        users.set_admin(db, user_id, admin=admin, actor=OPERATOR)
        users.set_disabled(db, user_id, disabled=disabled, actor=OPERATOR)
    ended = sign_in(client)
    client.post("/auth/logout", headers=bearer(ended["access_token"]))
    sign_in(client)
    execute(
        db,
        "UPDATE sessions SET expires_at = ? WHERE number = (SELECT max(number) FROM sessions)",
        int(clock()),
    )

    assert boss.get("/admin/stats")["totals"] == {
        "users": 5, "admins": 3, "disabled": 2, "sessions": 2,
    }  # fmt: skip
    boss.send("DELETE", f"/admin/users/{user_id}")
    sign_in(client)
    assert boss.get("/admin/stats")["totals"] == {
        "users": 4, "admins": 3, "disabled": 1, "sessions": 3,
    }  # fmt: skip


def test_hs256_has_no_keys_to_show(boss: Admin) -> None:
    found = boss.get("/admin/keys")

    assert found == {"algorithm": "HS256", "now": "2023-11-14T22:13:20Z", "keys": []}


def test_the_states_of_keys_around_a_rotation(
    make_app: MakeApp, db: Connection, clock: Clock, tmp_path: Path
) -> None:
    app = make_app(jwt_algorithm="ES256", jwt_keys_dir=tmp_path / "keys")
    client, run = app.test_client(), app.test_cli_runner().invoke
    run(args=["keys", "rotate"])
    boss = add_admin(client, db, int(clock()))

    def read() -> Any:
        token = sign_in(client, username="boss", password="correct horse")["access_token"]
        boss.headers.update(bearer(token))
        found = boss.get("/admin/keys")
        assert unix(found["now"]) == int(clock())
        assert found["algorithm"] == "ES256"
        return [(key["kid"], key["state"], unix(key["signs_from"])) for key in found["keys"]]

    started = int(clock())
    [(first, *rest)] = read()
    assert rest == ["signs", started]
    clock.advance(60)
    run(args=["keys", "rotate"])
    [again, (second, *rest)] = read()
    assert again == (first, "signs", started)
    assert rest == ["next", started + 60 + 1200]
    clock.advance(1199)
    assert [state for _, state, _ in read()] == ["signs", "next"]
    clock.advance(1)
    assert [state for _, state, _ in read()] == ["verifies", "signs"]
    run(args=["keys", "revoke", second])
    states = {kid: state for kid, state, _ in read()}
    assert second not in states
    assert (states.pop(first), [*states.values()]) == ("verifies", ["signs"])
    clock.advance(365 * DAY)
    run(args=["keys", "prune"])
    assert [state for _, state, _ in read()] == ["signs"]


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
def test_keys_show_no_private_part(
    make_app: MakeApp, db: Connection, clock: Clock, tmp_path: Path, algorithm: str
) -> None:
    folder = tmp_path / "keys"
    app = make_app(jwt_algorithm=algorithm, jwt_keys_dir=folder)
    app.test_cli_runner().invoke(args=["keys", "rotate"])
    add_admin(app.test_client(), db, int(clock()))
    token = sign_in(app.test_client(), username="boss", password="correct horse")["access_token"]

    found = app.test_client().get("/admin/keys", headers=bearer(token)).get_json()

    [key] = found["keys"]
    assert set(key) == {"kid", "created_at", "signs_from", "state"}
    [file] = folder.glob("*.pem")
    assert key["kid"] in file.name
    pem = file.read_text().split("-----")[2].split()
    assert not [line for line in pem if line in json.dumps(found)]
    assert str(folder) not in json.dumps(found)
