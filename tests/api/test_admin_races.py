"""The last enabled admin stays one, whatever happens at once; a change is made whole or not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jwt_server.auth import sessions
from jwt_server.database import Connection
from tests.helpers.admin import Admin, Rows, add_admin
from tests.helpers.app import Clock
from tests.helpers.auth import run_at_once
from tests.helpers.factories import add_user, bearer_of, everything
from tests.helpers.http import Response
from tests.helpers.sql import tracing

Change = Callable[[Admin, int], Response]

CHANGES: dict[str, Change] = {
    "demote": lambda admin, user_id: admin.change(user_id, admin=False),
    "disable": lambda admin, user_id: admin.change(user_id, disabled=True),
    "delete": lambda admin, user_id: admin.send("DELETE", f"/admin/users/{user_id}"),
}
ROUNDS = 4


def enabled_admins(db: Connection) -> list[int]:
    found = db.driver.execute("SELECT id FROM users WHERE admin = 1 AND disabled = 0").fetchall()
    return [row["id"] for row in found]


@pytest.mark.parametrize("targets", ["each other", "themselves"])
@pytest.mark.parametrize(("first", "second"), [*product(CHANGES, CHANGES)])
def test_of_two_admins_one_remains(
    app: Flask, db: Connection, clock: Clock, first: str, second: str, targets: str
) -> None:
    for number in range(ROUNDS):
        db.driver.execute("DELETE FROM users WHERE admin = 1")
        names = (f"{number} a", f"{number} b")
        admins = [add_admin(app.test_client(), db, int(clock()), name) for name in names]
        ids = [admin.id for admin in admins]
        victims = ids[::-1] if targets == "each other" else ids
        calls = zip(admins, (CHANGES[first], CHANGES[second]), victims, strict=True)

        def change(calls: Any = calls) -> Response:
            admin, send, victim = next(calls)
            response: Response = send(admin, victim)
            return response

        statuses = sorted(response.status for response in run_at_once(change, 2))

        assert len(enabled_admins(db)) == 1
        assert statuses[0] in {200, 204}
        assert statuses[1] in ({409} if targets == "themselves" else {401, 403})


@pytest.mark.parametrize("change", CHANGES)
def test_an_admin_with_a_temporary_password_is_no_other_admin(
    boss: Admin, db: Connection, change: str
) -> None:
    """Who may never sign in, as the password expires."""
    new = boss.send("POST", "/admin/users", json={"username": "ada", "admin": True})

    assert CHANGES[change](boss, boss.id).json["code"] == "last_admin"
    assert CHANGES[change](boss, new.json["id"]).status in {200, 204}
    assert enabled_admins(db) == [boss.id]


@pytest.mark.parametrize("change", CHANGES)
def test_the_last_enabled_admin_stays_one(
    client: FlaskClient, boss: Admin, db: Connection, clock: Clock, rows: Rows, change: str
) -> None:
    disabled = add_admin(client, db, int(clock()), "disabled")
    assert boss.change(disabled.id, disabled=True).status == 200
    before = everything(db)
    rows()

    refused = CHANGES[change](boss, boss.id)

    assert (refused.status, refused.json["code"]) == (409, "last_admin")
    assert everything(db) == before
    assert rows() == []
    assert boss.change(boss.id, admin=True, disabled=False).status == 200
    assert CHANGES[change](boss, disabled.id).status in {200, 204}  # is no enabled one


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"username": "renamed", "claims": {"a": 1}, "admin": False}, 409),
        ({"claims": {"a": 1}, "disabled": True, "username": "renamed"}, 409),
        ({"claims": {"a": 1}, "username": "TRAVIS"}, 409),
        ({"username": "renamed", "claims": {"sub": "1"}}, 422),
        ({"username": "renamed", "disabled": "yes"}, 422),
        ({"username": "renamed", "admin": 1}, 422),
        ({"claims": {"a": 1}, "username": ""}, 422),
        ({"username": "renamed", "claims": None}, 422),
        ({"username": "renamed", "id": 7}, 422),
    ],
    ids=str,
)
def test_a_change_of_several_fields_is_all_or_none(
    boss: Admin, db: Connection, rows: Rows, caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any], status: int,
) -> None:  # fmt: skip
    caplog.set_level("INFO", "jwt_server.audit")
    before = everything(db)

    refused = boss.change(boss.id, **changes)

    assert refused.status == status
    assert everything(db) == before
    assert rows() == []
    assert [each for each in caplog.records if each.name == "jwt_server.audit"] == []


def test_all_fields_are_changed_at_once(boss: Admin, db: Connection, rows: Rows) -> None:
    user_id = add_user(db, "ada")
    claims = {"role": "editor"}

    changed = boss.change(user_id, username="Eve", admin=True, disabled=True, claims=claims)

    assert changed.status == 200
    assert changed.json == boss.get(f"/admin/users/{user_id}")
    found = {name: changed.json[name] for name in ("username", "admin", "disabled", "claims")}
    assert found == {"username": "Eve", "admin": True, "disabled": True, "claims": claims}
    assert {(row["action"], row["actor_id"], row["user_id"]) for row in rows()} == {
        (action, boss.id, user_id)
        for action in ("user_renamed", "user_promoted", "user_disabled", "user_claims_set")
    }
    assert boss.change(user_id, **found).json == changed.json
    assert boss.change(user_id).json == changed.json
    assert rows() == []  # nothing has changed


def test_two_users_of_one_name_at_once_are_one(app: Flask, boss: Admin, db: Connection) -> None:
    body = {"username": "ada", "password": "correct horse battery"}

    responses = run_at_once(lambda: boss.send("POST", "/admin/users", json=body), 8)

    assert sorted(response.status for response in responses) == [201] + [409] * 7


def test_signing_everyone_out_lets_others_write_in_between(
    app: Flask, boss: Admin, db: Connection, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "END_BATCH", 2)
    before = [bearer_of(db, add_user(db, f"user {number}"), int(clock())) for number in range(6)]
    client = app.test_client()
    written: list[int] = []
    boss.get("/admin/keys")

    def write_in_between(statement: str) -> None:
        if statement == db.engine.begin:
            written.append(add_user(db, f"new {len(written)}"))

    with tracing(app.extensions["jwt-server"].database._idle[-1], write_in_between):
        assert boss.send("DELETE", "/admin/sessions").status == 204

    assert len(written) > 4  # 8 sessions, two at a time
    assert {client.get("/me", headers=each).status_code for each in before} == {401}
    [row] = db.driver.execute("SELECT * FROM audit WHERE action = 'sessions_ended'").fetchall()
    assert (row["actor_id"], row["user_id"], row["details"]) == (boss.id, None, '{"sessions": 8}')
