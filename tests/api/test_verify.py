"""`GET /auth/verify`."""

from __future__ import annotations

from flask.testing import FlaskClient

from jwt_server.database import Connection
from jwt_server.users import users
from tests.helpers.app import Clock
from tests.helpers.factories import OPERATOR, add_user, bearer, bearer_of, token
from tests.helpers.http import Send


def test_verify_returns_the_user(send: Send) -> None:
    response = send("GET", "/auth/verify", headers=bearer(token()))

    assert (response.status, response.body) == (204, b"")
    assert response.headers["X-Auth-User-Id"] == "1"
    assert response.headers["X-Auth-Username"] == "travis"
    assert response.headers["X-Auth-Admin"] == "false"


def test_verify_refuses_an_invalid_token(send: Send) -> None:
    for headers in ({}, bearer("x"), bearer(token(exp=1))):
        response = send("GET", "/auth/verify", headers=headers)
        assert response.status == 401
        assert not [name for name in response.headers.keys() if name.startswith("X-Auth")]  # noqa: SIM118 - pairs else


def test_verify_percent_encodes_the_username(
    client: FlaskClient, db: Connection, clock: Clock
) -> None:
    headers = bearer_of(db, add_user(db, "Ünal 🐈/%"), int(clock()))

    name = client.get("/auth/verify", headers=headers).headers["X-Auth-Username"]

    assert name == "%C3%9Cnal%20%F0%9F%90%88%2F%25"


def test_verify_returns_the_current_admin_flag(
    client: FlaskClient, db: Connection, travis: dict[str, str]
) -> None:
    add_user(db, "ada")
    users.set_admin(db, users.get_by_name(db, "ada")["id"], admin=True, actor=OPERATOR)

    for admin in (True, False):
        users.set_admin(db, 1, admin=admin, actor=OPERATOR)
        response = client.get("/auth/verify", headers=travis)
        assert response.headers["X-Auth-Admin"] == str(admin).lower()
