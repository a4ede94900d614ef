"""Two hosts of the service over one PostgreSQL, behind the nginx of deploy/."""

from __future__ import annotations

import re
import secrets
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import jwt
import psycopg
import pytest
from psycopg.rows import dict_row

from jwt_server import migrate, postgresql
from jwt_server.database import Connection, Database
from jwt_server.errors import DatabaseUnavailable
from jwt_server.security import key_files
from jwt_server.security.key_files import KeyFolder
from jwt_server.sqlite import SCHEMA_VERSION
from tests.helpers.auth import run_at_once
from tests.helpers.databases import cluster
from tests.helpers.factories import execute
from tests.helpers.hosts import (
    CLIENTS,
    PASSWORD,
    Host,
    load_on,
    new_database,
    new_user,
    start_command,
    two_hosts,
    wait_until,
)
from tests.helpers.http import Response
from tests.helpers.nginx import needs_nginx
from tests.helpers.server import failed_start
from tests.helpers.site import site

pytestmark = [pytest.mark.hosts, needs_nginx]

Hosts = tuple[Host, Host]
Tokens = dict[str, Any]

AT_ONCE = 50
ADDRESS_LIMIT, PAIR_LIMIT = 25, 11
SHARE = 10
"""Attempts at one account from one address, before its user has signed in from there."""

MAY_FAIL = re.compile("POST .*: 503 |DELETE .*: 404 ")
"""nginx repeats what was in flight on a killed host, but no POST: it can't know what that has done.
What a DELETE has deleted is not found the second time.
"""

OLD, NEW = "an old JWT secret of 32 bytes or more", "a new JWT secret of 32 bytes or more"


@pytest.fixture(scope="module")
def url() -> str:
    return new_database()


