"""The service behind PgBouncer in transaction mode, configured as docs/scaling.md says.

Two workers have far more connections to it than it has to PostgreSQL, where every transaction may
get another one.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from jwt_server.database import Database
from jwt_server.errors import DatabaseUnavailable
from jwt_server.users import users
from tests.helpers.auth import run_at_once
from tests.helpers.factories import CREDENTIALS, add_user, bearer, bearer_of, execute
from tests.helpers.http import Response, send_to_server
from tests.helpers.pgbouncer import pgbouncer
from tests.helpers.postgresql import Cluster
from tests.helpers.server import BASE_ENVIRONMENT, ROOT, Server, started
from tests.helpers.waiting import until

pytestmark = pytest.mark.hosts

CLIENTS = 16
POOL_SIZE = 2
OF_THE_HOST = ("listen_", "auth_", "server_tls_", "client_tls_")
"""Settings of PgBouncer with addresses and files of the documented host."""

BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'jwt_server'"
JSON = "application/json"


def documented(language: str) -> str:
    """Return the block of docs/scaling.md in a language, which its section on PgBouncer has."""
    section = (ROOT / "docs" / "scaling.md").read_text().split("\n## PgBouncer\n")[1]
    [block] = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(block)


@dataclass
class Site:
    """A service, the cluster behind it, and PgBouncer's URL."""

    server: Server
    cluster: Cluster
    url: str

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Response:
        sent = {"Accept": JSON} | (headers or {})
        return send_to_server(self.server, "POST", path, sent, json.dumps(body), JSON)

    def sign_in(self, username: str) -> dict[str, Any]:
        """Sign a user in; return the token object."""
        response = self.post("/auth", {"username": username, "password": CREDENTIALS["password"]})
        assert response.status == 200, response.text
        tokens: dict[str, Any] = response.json
        return tokens

    def refresh(self, token: str, retry_key: str) -> dict[str, Any]:
        """Refresh; return the token object."""
        body = {"refresh_token": token, "retry_key": retry_key}
        response = self.post("/auth/refresh", body)
        assert response.status == 200, response.text
        tokens: dict[str, Any] = response.json
        return tokens

    def read(self, headers: dict[str, str]) -> int:
        return send_to_server(self.server, "GET", "/my-pets", headers).status

    def backends(self) -> int:
        """Return how many connections PgBouncer has to the server."""
        with psycopg.connect(self.cluster.admin_url) as admin:
            [(count,)] = admin.execute(BACKENDS).fetchall()
        return int(count)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A service with two workers, with the demo user and CLIENTS others."""
    parser = ConfigParser()
    parser.read_string(documented("ini"))
    settings = parser["pgbouncer"].items()
    options = {name: value for name, value in settings if not name.startswith(OF_THE_HOST)}
    options["default_pool_size"] = str(POOL_SIZE)
    with Cluster() as cluster:
        with psycopg.connect(cluster.admin_url, autocommit=True) as admin:
            admin.execute(documented("sql").encode())
        with pgbouncer(cluster, options) as url:
            with closing(Database(url)) as database:
                database.engine.create()
                with database.connection() as db:
                    users.add_demo_user(db, 4, 0)
                    for number in range(CLIENTS):
                        add_user(db, f"user{number}", CREDENTIALS["password"])
            extra = BASE_ENVIRONMENT | {"DATABASE_URL": url, "WORKERS": "2"}
            with started(tmp_path_factory.mktemp("pgbouncer"), extra) as server:
                yield Site(server, cluster, url)
            assert "Traceback" not in server.log()
            assert "deadlock detected" not in cluster.log()


@pytest.fixture
def database(site: Site) -> Iterator[Database]:
    """A database of a test's own, with more connections than PgBouncer has."""
    with closing(Database(f"{site.url}?pool={CLIENTS}")) as database:
        yield database


def test_many_clients_sign_in_refresh_and_sign_out_over_two_connections(site: Site) -> None:
    numbers = iter(range(CLIENTS))
    seen: list[int] = []

    def visit() -> None:
        number = next(numbers)
        tokens = site.sign_in(f"user{number}")
        for turn in range(3):
            tokens = site.refresh(tokens["refresh_token"], f"retry-key-of-user-{number:04}-{turn}")
            headers = bearer(tokens["access_token"])
            assert site.read(headers) == 200
            assert site.post("/pets", {"name": f"of user {number}"}, headers).status == 201
            seen.append(site.backends())
        assert site.post("/auth/logout", {}, headers).status == 204
        assert site.read(headers) == 403

    run_at_once(visit, CLIENTS)

    assert max(seen) <= POOL_SIZE


