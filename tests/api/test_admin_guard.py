"""Who may call the routes of the administration: admins; for changes, with a recent password."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jwt_server.auth import sessions
from jwt_server.database import Connection, Database
from jwt_server.users import users
from tests.helpers.admin import Admin, Rows, add_admin, admin_routes, facts
from tests.helpers.app import Clock, MakeApp
from tests.helpers.auth import HOUR, JSON
from tests.helpers.description import documented, fill_path
from tests.helpers.factories import (
    OPERATOR,
    SESSION,
    add_user,
    bearer,
    bearer_of,
    everything,
    execute,
    token,
)
from tests.helpers.http import Response, Send, send_to_app
from tests.helpers.sql import tracing

# A valid body for each route that changes something.
CHANGES: dict[str, dict[str, Any]] = {
    "POST /admin/users": {"username": "new"},
    "PATCH /admin/users/{user_id}": {"username": "renamed", "claims": {"role": "editor"}},
    "DELETE /admin/users/{user_id}": {},
    "PUT /admin/users/{user_id}/password": {},
    "DELETE /admin/users/{user_id}/sessions": {},
    "DELETE /admin/users/{user_id}/sessions/{session_id}": {},
    "DELETE /admin/users/{user_id}/lockout": {},
    "DELETE /admin/sessions": {},
}
READS = {
    "GET /admin/users", "GET /admin/users/{user_id}", "GET /admin/users/{user_id}/sessions",
    "GET /admin/audit", "GET /admin/stats", "GET /admin/keys",
}  # fmt: skip


@pytest.fixture
def call(client: FlaskClient) -> Callable[[str, dict[str, str]], Response]:
    """Call a route, with a valid body, and check that the response is a documented one."""
    return partial(call_route, documented(partial(send_to_app, client)))


Call = Callable[[str, dict[str, str]], Response]


def call_route(send: Send, route: str, headers: dict[str, str]) -> Response:
    method, path = route.split()
    return send(method, fill_path(path), headers=headers, json=CHANGES.get(route))


def test_every_route_of_the_administration_is_listed_here(app: Flask) -> None:
    routes = {f"{method} {path}" for method, path in admin_routes(app)}

    assert routes == READS | set(CHANGES)


def test_strangers_are_refused(call: Call, db: Connection, rows: Rows) -> None:
    before = everything(db)
    for route in READS | set(CHANGES):
        for headers, challenge in (
            ({}, "Bearer"),
            (bearer("x"), 'Bearer error="invalid_token"'),
            (bearer(token(exp=1, admin=True)), 'Bearer error="invalid_token"'),
        ):
            response = call(route, headers)
            assert response.status == 401, route
            assert response.headers["WWW-Authenticate"] == challenge
    assert everything(db) == before
    assert rows() == []


def test_ordinary_users_are_refused_and_recorded(
    call: Call, boss: Admin, db: Connection, clock: Clock, rows: Rows
) -> None:
    """Also with a token that says `admin`, which was issued before."""
    before = everything(db)
    told = bearer(token(int(clock()), admin=True))
    for route in READS | set(CHANGES):
        method, path = route.split()
        response = call(route, told | JSON)
        assert (response.status, response.json["code"]) == (403, "admin_required"), route
        details = {"method": method, "path": path}
        assert [facts(row) for row in rows()] == [("admin_refused", 1, 1, "127.0.0.1", details)], (
            route
        )
    assert call("GET /admin/keys", told).text == "Only admins may do this."
    assert everything(db) == before


def test_thirty_refusals_an_hour_are_recorded(
    call: Call, boss: Admin, db: Connection, clock: Clock, rows: Rows, travis: dict[str, str]
) -> None:
    other = bearer_of(db, add_user(db, "other"), int(clock()))
    statuses = [call("GET /admin/users", travis).status for _ in range(30)]
    found = [row["action"] for row in rows()]
    refused = call("DELETE /admin/sessions", travis | JSON)

    assert statuses == [403] * 30
    assert found == ["admin_refused"] * 29 + ["locked_out", "admin_refused"]
    assert (refused.status, refused.json["code"]) == (429, "too_many_tries")
    assert refused.headers["Retry-After"] == "3600"
    assert rows() == []
    assert call("GET /admin/users", other).status == 403  # has a limit of its own
    assert boss.get("/admin/users")
    clock.advance(HOUR)
    late = bearer(token(int(clock())))
    assert call("GET /admin/users", late).status == 403
    assert [row["action"] for row in rows()] == ["admin_refused"] * 2


def test_an_admin_with_a_temporary_password_is_refused(
    call: Call, boss: Admin, db: Connection, rows: Rows
) -> None:
    execute(db, "UPDATE users SET password_expires_at = ? WHERE id = ?", 1 << 40, boss.id)
    for route in READS | set(CHANGES):
        response = call(route, boss.headers | JSON)
        assert (response.status, response.json["code"]) == (403, "password_change_required")
    assert {row["action"] for row in rows()} == {"admin_refused"}


def test_changes_need_a_recent_password(
    call: Call, boss: Admin, db: Connection, clock: Clock, rows: Rows
) -> None:
    before = everything(db)
    clock.advance(899)  # the token's last second
    db.driver.execute("UPDATE sessions SET authenticated_at = authenticated_at - 1")
    for route in CHANGES:
        response = call(route, boss.headers | JSON)
        assert response.status == 401, route
        assert response.json["code"] == "insufficient_user_authentication"
        assert response.headers["WWW-Authenticate"] == (
            'Bearer error="insufficient_user_authentication", max_age=900'
        )
    db.driver.execute("UPDATE sessions SET authenticated_at = authenticated_at + 1")
    assert everything(db) == before
    assert rows() == []
    for route in READS:
        assert call(route, boss.headers).status == 200, route
    assert call("DELETE /admin/sessions", boss.headers).status == 204


ENDS: dict[str, Callable[[Connection, int], Any]] = {
    "demoted": lambda db, user_id: users.set_admin(db, user_id, admin=False, actor=OPERATOR),
    "disabled": lambda db, user_id: users.set_disabled(db, user_id, disabled=True, actor=OPERATOR),
    "deleted": lambda db, user_id: users.remove(db, user_id, actor=OPERATOR),
    "signed out": lambda db, user_id: sessions.end_all(db, user_id, 1),
}
"""Ways to take an admin's rights away."""