@pytest.fixture(scope="module")
def hosts(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Two hosts, shared by tests that don't stop them."""
    limits = {"THROTTLE_ADDRESS": str(ADDRESS_LIMIT), "THROTTLE_PAIR": str(PAIR_LIMIT)}
    with two_hosts(tmp_path_factory.mktemp("hosts"), url, **limits) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def shared(url: str) -> Iterator[Database]:
    """The database of `hosts`."""
    with closing(Database(url)) as database:
        yield database


@pytest.fixture
def db(shared: Database) -> Iterator[Connection]:
    with shared.connection() as db:
        yield db


@pytest.fixture
def database() -> Iterator[Database]:
    """A database of the test's own."""
    with closing(Database(new_database())) as database:
        yield database


# Refreshes.


def refresh(host: Host, tokens: Tokens, **body: str) -> Response:
    return host.send("POST", "/auth/refresh", {"refresh_token": tokens["refresh_token"]} | body)


@pytest.mark.parametrize("has_key", [True, False], ids=["retry key", "grace"])
def test_one_refresh_token_on_both_hosts_at_once_is_rotated_once(
    hosts: Hosts, shared: Database, db: Connection, has_key: bool
) -> None:
    tokens = hosts[0].sign_in(new_user(shared)[1], address="192.0.2.10")
    key = {"retry_key": secrets.token_urlsafe(16)} if has_key else {}
    turns = cycle(hosts)

    responses = run_at_once(lambda: refresh(next(turns), tokens, **key), AT_ONCE)

    assert Counter(each.status for each in responses) == {200: AT_ONCE}
    assert len({each.json["refresh_token"] for each in responses}) == 1
    [row] = execute(db, "SELECT generation FROM sessions WHERE id = ?", session_of(tokens))
    assert row["generation"] == 2


def test_a_reuse_on_the_other_host_ends_the_session_on_both(
    hosts: Hosts, shared: Database, db: Connection
) -> None:
    for first, second in (hosts, hosts[::-1]):
        tokens = first.sign_in(new_user(shared)[1], address="192.0.2.11")
        successor = refresh(first, tokens).json
        statement = "UPDATE sessions SET rotated_at = rotated_at - 60 WHERE id = ?"
        execute(db, statement, session_of(tokens))

        assert refresh(second, tokens).json["code"] == "refresh_token_reused"
        for host in hosts:
            assert refresh(host, successor).json["code"] == "session_ended"
            assert read(host, successor) == 401


def session_of(tokens: Tokens) -> str:
    """Return the session that a refresh token names."""
    session: str = tokens["refresh_token"].split(".")[1]
    return session


def read(host: Host, tokens: Tokens) -> int:
    return host.send("GET", "/me", token=tokens["access_token"]).status


# Rate limits.


def guess(host: Host, username: str, address: str, password: str = "wrong") -> int:
    credentials = {"username": username, "password": password}
    return host.send("POST", "/auth", credentials, address=address).status


def failures(db: Connection) -> int:
    """Count the passwords that were hashed in vain."""
    [row] = execute(db, "SELECT count(*) AS n FROM audit WHERE action = 'sign_in_failed'")
    return int(row["n"])


def test_wrong_passwords_on_both_hosts_at_once_are_counted_together(
    hosts: Hosts, db: Connection
) -> None:
    turns, before = cycle(hosts), failures(db)

    statuses = run_at_once(
        lambda: guess(next(turns), secrets.token_hex(8), "192.0.2.20"), 2 * AT_ONCE
    )

    assert Counter(statuses) == {401: ADDRESS_LIMIT, 429: 2 * AT_ONCE - ADDRESS_LIMIT}
    assert failures(db) - before == ADDRESS_LIMIT
    for host in hosts:
        assert guess(host, "travis", "192.0.2.20", "mypassword") == 429
        assert guess(host, secrets.token_hex(8), "192.0.2.21") == 401


def test_wrong_passwords_for_one_account_in_turn_lock_it_on_both_hosts(
    hosts: Hosts, shared: Database
) -> None:
    _, name = new_user(shared)
    turns = cycle(hosts)

    statuses = [guess(next(turns), name, "192.0.2.22") for _ in range(SHARE + 2)]

    assert statuses == [401] * SHARE + [429] * 2
    assert [guess(host, name, "192.0.2.22", PASSWORD) for host in hosts] == [429] * 2


def test_a_sign_in_on_one_host_is_refunded_for_both(hosts: Hosts) -> None:
    first, second = hosts
    turns, address = cycle(hosts), "192.0.2.23"

    def wrong(count: int) -> list[int]:
        return [guess(next(turns), secrets.token_hex(8), address) for _ in range(count)]

    assert wrong(ADDRESS_LIMIT - 1) == [401] * (ADDRESS_LIMIT - 1)
    for host in (first, second, first):
        assert guess(host, "travis", address, "mypassword") == 200
    assert wrong(3) == [401, 429, 429]


def test_a_sign_in_on_one_host_resets_the_count_of_the_account_for_both(
    hosts: Hosts, shared: Database
) -> None:
    (first, second), (_, name) = hosts, new_user(shared)
    turns, address = cycle(hosts), "192.0.2.24"
    assert guess(first, name, address, PASSWORD) == 200  # from now on a known address

    for _ in range(2):
        assert [guess(next(turns), name, address) for _ in range(PAIR_LIMIT - 1)] == [401] * 10
        assert guess(second, name, address, PASSWORD) == 200


# Sign-outs and changes by admins.


@pytest.fixture
def admin(hosts: Hosts, shared: Database) -> Tokens:
    _, name = new_user(shared, admin=True)
    return hosts[0].sign_in(name, address="192.0.2.30")


End = Callable[[Host, Tokens, int, str], Response]

ENDS: dict[str, End] = {
    "logout": lambda host, own, _id, _admin: host.send(
        "POST", "/auth/logout", token=own["access_token"]
    ),
    "logout by refresh token": lambda host, own, _id, _admin: host.send(
        "POST", "/auth/logout", {"refresh_token": own["refresh_token"]}
    ),
    "logout everywhere": lambda host, own, _id, _admin: host.send(
        "POST", "/auth/logout?scope=global", token=own["access_token"]
    ),
    "end the session": lambda host, own, _id, _admin: host.send(
        "DELETE", f"/auth/sessions/{session_of(own)}", token=own["access_token"]
    ),
    "delete the account": lambda host, own, _id, _admin: host.send(
        "DELETE", "/me", {"password": PASSWORD}, token=own["access_token"]
    ),
    "admin disables": lambda host, _own, user_id, admin: host.send(
        "PATCH", f"/admin/users/{user_id}", {"disabled": True}, token=admin
    ),
    "admin deletes": lambda host, _own, user_id, admin: host.send(
        "DELETE", f"/admin/users/{user_id}", token=admin
    ),
    "admin ends all sessions": lambda host, _own, user_id, admin: host.send(
        "DELETE", f"/admin/users/{user_id}/sessions", token=admin
    ),
    "admin resets the password": lambda host, _own, user_id, admin: host.send(
        "PUT", f"/admin/users/{user_id}/password", {}, token=admin
    ),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_what_ends_a_session_on_one_host_counts_at_the_next_request_on_the_other(
    hosts: Hosts, shared: Database, admin: Tokens, end: End
) -> None:
    for acting, other in (hosts, hosts[::-1]) * 2:
        user_id, name = new_user(shared)
        tokens = acting.sign_in(name, address="192.0.2.31")
        for _ in range(4):  # each worker has verified the token before
            assert read(other, tokens) == 200

        assert end(acting, tokens, user_id, admin["access_token"]).status in (200, 204)

        assert read(other, tokens) == 401
        assert refresh(other, tokens).status == 401


def test_all_sign_outs_by_an_admin_count_on_the_other_host(
    hosts: Hosts, shared: Database, admin: Tokens
) -> None:
    first, second = hosts
    tokens = [second.sign_in(new_user(shared)[1], address="192.0.2.32") for _ in range(5)]

    assert first.send("DELETE", "/admin/sessions", token=admin["access_token"]).status == 204

    assert [read(second, each) for each in (*tokens, admin)] == [401] * 6


def test_each_host_lists_the_sessions_of_both(hosts: Hosts, shared: Database) -> None:
    _, name = new_user(shared)
    opened = [host.sign_in(name, address="192.0.2.33") for host in hosts]

    lists = [
        host.send("GET", "/auth/sessions", token=tokens["access_token"]).json
        for host, tokens in zip(hosts, opened[::-1], strict=True)
    ]

    expected = [session_of(tokens) for tokens in opened]
    assert [[each["id"] for each in found] for found in lists] == [expected, expected]


def test_a_promotion_and_a_demotion_count_at_the_next_request_on_the_other_host(
    hosts: Hosts, shared: Database, admin: Tokens
) -> None:
    first, second = hosts
    user_id, name = new_user(shared)
    token = second.sign_in(name, address="192.0.2.34")["access_token"]

    for is_admin in (True, False, True, False):
        path, change = f"/admin/users/{user_id}", {"admin": is_admin}
        assert first.send("PATCH", path, change, token=admin["access_token"]).status == 200
        expected = 200 if is_admin else 403
        assert second.send("GET", "/admin/users", token=token).status == expected


# Keys.


@pytest.mark.parametrize("is_shared", [True, False], ids=["one folder", "copies"])
def test_keys_rotate_on_both_hosts_without_a_failed_request(
    database: Database, tmp_path: Path, is_shared: bool
) -> None:
    folders = [tmp_path / name / "instance" / "jwt_keys" for name in ("first", "second")]
    settings = {"JWT_ALGORITHM": "EdDSA", "JWKS_MAX_AGE": "2"}  # a new key signs after 4 s
    if is_shared:
        folders[1] = folders[0]
        settings["JWT_KEYS_DIR"] = str(folders[0])
    first_kid = key_files.rotate(KeyFolder(folders[0], "EdDSA"), now=0, lead=0).key.kid
    copy_keys(*folders)

    with (
        two_hosts(tmp_path, str(database.where), **settings) as hosts,
        site(tmp_path, [host.port for host in hosts], limits=False) as front,
        load_on(front, database) as load,
    ):
        load.wait_for_key(first_kid)
        hosts[0].flask("keys", "rotate")
        copy_keys(*folders)
        kids = published(hosts)
        [second_kid] = kids - {first_kid}
        load.wait_for_key(second_kid)

        # No client has a token of the first key any more.
        shortened = {"ACCESS_TOKEN_TTL": "1", "TEXT_TOKEN_TTL": "1"}
        wait_until(lambda: first_kid in hosts[0].flask("keys", "prune", **shortened))
        copy_keys(*folders)
        assert published(hosts) == {second_kid}
        load.wait()

    assert load.failures == []


def copy_keys(source: Path, target: Path) -> None:
    """Make the target a copy of the source, as `rsync --archive --delete` does."""
    if source == target:
        return
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in source.iterdir():
        shutil.copy2(path, target / f".{path.name}.partial")
        (target / f".{path.name}.partial").rename(target / path.name)
    for path in target.iterdir():
        if not (source / path.name).exists():
            path.unlink()


def published(hosts: Hosts) -> set[str]:
    """Return the keys that the hosts publish, which must be the same in each worker."""
    sets = {
        frozenset(key["kid"] for key in host.send("GET", "/.well-known/jwks.json").json["keys"])
        for host in hosts * 4
    }
    [kids] = sets
    return set(kids)


def test_a_key_revoked_on_one_host_is_refused_by_the_other_at_once(
    database: Database, tmp_path: Path
) -> None:
    folder = KeyFolder(tmp_path / "keys", "EdDSA")
    stolen = key_files.rotate(folder, now=0, lead=0).key.kid
    settings = {"JWT_ALGORITHM": "EdDSA", "JWT_KEYS_DIR": str(folder.path)}
    with two_hosts(tmp_path, str(database.where), **settings) as hosts:
        first, second = hosts
        tokens = first.sign_in("travis", "mypassword")
        assert [read(host, tokens) for host in hosts * 4] == [200] * 8

        first.flask("keys", "revoke", stolen)

        assert [read(host, tokens) for host in hosts[::-1] * 4] == [401] * 8
        [kid] = published(hosts)
        assert kid != stolen
        renewed = refresh(second, tokens).json  # the session lives on
        assert [read(host, renewed) for host in hosts] == [200] * 2


# Restarts and kills, through nginx.


def test_a_secret_is_replaced_host_by_host_without_a_failed_request(
    database: Database, tmp_path: Path
) -> None:
    with (
        two_hosts(tmp_path, str(database.where), JWT_SECRET=OLD) as hosts,
        site(tmp_path, [host.port for host in hosts], limits=False) as front,
        load_on(front, database) as load,
    ):
        for secret, previous in ((OLD, NEW), (NEW, OLD), (NEW, "")):
            for host in hosts:
                host.restart(JWT_SECRET=secret, JWT_SECRET_PREVIOUS=previous)
                wait_until(host.has_signed_in)
            load.wait(rounds=1)  # no client has a token of the step before

    assert load.failures == []


def test_only_requests_in_flight_on_a_killed_host_fail(database: Database, tmp_path: Path) -> None:
    with (
        two_hosts(tmp_path, str(database.where)) as hosts,
        site(tmp_path, [host.port for host in hosts], limits=False) as front,
        load_on(front, database) as load,
    ):
        for host in hosts:
            before = len(load.failures)
            load.wait()
            host.kill()
            load.wait()
            host.start()
            wait_until(host.has_signed_in)
            in_flight = load.failures[before:]
            assert len(in_flight) <= CLIENTS
            assert all(map(MAY_FAIL.match, in_flight)), in_flight


# Clocks.

AHEAD = """
import time
from jwt_server.app import create_app
app = create_app(clock=lambda: time.time() + 2)
"""
"""A wsgi.py of a host whose clock is ahead."""


@pytest.fixture
def apart(database: Database, tmp_path: Path) -> Iterator[Hosts]:
    """Two hosts, of which the second's clock is 2 s ahead."""
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "wsgi.py").write_text(AHEAD)
    with two_hosts(tmp_path, str(database.where)) as hosts:
        yield hosts


def test_clocks_two_seconds_apart_do_no_harm(
    apart: Hosts, database: Database, tmp_path: Path
) -> None:
    began = int(time.time())
    _, name = new_user(database, admin=True)
    for one, other in (apart, apart[::-1]):
        tokens = one.sign_in(name)
        claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
        assert (claims["iat"] >= began + 2) or one is apart[0]
        assert read(other, tokens) == 200
        successor = refresh(one, tokens).json["refresh_token"]
        assert refresh(other, tokens).json["refresh_token"] == successor  # within the grace
        # Needs a recent password.
        path, body = "/admin/users", {"username": f"{name}{other.port}"}
        assert other.send("POST", path, body, token=tokens["access_token"]).status == 201
        assert other.send("POST", "/auth/logout", token=tokens["access_token"]).status == 204
        assert read(one, tokens) == 401

    with (
        site(tmp_path, [host.port for host in apart], limits=False) as front,
        load_on(front, database) as load,
    ):
        load.wait(rounds=5)
    assert load.failures == []


# The schema.

RELEASE = """
from pathlib import Path
from jwt_server import migrate
migrate.MIGRATIONS = Path(__file__).parent
from jwt_server.wsgi import app
"""
"""A wsgi.py of a release with other migrations."""

STEP = """
CREATE TABLE upgraded (id BIGINT);
ALTER TABLE pets ADD COLUMN note TEXT; -- waits for those who read the table
"""
APPLIED = f"{SCHEMA_VERSION:04}.test"
"""A migration, from the version before."""


def test_of_eight_init_db_at_once_one_creates_the_tables(tmp_path: Path) -> None:
    url = cluster().create_database("eight_at_once")

    with closing(psycopg.connect(url, row_factory=dict_row)) as driver:
        driver.execute("SELECT pg_advisory_lock(%s)", [postgresql.INIT_LOCK])
        commands = [start_command(tmp_path, url, "init-db") for _ in range(8)]
        wait_until(lambda: waiting(driver, "advisory") == 8)

    results = Counter(command.result().partition(":")[0] for command in commands)
    assert results == {"Created": 1, "Already there": 7}


@pytest.fixture
def release(database: Database, tmp_path: Path) -> Path:
    """The folder of a release with a migration that is not applied yet."""
    (tmp_path / "wsgi.py").write_text(RELEASE)
    (tmp_path / "postgresql").mkdir()
    (tmp_path / "postgresql" / f"{APPLIED}.sql").write_text(STEP)
    set_version(database, SCHEMA_VERSION - 1)
    return tmp_path


def set_version(database: Database, version: int) -> None:
    with database.connection() as db:
        execute(db, "UPDATE schema_version SET version = ?", version)


@contextmanager
def reading(database: Database) -> Iterator[Connection]:
    """Hold a lock for which the migration waits."""
    with database.connection() as db, db.transaction():
        execute(db, "LOCK TABLE pets IN ACCESS SHARE MODE")
        yield db


def waiting(driver: psycopg.Connection[Any], kind: str) -> int:
    """Count those who wait for a lock of a kind in this database."""
    statement = (
        "SELECT count(*) AS n FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        " WHERE NOT granted AND datname = current_database() AND locktype = %s"
    )
    [row] = driver.execute(statement, [kind]).fetchall()
    return int(row["n"])


def upgraded_tables(db: Connection) -> list[Any]:
    """Return the schema version, and the table of the migration."""
    [row] = execute(db, "SELECT version, to_regclass('upgraded')::text AS name FROM schema_version")
    return list(row.values())


def test_of_several_upgrades_at_once_one_is_applied(database: Database, release: Path) -> None:
    with reading(database) as db:
        commands = [start_command(release, str(database.where), "db", "upgrade") for _ in range(4)]
        wait_until(
            lambda: (waiting(db.driver, "relation"), waiting(db.driver, "advisory")) == (1, 3)
        )

    applied = [f"Applied: {APPLIED}" in command.result() for command in commands]
    assert sorted(applied) == [False, False, False, True]
    with database.connection() as db:
        assert upgraded_tables(db) == [SCHEMA_VERSION, "upgraded"]


def test_an_upgrade_that_has_no_way_to_this_release_says_so(database: Database) -> None:
    with database.connection() as db:
        execute(db, "UPDATE schema_version SET version = ?", SCHEMA_VERSION - 1)

    with pytest.raises(DatabaseUnavailable, match=f"schema version {SCHEMA_VERSION - 1}"):
        migrate.upgrade(database.engine)


def test_a_killed_upgrade_leaves_the_old_schema_and_the_next_one_is_applied(
    database: Database, release: Path
) -> None:
    with reading(database) as db:
        killed = start_command(release, str(database.where), "db", "upgrade")
        wait_until(lambda: waiting(db.driver, "relation") == 1)
        killed.process.kill()
        killed.process.wait(timeout=60)
        next_one = start_command(release, str(database.where), "db", "upgrade")
        wait_until(lambda: waiting(db.driver, "advisory") == 1)
        assert upgraded_tables(db) == [SCHEMA_VERSION - 1, None]

    assert f"Applied: {APPLIED}" in next_one.result()  # fails if a table is there already
    with database.connection() as db:
        assert upgraded_tables(db) == [SCHEMA_VERSION, "upgraded"]


def test_an_upgrade_on_a_host_that_has_died_does_not_hold_up_the_next_one(
    database: Database, release: Path
) -> None:
    short = f"{database.where}?options=-c%20idle_in_transaction_session_timeout%3D100"
    with reading(database) as db:
        dead = start_command(release, short, "db", "upgrade")
        wait_until(lambda: waiting(db.driver, "relation") == 1)
        dead.process.send_signal(signal.SIGSTOP)  # from now on the database hears nothing of it

    try:
        next_one = start_command(release, str(database.where), "db", "upgrade")
        assert f"Applied: {APPLIED}" in next_one.result()
    finally:
        dead.process.kill()
        dead.process.wait(timeout=60)


@pytest.mark.parametrize("change", [-1, 1], ids=["older", "newer"])
def test_another_schema_stops_a_start_and_shows_in_readyz(
    database: Database, tmp_path: Path, change: int
) -> None:
    message = f"has schema version {SCHEMA_VERSION + change}, this release "
    with two_hosts(tmp_path, str(database.where)) as hosts:
        set_version(database, SCHEMA_VERSION + change)
        for host in hosts:
            assert host.send("GET", "/readyz").status == 503
            assert message in host.server.log()

        [line] = failed_start(tmp_path, hosts[0].settings)
        assert message in line

        set_version(database, SCHEMA_VERSION)
        assert [host.send("GET", "/readyz").status for host in hosts] == [200, 200]