def test_clients_that_refresh_with_one_token_get_one_successor(site: Site) -> None:
    shown = site.sign_in("travis")["refresh_token"]

    answers = run_at_once(lambda: site.refresh(shown, "retry-key-of-many-clients"), CLIENTS)

    [successor] = {answer["refresh_token"] for answer in answers}
    assert successor != shown


def test_of_two_admins_who_demote_each_other_at_once_one_stays(
    site: Site, database: Database
) -> None:
    with database.connection() as db:
        ids = [add_user(db, name) for name in ("ada", "eve")]
        sent = [bearer_of(db, each, int(time.time())) for each in ids]

    def demote_other(index: int) -> int:
        path, body = f"/admin/users/{ids[1 - index]}", json.dumps({"admin": False})
        return send_to_server(site.server, "PATCH", path, sent[index], body, JSON).status

    for _ in range(10):
        with database.connection() as db:
            execute(db, "UPDATE users SET admin = 1 WHERE id IN (?, ?)", *ids)
        with ThreadPoolExecutor(2) as pool:
            statuses = list(pool.map(demote_other, (0, 1)))
        with database.connection() as db:
            [left] = execute(db, "SELECT count(*) AS count FROM users WHERE admin = 1")
        assert (left["count"], sorted(statuses)) == (1, [200, 403])


def test_limits_of_time_are_those_of_the_role(site: Site, database: Database) -> None:
    with database.connection() as db:
        [row] = execute(db, "SELECT current_setting('statement_timeout') AS statement,"
                        " current_setting('lock_timeout') AS lock")  # fmt: skip
        assert row == {"statement": "5s", "lock": "2s"}
    with psycopg.connect(site.cluster.url) as other:
        other.execute("UPDATE users SET admin = 0 WHERE username = 'travis'")
        response = site.post("/auth", CREDENTIALS, {"Accept": JSON})

    assert (response.status, response.headers["Retry-After"]) == (503, "2")
    assert "lock timeout" in site.server.log()


def test_requests_fail_while_the_server_is_down_and_succeed_afterwards(site: Site) -> None:
    headers = bearer(site.sign_in("user0")["access_token"])
    statuses: set[int] = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            statuses.add(site.read(headers))

    readers = [threading.Thread(target=read) for _ in range(CLIENTS)]
    for reader in readers:
        reader.start()
    site.cluster.stop("fast")
    until(lambda: 503 in statuses, 30)
    site.cluster.start()
    until(lambda: site.read(headers) == 200, 30)
    over.set()
    for reader in readers:
        reader.join()

    assert statuses == {200, 503}
    assert [site.read(headers) for _ in range(CLIENTS)] == [200] * CLIENTS
    assert site.backends() <= POOL_SIZE


def use_prepared(database: Database) -> int:
    """Run a statement in many connections in turn, often enough to be prepared; return how many
    prepared statements the server has for the last of them.
    """
    with ExitStack() as stack:
        connections = [stack.enter_context(database.connection()) for _ in range(CLIENTS)]
        for _ in range(10):
            for db in connections:
                db.queries.users.find_by_id(id=1)
        [row] = execute(db, "SELECT count(*) AS count FROM pg_prepared_statements")
    return int(row["count"])


def test_statements_are_prepared_unless_a_pooler_is_between(site: Site, database: Database) -> None:
    assert use_prepared(database) == 0
    with closing(Database(f"{site.cluster.url}?pool={CLIENTS}")) as direct:
        assert use_prepared(direct) == 1


def test_the_error_of_a_mixed_up_prepared_statement_names_the_parameter(site: Site) -> None:
    url = f"{site.url}?pool={CLIENTS}&prepared_statements=true"
    with (
        closing(Database(url)) as database,
        pytest.raises(DatabaseUnavailable, match="Set prepared_statements=false in DATABASE_URL"),
    ):
        use_prepared(database)