@pytest.mark.parametrize("end", ENDS)
def test_a_former_admin_is_refused_at_the_next_request_in_every_process(
    make_app: MakeApp, database: Database, db: Connection, clock: Clock, end: str
) -> None:
    sends = [documented(partial(send_to_app, make_app().test_client())) for _ in range(2)]
    now = int(clock())
    add_admin(make_app().test_client(), db, now, "other")
    boss = add_admin(make_app().test_client(), db, now)
    for send in sends:
        assert call_route(send, "GET /admin/keys", boss.headers).status == 200

    ENDS[end](db, boss.id)

    before = everything(db)
    for send in sends:
        for route in READS | set(CHANGES):
            response = call_route(send, route, boss.headers)
            assert response.status == (403 if end == "demoted" else 401), route
    assert everything(db) == before


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("route", CHANGES)
def test_an_admin_who_loses_the_rights_during_a_request_changes_nothing(
    app: Flask, call: Call, boss: Admin, db: Connection, clock: Clock, route: str, end: str
) -> None:
    """Between the guard and the transaction, which checks again."""
    other = add_admin(app.test_client(), db, int(clock()), "other")
    assert boss.get("/admin/keys")["keys"] == []
    left: list[Any] = []

    def end_before_the_transaction(statement: str) -> None:
        if statement == db.engine.begin and not left:
            ENDS[end](db, boss.id)
            left.append(everything(db))

    idle = app.extensions["jwt-server"].database._idle[-1]
    with tracing(idle, end_before_the_transaction):
        refused = call(route, boss.headers)

    assert [everything(db)] == left
    assert refused.status == (403 if end == "demoted" else 401)
    execute(db, "UPDATE sessions SET ended_at = NULL, expires_at = ? WHERE user_id = 1", 1 << 40)
    assert call(route, other.headers).status in {200, 201, 204}  # the request was valid


def test_a_path_that_is_not_there_is_404_and_another_method_405(boss: Admin) -> None:
    for method, path, status in (
        ("GET", "/admin/nowhere", 404),
        ("PUT", "/admin/users", 405),
        ("GET", "/admin/users/1/lockout", 405),
        ("GET", "/admin/users/01", 404),
        ("GET", "/admin/users/0", 404),
        ("DELETE", f"/admin/users/99/sessions/{SESSION}", 404),
    ):
        assert boss.send(method, path).status == status, path
