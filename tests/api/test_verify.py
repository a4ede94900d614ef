"""`GET /auth/verify`: whose token it is, as of now."""

from __future__ import annotations

from flask.testing import FlaskClient

from jwt_server.database import Connection
from jwt_server.users import users
from tests.helpers.app import Clock
from tests.helpers.factories import OPERATOR, add_user, bearer, bearer_of, token
from tests.helpers.http import Send


def test_it_tells_whose_token_it_is(send: Send) -> None:
    answer = send("GET", "/auth/verify", headers=bearer(token()))

    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["X-Auth-User-Id"] == "1"
    assert answer.headers["X-Auth-Username"] == "travis"
    assert answer.headers["X-Auth-Admin"] == "false"


def test_without_a_good_token_it_tells_nothing(send: Send) -> None:
    for headers in ({}, bearer("x"), bearer(token(exp=1))):
        answer = send("GET", "/auth/verify", headers=headers)
        assert answer.status == 401
        assert not [name for name in answer.headers.keys() if name.startswith("X-Auth")]  # noqa: SIM118 - pairs else


def test_a_name_is_percent_encoded(client: FlaskClient, db: Connection, clock: Clock) -> None:
    headers = bearer_of(db, add_user(db, "Ünal 🐈/%"), int(clock()))

    name = client.get("/auth/verify", headers=headers).headers["X-Auth-Username"]

    assert name == "%C3%9Cnal%20%F0%9F%90%88%2F%25"


def test_a_promotion_and_a_demotion_count_at_once(
    client: FlaskClient, db: Connection, travis: dict[str, str]
) -> None:
    add_user(db, "ada")
    users.set_admin(db, users.get_by_name(db, "ada")["id"], admin=True, actor=OPERATOR)

    for admin in (True, False):
        users.set_admin(db, 1, admin=admin, actor=OPERATOR)
        answer = client.get("/auth/verify", headers=travis)
        assert answer.headers["X-Auth-Admin"] == str(admin).lower()
