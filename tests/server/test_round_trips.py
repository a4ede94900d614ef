"""How often a request waits for PostgreSQL, which may be on another host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from flask.testing import FlaskClient

from jwt_server.app import create_app
from jwt_server.config import Settings
from jwt_server.database import Database
from jwt_server.users import users
from jwt_server.web.service import EXTENSION
from tests.helpers.auth import refresh, sign_in
from tests.helpers.factories import JWT_SECRET, SECRET_KEY, UNTHROTTLED, bearer
from tests.helpers.postgresql import Cluster
from tests.helpers.postgresql_proxy import CountingProxy, counting_proxy

PREPARED_AFTER = 7
"""Uses of a statement after which it is prepared; preparing it takes a round trip of its own."""

# What docs/scaling.md says, without TLS and connecting.
SIGN_IN, REFRESH, GUARD = 19, 5, 1


@pytest.fixture(scope="module")
def proxy() -> Iterator[CountingProxy]:
    """A proxy in front of a cluster with the demo user."""
    with Cluster() as cluster, counting_proxy(cluster) as proxy:
        with closing(Database(cluster.url)) as database:
            database.engine.create()
            with database.connection() as db:
                users.add_demo_user(db, 4, 0)
        yield proxy


@pytest.fixture
def client(proxy: CountingProxy) -> Iterator[FlaskClient]:
    """A client of an app whose connections go through the proxy."""
    settings = Settings(
        (SECRET_KEY,), (JWT_SECRET,), database=proxy.url, salt_rounds=4, **UNTHROTTLED
    )
    app = create_app(settings)
    with closing(app.extensions[EXTENSION].database):
        yield app.test_client()


def round_trips(proxy: CountingProxy, request: Callable[[], object]) -> int:
    """Return how often a request waits, once its statements are prepared."""
    for _ in range(PREPARED_AFTER):
        request()
    before = proxy.round_trips
    request()
    return proxy.round_trips - before


def test_the_guard_makes_one_round_trip(client: FlaskClient, proxy: CountingProxy) -> None:
    headers = bearer(sign_in(client)["access_token"])

    def read(path: str) -> None:
        assert client.get(path, headers=headers).status_code in (200, 204)

    assert round_trips(proxy, lambda: read("/auth/verify")) == GUARD
    assert round_trips(proxy, lambda: read("/my-pets")) == GUARD + 1  # the pets


def test_a_sign_in_and_a_refresh_make_the_documented_round_trips(
    client: FlaskClient, proxy: CountingProxy
) -> None:
    tokens = sign_in(client)

    def refresh_again() -> None:
        tokens.update(refresh(client, tokens["refresh_token"]))

    assert round_trips(proxy, lambda: sign_in(client)) == SIGN_IN
    assert round_trips(proxy, refresh_again) == REFRESH
