"""Requests at the same moment to several hosts: apps with connections and queues of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jwt_server.auth import sessions
from jwt_server.auth.sessions import MAX_SESSIONS_PER_USER
from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from jwt_server.users import users
from tests.helpers.admin import PASSWORD, Admin
from tests.helpers.app import Clock, MakeApp
from tests.helpers.auth import JSON, guesses, run_at_once, sign_in
from tests.helpers.databases import about_postgresql, with_pool
from tests.helpers.factories import (
    INSERT_SESSION,
    OPERATOR,
    add_user,
    bearer_of,
    everything,
    execute,
    execute_many,
    session_row,
)
from tests.helpers.sql import conflicting_writes
from tests.helpers.waiting import until

THREADS = 50
HOSTS = 5
PATIENT = {"hash_queue": THREADS, "hash_wait": 60, "signup": "open"}

Call = Callable[[], TestResponse]
MakeHosts = Callable[..., list[Flask]]


@pytest.fixture
def make_hosts(make_app: MakeApp, settings: Settings, database: Database) -> MakeHosts:
    """Make several apps on one database, with these settings and a connection for each thread."""
    where = with_pool(settings.database, THREADS // HOSTS)
    return lambda **changes: [make_app(database=where, **PATIENT, **changes) for _ in range(HOSTS)]


@pytest.fixture
def hosts(make_hosts: MakeHosts) -> list[Flask]:
    return make_hosts()


def all_at_once(calls: Sequence[Call]) -> list[int]:
    """Send requests at the same moment; return the statuses, in no order."""
    remaining = iter(calls)

    def send() -> TestResponse:
        return next(remaining)()

    return [response.status_code for response in run_at_once(send, len(calls))]


def clients(hosts: list[Flask], number: int) -> list[FlaskClient]:
    """Return clients, each of the next host."""
    return [hosts[index % len(hosts)].test_client() for index in range(number)]


@pytest.mark.parametrize(
    ("limits", "networks", "limit"),
    [({"throttle_pair": 5}, 1, 5), ({"throttle_account": 10}, THREADS, 10)],
    ids=["pair", "account"],
)
def test_wrong_passwords_at_once_are_hashed_up_to_the_limit(
    make_hosts: MakeHosts, hashed: list[str], limits: dict[str, int], networks: int, limit: int
) -> None:
    calls = [
        partial(guesses(client), address=f"198.51.{number % networks}.1")
        for number, client in enumerate(clients(make_hosts(**limits), THREADS))
    ]

    statuses = all_at_once(calls)

    assert statuses.count(401) == len(hashed) == limit
    assert statuses.count(429) == THREADS - limit


def test_sign_ins_at_once_leave_at_most_50_active_sessions(
    hosts: list[Flask], db: Connection
) -> None:
    opened = [session_row(1, f"open{each}", 0) for each in range(MAX_SESSIONS_PER_USER - 2)]
    execute_many(db, INSERT_SESSION, opened)  # and that of `token()`
    calls = [
        partial(guesses(client), password="mypassword", address=f"198.51.{each}.1")
        for each, client in enumerate(clients(hosts, 20))
    ]

    assert all_at_once(calls) == [200] * 20

    active = "SELECT id FROM sessions WHERE user_id = 1 AND ended_at IS NULL"
    assert len(execute(db, active)) == MAX_SESSIONS_PER_USER


def test_one_of_those_who_take_a_name_at_once_gets_it(
    hosts: list[Flask], boss: Admin, db: Connection, clock: Clock
) -> None:
    """By signing up, by renaming oneself, and as an admin adds or renames a user."""
    signs_up, renames, adds, changes = clients(hosts, 4)
    for number in range(4):
        eve, eva = add_user(db, f"eve{number}"), add_user(db, f"eva{number}")
        eves, name = bearer_of(db, eve, int(clock())), f"ada{number}"
        new = {"username": name, "password": "correct horse battery"}
        calls = [
            partial(signs_up.post, "/users", json=new),
            partial(renames.patch, "/me", json={"username": name.title()}, headers=eves),
            partial(adds.post, "/admin/users", json=new, headers=boss.headers),
            partial(
                changes.patch, f"/admin/users/{eva}", json={"username": name.upper()},
                headers=boss.headers,
            ),
        ]  # fmt: skip

        first, *others = sorted(all_at_once(calls))

        assert first in {200, 201}
        assert others == [409] * 3
        rows = execute(db, "SELECT id FROM users WHERE username_key = ?", name)
        assert len(rows) == 1


def test_users_who_swap_their_names_at_once_keep_different_ones(
    hosts: list[Flask], db: Connection, clock: Clock
) -> None:
    names = ["ada", "bob", "cleo"]
    ids = [add_user(db, name) for name in names]
    headers = [bearer_of(db, user_id, int(clock())) for user_id in ids]
    for _ in range(8):  # beyond their limit they are refused
        wanted = [*names[1:], names[0]]
        calls = [
            partial(client.patch, "/me", json={"username": name}, headers=each)
            for client, name, each in zip(clients(hosts, 3), wanted, headers, strict=True)
        ]
        assert set(all_at_once(calls)) <= {200, 409}
        rows = execute(db, "SELECT username FROM users WHERE id > 1 ORDER BY id")
        names = [row["username"] for row in rows]

        assert sorted(names) == ["ada", "bob", "cleo"]


def test_a_user_may_be_deleted_during_requests_of_the_same_user(
    hosts: list[Flask], boss: Admin, db: Connection, clock: Clock
) -> None:
    for number in range(4):
        ada = add_user(db, name := f"ada{number}")
        bearers = bearer_of(db, ada, int(clock()))
        credentials = {"username": name, "password": PASSWORD}
        tokens = sign_in(hosts[0].test_client(), **credentials)
        body = {"refresh_token": tokens["refresh_token"]}
        new = {"current_password": PASSWORD, "new_password": "another horse battery"}
        deletes, *others = clients(hosts, 11)
        calls: list[Call] = [
            partial(deletes.delete, f"/admin/users/{ada}", headers=boss.headers),
            *(partial(each.post, "/auth", json=credentials, headers=JSON) for each in others[:2]),
            *(partial(each.post, "/auth/refresh", json=body) for each in others[2:4]),
            *(
                partial(each.post, "/pets", json={"name": "x"}, headers=bearers)
                for each in others[4:6]
            ),
            partial(others[6].post, "/auth/reauth", json={"password": PASSWORD}, headers=bearers),
            partial(others[7].put, "/me/password", json=new, headers=bearers),
            partial(others[8].patch, "/me", json={"username": f"eve{number}"}, headers=bearers),
            partial(others[9].delete, "/auth/sessions", headers=bearers),
        ]

        statuses = all_at_once(calls)

        assert max(statuses) < 500, statuses
        assert boss.send("GET", f"/admin/users/{ada}").status == 404
        for table in ("sessions", "pets", "known_addresses"):
            statement = f"SELECT * FROM {table} WHERE user_id = ?"  # noqa: S608 - ours
            assert execute(db, statement, ada) == []


OWN_REQUESTS: dict[str, Callable[[FlaskClient, dict[str, str]], TestResponse]] = {
    "POST /auth/reauth": lambda client, who: client.post(
        "/auth/reauth", json={"password": PASSWORD}, headers=who
    ),
    "PATCH /me": lambda client, who: client.patch("/me", json={"username": "eve"}, headers=who),
    "DELETE /me": lambda client, who: client.delete(
        "/me", json={"password": PASSWORD}, headers=who
    ),
    "PUT /me/password": lambda client, who: client.put(
        "/me/password",
        json={"current_password": PASSWORD, "new_password": "another horse battery"},
        headers=who,
    ),
    "POST /pets": lambda client, who: client.post("/pets", json={"name": "x"}, headers=who),
    "GET /admin/users": lambda client, who: client.get("/admin/users", headers=who),
}


@about_postgresql
@pytest.mark.parametrize("send", OWN_REQUESTS.values(), ids=OWN_REQUESTS)
def test_a_request_of_a_user_who_is_just_being_deleted_leaves_no_address(
    client: FlaskClient,
    db: Connection,
    clock: Clock,
    send: Callable[[FlaskClient, dict[str, str]], TestResponse],
) -> None:
    ada, responses = add_user(db, "ada"), []
    who = bearer_of(db, ada, int(clock())) | JSON
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
    request = threading.Thread(target=lambda: responses.append(send(client, who)))
    with db.transaction():
        users.remove(db, ada, actor=OPERATOR)
        request.start()
        until(lambda: bool(responses or execute(db, waiting)), 10)
    request.join()

    [response] = responses
    assert (response.status_code, response.get_json()["code"]) == (401, "token_user_gone")
    named = "SELECT * FROM audit WHERE (user_id = ? OR actor_id = ?) AND address IS NOT NULL"
    assert execute(db, named, ada, ada) == []


# Conflicts of transactions, which SQLite does not have


@about_postgresql
@pytest.mark.parametrize("conflicts", [1, 3])
def test_a_request_whose_transaction_conflicts_is_handled_again(
    client: FlaskClient, db: Connection, travis: dict[str, str], conflicts: int
) -> None:
    with conflicting_writes(db, "pets", conflicts) as count:
        response = client.post("/pets", json={"name": "Rex"}, headers=travis)

        assert count() == conflicts + 1
    assert response.status_code == 201
    names = [pet["name"] for pet in client.get("/pets", headers=travis).get_json()]
    assert names == ["Bunny", "Ru", "Rex"]


@about_postgresql
def test_a_request_that_is_handled_again_needs_one_connection(
    make_app: MakeApp, settings: Settings, db: Connection
) -> None:
    client = make_app(database=with_pool(settings.database, 1), signup="open").test_client()
    new = {"username": "eve", "password": "correct horse battery"}
    with conflicting_writes(db, "users", 1):
        assert client.post("/users", json=new).status_code == 201


@about_postgresql
def test_a_request_that_conflicts_each_time_gets_503_and_changes_nothing(
    client: FlaskClient, db: Connection, travis: dict[str, str]
) -> None:
    before = everything(db)
    with conflicting_writes(db, "pets", 99) as count:
        response = client.post("/pets", json={"name": "Rex"}, headers=travis | JSON)

        assert count() == 4
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert response.get_json()["code"] == "database_unavailable"
    assert everything(db) == before


@about_postgresql
def test_a_sign_in_that_conflicts_is_counted_and_recorded_once(
    client: FlaskClient, db: Connection
) -> None:
    with conflicting_writes(db, "sessions", 2):
        sign_in(client)

    assert execute(db, "SELECT * FROM throttle") == []
    signed_in = execute(db, "SELECT * FROM audit WHERE action = 'signed_in'")
    assert len(signed_in) == 1


@about_postgresql
def test_signing_everyone_out_goes_on_after_a_conflict(db: Connection, clock: Clock) -> None:
    """The request could not be handled again, as its own session may have ended."""
    with conflicting_writes(db, "sessions", 1, "UPDATE") as count:
        assert sessions.end_everyones(db, int(clock())) == 1  # that of `token()`

        assert count() == 2


@about_postgresql
def test_a_request_that_another_has_deadlocked_with_is_handled_again(
    boss: Admin, db: Connection
) -> None:
    """Requests lock the admins before the user; this transaction does the reverse."""
    ada, responses = add_user(db, "ada"), []
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = execute(db, deadlocks)
    request = threading.Thread(
        target=lambda: responses.append(boss.change(ada, username="eve", claims={"a": 1}))
    )
    with db.transaction():
        db.queries.users.lock_by_id(id=ada)
        request.start()
        until(lambda: execute(db, waiting) != [], 10)
        db.queries.users.lock_admins()  # the request has it, and is the first to look for deadlocks
    request.join()

    [changed] = responses
    assert (changed.status, changed.json["username"]) == (200, "eve")
    until(lambda: execute(db, deadlocks) != before, 10)
