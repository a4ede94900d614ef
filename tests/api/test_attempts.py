"""Rate limits of password attempts, sign-ups and refreshes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jwt_server import audit
from jwt_server.audit import Action
from jwt_server.auth import attempts
from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from jwt_server.errors import format_duration
from jwt_server.security.rate_limits import RateLimit, RateLimits, network_of
from jwt_server.users import users
from tests.helpers.app import Clock, MakeApp
from tests.helpers.auth import (
    DAY,
    DEFAULT_LIMITS,
    HOME,
    HOUR,
    JSON,
    STRANGER,
    Guess,
    Tokens,
    access,
    guesses,
    refresh,
    sign_in,
)
from tests.helpers.databases import file_of
from tests.helpers.description import documented, password_operations
from tests.helpers.factories import CREDENTIALS, OPERATOR, add_user, bearer, execute_many, spoil
from tests.helpers.http import send_to_app
from tests.helpers.sql import data_version, every_row, tracing

LIMITS = DEFAULT_LIMITS | {"throttle_account": 20, "throttle_address": 25}


@pytest.fixture
def app(make_app: MakeApp, database: Database) -> Flask:
    """An app whose limits of an account and of an address are low."""
    return make_app(**LIMITS, signup="open")


@pytest.fixture
def guess(client: FlaskClient) -> Guess:
    """Try a password from an address."""
    return guesses(client)


def counts(db: Connection) -> dict[str, int]:
    """Return the counts, by the kinds of their keys."""
    found: dict[str, int] = {}
    for row in db.driver.execute("SELECT key, count FROM throttle"):
        [kind, *more] = row["key"].split(".")
        name = f"{kind} {more[1]}" if kind == "account" else kind
        found[name] = found.get(name, 0) + row["count"]
    return found


def lock(guess: Guess, username: str = "travis", address: str = STRANGER) -> None:
    """Use up the attempts before a lockout."""
    statuses = [guess(username, address=address).status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]


def use_up_share(guess: Guess, username: str = "travis", site: str = "2001:db8:1") -> None:
    """Make ten attempts at an account, each from another network of one IPv6 site."""
    for number in range(10):
        assert guess(username, address=f"{site}:{number:x}::1").status_code == 401


# The limit of an account and address


def test_lockout_after_five_attempts_doubles_up_to_15_minutes(guess: Guess, clock: Clock) -> None:
    assert guess(password="mypassword").status_code == 200  # from here, no other limit applies
    lock(guess)

    for wait in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900):
        refused = guess(**JSON)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, str(wait))
        assert refused.get_json()["code"] == "too_many_tries"
        clock.advance(wait - 1)
        assert guess().headers["Retry-After"] == "1"
        clock.advance(1)
        assert guess().status_code == 401


def test_lockout_message(guess: Guess, clock: Clock) -> None:
    lock(guess)

    assert guess().text == "Too many attempts. Try again in 1 second."
    assert "WWW-Authenticate" not in guess().headers


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 second"), (64, "64 seconds"), (120, "120 seconds"), (121, "3 minutes"),
     (900, "15 minutes"), (7201, "3 hours"), (86400, "24 hours")],
)  # fmt: skip
def test_wait_in_words(seconds: int, words: str) -> None:
    assert format_duration(seconds) == words


def test_success_resets_the_pair_limit(guess: Guess, clock: Clock, db: Connection) -> None:
    lock(guess)
    assert guess(password="mypassword").status_code == 429

    clock.advance(1)
    assert guess(password="mypassword").status_code == 200

    assert counts(db) == {"account all": 5, "account share": 5, "address": 5}
    lock(guess)


def test_failures_expire_a_day_after_the_last(guess: Guess, clock: Clock) -> None:
    lock(guess)
    clock.advance(DAY - 1)
    assert guess().status_code == 401
    assert guess().status_code == 429

    clock.advance(DAY)

    lock(guess)


def test_all_spellings_of_a_name_share_one_limit(guess: Guess) -> None:
    for spellings in (
        ["travis", " TRAVIS", "Travis\n", "ｔravis", "ＴＲＡＶＩＳ"],
        ["straße", "STRASSE", "Strasse", "ｓtraße", "STRAẞE"],
        ["Ünal", "U\u0308nal", "ünal", "u\u0308NAL", "ÜNAL"],
    ):
        assert [guess(name).status_code for name in spellings] == [401] * 5
        assert {guess(name).status_code for name in spellings} == {429}


def test_lockouts_of_known_unknown_and_disabled_names_are_identical(
    guess: Guess, db: Connection, hashed: list[str]
) -> None:
    users.set_disabled(db, add_user(db, "disabled"), disabled=True, actor=OPERATOR)

    def told(name: str, address: str) -> list[tuple[Any, ...]]:
        responses = []
        for accept in ("text/plain", "application/json") * 5:
            before = len(hashed)
            response = guess(name, address=address, Accept=accept)
            headers = sorted(
                each for each in response.headers.items() if each[0] not in {"X-Request-ID", "Date"}
            )
            responses.append((response.status_code, headers, response.data, len(hashed) - before))
        return responses

    known = told("travis", "203.0.113.1")

    assert [status for status, *_ in known] == [401] * 5 + [429] * 5
    assert [hashes > 0 for *_, hashes in known] == [True] * 5 + [False] * 5
    unknown = told("nobody", "203.0.113.2")
    assert [response[:3] for response in unknown] == [response[:3] for response in known]
    assert told("disabled", "203.0.113.3") == unknown


@pytest.mark.parametrize(
    ("limit", "address"), [(lock, STRANGER), (use_up_share, "2001:db8:1:a::1")]
)
@pytest.mark.parametrize("name", ["travis", "nobody"])
def test_refused_attempt_costs_one_read(
    app: Flask, guess: Guess, db: Connection, hashed: list[str], name: str,
    limit: Callable[[Guess, str], None], address: str,
) -> None:  # fmt: skip
    limit(guess, name)
    before = db.driver.execute("SELECT * FROM throttle ORDER BY key").fetchall()
    version = data_version(db)
    done = len(hashed)
    [idle] = app.extensions["jwt-server"].database._idle
    statements: list[str] = []

    with tracing(idle, statements.append):
        assert guess(name, address=address).status_code == 429

    [read] = statements
    assert "SELECT max(blocked_until)" in read
    assert data_version(db) == version
    assert db.driver.execute("SELECT * FROM throttle ORDER BY key").fetchall() == before
    assert len(hashed) == done


INVALID: list[tuple[dict[str, Any], int]] = [
    ({"data": b"{", "content_type": "application/json"}, 400),
    ({"json": {"username": "travis"}}, 422),
    ({"json": {"username": "travis", "password": 1}}, 422),
    ({"json": {"username": "travis", "password": "x" * 257}}, 422),
    ({"json": {"username": "t" * 65, "password": "x"}}, 422),
    ({"json": {"username": "travis", "password": "x\0"}}, 422),
]


def test_invalid_requests_are_not_counted(
    client: FlaskClient, guess: Guess, db: Connection
) -> None:
    client.environ_base["REMOTE_ADDR"] = STRANGER
    for body, status in INVALID * 3:
        assert client.post("/auth", **body).status_code == status
    assert counts(db) == {}

    lock(guess)

    for body, status in INVALID:
        assert client.post("/auth", **body).status_code == status


@pytest.mark.parametrize("queue", [0, 1], ids=["queue full", "wait too long"])
def test_attempts_refused_by_the_hash_queue_are_refunded(
    make_app: MakeApp, database: Database, db: Connection, queue: int
) -> None:
    app = make_app(**LIMITS, hash_queue=queue, hash_wait=0)
    guess = guesses(app.test_client())

    with app.extensions["jwt-server"].hasher.queue.slot():
        assert {guess().status_code for _ in range(12)} == {503}

    assert counts(db) == {}
    lock(guess)


def test_full_hash_queue_costs_no_write(
    make_app: MakeApp, database: Database, db: Connection
) -> None:
    app = make_app(**LIMITS, hash_queue=0)
    guess = guesses(app.test_client())
    version = data_version(db)

    with app.extensions["jwt-server"].hasher.queue.slot():
        assert guess().status_code == 503

    assert data_version(db) == version


# The limit of an account


def strangers(guess: Guess, number: int, username: str = "travis") -> set[int]:
    """Try five wrong passwords from each of many addresses; return the statuses."""
    addresses = [f"203.0.{each // 250}.{each % 250 + 1}" for each in range(number)]
    return {guess(username, address=each).status_code for each in addresses for _ in range(5)}


def test_strangers_failures_do_not_lock_out_the_owner(client: FlaskClient, guess: Guess) -> None:
    tokens = sign_in(client)  # from 127.0.0.1
    assert guess(password="mypassword", address=HOME).status_code == 200

    assert strangers(guess, 5) == {401, 429}

    assert guess(password="mypassword", address=HOME).status_code == 200
    assert guess(address=HOME).status_code == 401  # a typo
    refreshed = refresh(client, tokens["refresh_token"])
    assert access(client, refreshed) == 200
    reauth = {"json": {"password": "mypassword"}, "headers": bearer(refreshed["access_token"])}
    assert client.post("/auth/reauth", **reauth).status_code == 204
    elsewhere = guess(password="mypassword", address="192.0.2.1")
    assert (elsewhere.status_code, elsewhere.headers["Retry-After"]) == (429, str(DAY))


@pytest.mark.parametrize("name", ["travis", "nobody"])
def test_account_limit_lasts_a_day(guess: Guess, clock: Clock, name: str) -> None:
    assert strangers(guess, 4, name) == {401}

    refused = guess(name, address="192.0.2.1")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, str(DAY))
    assert guess("another", address="192.0.2.1").status_code == 401
    clock.advance(DAY)
    assert guess(name, address="192.0.2.1").status_code == 401


@pytest.mark.parametrize(
    "addresses",
    [[STRANGER], [f"2001:db8:1:{number:x}::1" for number in range(20)]],
    ids=["IPv4", "IPv6 site"],
)
@pytest.mark.parametrize("name", ["travis", "nobody"])
def test_a_network_gets_ten_attempts_an_hour_at_an_account(
    make_app: MakeApp, database: Database, clock: Clock, hashed: list[str], name: str,
    addresses: list[str],
) -> None:  # fmt: skip
    guess = guesses(make_app(throttle_account=100).test_client())
    address = cycle(addresses)

    for _ in range(2):
        assert [guess(name, address=next(address)).status_code for _ in range(10)] == [401] * 10
        done = len(hashed)
        clock.advance(HOUR - 60)
        refused = guess(name, "mypassword", next(address))
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
        assert len(hashed) == done
        assert guess("another", address=next(address)).status_code == 401
        clock.advance(60)


@pytest.mark.parametrize("name", ["travis", "nobody"])
def test_one_site_never_exceeds_the_daily_limit_of_an_account(
    guess: Guess, clock: Clock, name: str
) -> None:
    networks = iter(f"2001:db8:1:{number:x}::1" for number in range(6 * 12))
    statuses = []
    for _ in range(6):
        statuses += [guess(name, address=next(networks)).status_code for _ in range(12)]
        clock.advance(DAY // 6)

    assert statuses.count(401) == LIMITS["throttle_account"]
    assert set(statuses) == {401, 429}


def test_a_known_network_is_exempt_from_the_share_of_its_site(guess: Guess, db: Connection) -> None:
    known, same_network = "2001:db8:1:f::1", "2001:db8:1:f::2"
    assert guess(password="mypassword", address=known).status_code == 200

    use_up_share(guess)

    assert guess(address=same_network).status_code == 401
    assert guess(password="mypassword", address=same_network).status_code == 200
    for password in ("wrong", "mypassword"):
        assert guess(password=password, address="2001:db8:1:e::1").status_code == 429
    assert counts(db)["account all"] == counts(db)["account share"] == 10


def test_a_used_up_share_is_recorded_once(guess: Guess, db: Connection) -> None:
    use_up_share(guess)
    for number in range(10, 15):
        assert guess(address=f"2001:db8:1:{number:x}::1").status_code == 429

    rows = audit.page(db, audit.Selection(action=Action.LOCKED_OUT), limit=10)
    assert [row["details"] for row in rows] == [{"limit": "account and network"}]


def test_an_address_is_known_for_30_days(guess: Guess, clock: Clock) -> None:
    assert guess(password="mypassword", address=HOME).status_code == 200
    clock.advance(30 * DAY - 1)
    strangers(guess, 4)
    assert guess(address=HOME).status_code == 401

    clock.advance(1)

    assert guess(address=HOME).status_code == 429


def test_known_addresses_are_per_user(guess: Guess, db: Connection) -> None:
    add_user(db, "ada")
    assert guess("ada", "correct horse", HOME).status_code == 200

    strangers(guess, 4)

    assert guess(address=HOME).status_code == 429


@pytest.mark.parametrize(("name", "status"), [("travis", 401), ("ada", 429), ("nobody", 429)])
def test_only_at_a_shared_address_an_exhausted_account_tells_who_signs_in_there(
    guess: Guess, db: Connection, name: str, status: int
) -> None:
    """An accepted risk, see docs/security.md."""
    add_user(db, "ada")
    assert guess(password="mypassword", address=HOME).status_code == 200

    strangers(guess, 4, name)

    assert guess(name, address=HOME).status_code == status
    assert guess(name, address="192.0.2.1").status_code == 429


@pytest.mark.parametrize("actor", ["account and address", "address"])
def test_a_shared_address_locks_out_the_owner_only_there(
    client: FlaskClient, guess: Guess, clock: Clock, actor: str
) -> None:
    tokens = sign_in(client)
    for address in (HOME, "192.0.2.1"):
        assert guess(password="mypassword", address=address).status_code == 200

    if actor == "address":
        assert {guess(f"nobody{each}", address=HOME).status_code for each in range(25)} == {401}
    else:
        lock(guess, address=HOME)
        for wait in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
            clock.advance(wait)
            assert guess(address=HOME).status_code == 401

    refused = guess(password="mypassword", address=HOME)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "900")
    assert guess(password="mypassword", address="192.0.2.1").status_code == 200
    assert access(client, refresh(client, tokens["refresh_token"])) == 200
    clock.advance(900)
    assert guess(password="mypassword", address=HOME).status_code == 200


# The limit of an address


def test_address_limit_lasts_15_minutes(guess: Guess, clock: Clock) -> None:
    for number in range(25):
        assert guess(f"nobody{number}").status_code == 401
        clock.advance(20)

    refused = guess("somebody")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "400")
    assert refused.text == "Too many attempts. Try again in 7 minutes."
    assert guess("somebody", address=HOME).status_code == 401
    clock.advance(400)
    assert guess("somebody").status_code == 401


def test_ipv6_addresses_are_limited_by_network(guess: Guess) -> None:
    for number in range(25):
        assert guess(f"nobody{number}", address=f"2001:db8::{number:x}").status_code == 401

    assert guess("somebody", address="2001:db8::ffff:1").status_code == 429
    assert guess("somebody", address="2001:db8:0:1::1").status_code == 401


def test_an_ipv6_site_gets_ten_times_the_attempts_of_an_address(
    make_app: MakeApp, database: Database, clock: Clock
) -> None:
    guess = guesses(make_app(**LIMITS | {"throttle_address": 2}).test_client())
    for number in range(20):
        assert guess(f"nobody{number}", address=f"2001:db8:1:{number:x}::1").status_code == 401

    refused = guess("somebody", address="2001:db8:1:ff::1")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "900")
    assert guess("somebody", address="2001:db8:2::1").status_code == 401
    clock.advance(900)
    assert guess("somebody", address="2001:db8:1:ff::1").status_code == 401


def test_successful_sign_ins_are_not_counted(guess: Guess, db: Connection) -> None:
    for _ in range(26):
        assert guess(password="mypassword").status_code == 200

    assert counts(db) == {}


def test_unknown_addresses_share_one_limit(guess: Guess) -> None:
    assert [guess(address="").status_code for _ in range(6)] == [401] * 5 + [429]
    assert guess().status_code == 401


@pytest.mark.parametrize(
    ("trusted", "statuses"), [(0, [401] * 5 + [429] * 5), (1, [401] * 10)], ids=["0", "1"]
)
def test_forwarded_headers_of_untrusted_peers_are_ignored(
    make_app: MakeApp, database: Database, trusted: int, statuses: list[int]
) -> None:
    guess = guesses(make_app(**LIMITS, trusted_proxies=trusted).test_client())
    names = ("X-Forwarded-For", "Forwarded", "X-Real-IP")

    told = [guess(**dict.fromkeys(names, f"192.0.2.{number}")).status_code for number in range(10)]

    assert told == statuses


# The limit of a session


# The field that each route takes the password in; what else it takes.
PASSWORD_ROUTES = {
    "POST /auth/reauth": ("password", {}),
    "PUT /me/password": ("current_password", {"new_password": "correct horse battery"}),
    "DELETE /me": ("password", {}),
}
LIMITED_BY_ADDRESS = {"POST /auth", "POST /auth/token", "POST /users"}
"""Covered by the other tests of this module, and by test_oauth.py."""
NEW_PASSWORDS_BY_ADMINS = {"POST /admin/users", "PUT /admin/users/{user_id}/password"}
"""They check no password."""


def password_routes(client: FlaskClient, headers: dict[str, str], password: str) -> list[Guess]:
    return [
        partial(
            client.open, route.split()[1], method=route.split()[0], headers=headers,
            json={field: password} | more,
        )
        for route, (field, more) in PASSWORD_ROUTES.items()
    ]  # fmt: skip


def test_all_password_routes_are_covered(client: FlaskClient) -> None:
    description = client.get("/openapi.json").get_json()
    found = password_operations(description)

    needing_a_token = {route for route, needs_token in found.items() if needs_token}
    assert needing_a_token == {*PASSWORD_ROUTES, *NEW_PASSWORDS_BY_ADMINS}
    assert {route for route, needs_token in found.items() if not needs_token} == LIMITED_BY_ADDRESS
    for route in found:
        method, path = route.lower().split()
        refused = description["paths"][path][method]["responses"]["429"]
        assert "too_many_tries" in str(refused)


def test_password_routes_of_a_session_share_one_limit(
    client: FlaskClient, guess: Guess, clock: Clock
) -> None:
    """CVE-2026-9798, Keycloak: a lockout does not apply to another flow."""
    mine, other = (bearer(sign_in(client)["access_token"]) for _ in range(2))
    wrong = password_routes(client, mine, "wrong")

    assert [send().status_code for send, _ in zip(cycle(wrong), range(5), strict=False)] == [
        403
    ] * 5

    for send in [*wrong, *password_routes(client, mine, "mypassword")]:
        refused = send()
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert client.get("/pets", headers=mine).status_code == 200
    right, *_ = password_routes(client, other, "mypassword")
    assert right().status_code == 204
    lock(guess)  # not counted for sign-ins
    clock.advance(1)
    right, *_ = password_routes(client, mine, "mypassword")
    assert right().status_code == 204


def test_success_resets_the_session_limit(client: FlaskClient, db: Connection) -> None:
    headers = bearer(sign_in(client)["access_token"])
    wrong, *_ = password_routes(client, headers, "wrong")
    right, *_ = password_routes(client, headers, "mypassword")

    for _ in range(3):
        assert [wrong().status_code for _ in range(4)] == [403] * 4
        assert right().status_code == 204
    assert counts(db) == {}


def test_refused_attempt_of_a_session_hashes_nothing(
    client: FlaskClient, hashed: list[str]
) -> None:
    headers = bearer(sign_in(client)["access_token"])
    wrong = password_routes(client, headers, "wrong")
    for _ in range(5):
        wrong[0]()
    done = len(hashed)

    assert {send().status_code for send in wrong} == {429}

    assert len(hashed) == done


# Sign-up and refresh


def test_sign_up_limit_of_ten_a_day(
    client: FlaskClient, clock: Clock, hashed: list[str], db: Connection
) -> None:
    def sign_up(name: str, address: str = STRANGER, password: str = "correct horse") -> int:
        body = {"username": name, "password": password}
        who = {"REMOTE_ADDR": address}
        return client.post("/users", json=body, environ_overrides=who).status_code

    assert [sign_up("ada", password="short") for _ in range(20)] == [422] * 20
    told = [sign_up("travis" if number % 2 else f"ada{number}") for number in range(10)]
    done = len(hashed)

    assert told == [201, 409] * 5
    assert sign_up("ada") == sign_up("travis") == 429
    assert len(hashed) == done
    assert users.find_by_name(db, "ada") is None
    assert sign_up("ada", password="short") == 422
    assert sign_up("bob", address=HOME) == 201
    clock.advance(DAY - 1)
    assert sign_up("ada") == 429
    clock.advance(1)
    assert sign_up("ada") == 201


def test_sign_up_limit_of_30_a_day_per_ipv6_site(client: FlaskClient) -> None:
    def sign_up(address: str) -> int:
        body = {"username": "travis", "password": "correct horse"}
        who = {"REMOTE_ADDR": address}
        return client.post("/users", json=body, environ_overrides=who).status_code

    told = [sign_up(f"2001:db8:1:{number:x}::1") for number in range(32)]

    assert told == [409] * 30 + [429] * 2
    assert sign_up("2001:db8:2::1") == 409


def test_refresh_limit_of_30_a_minute(client: FlaskClient, clock: Clock) -> None:
    tokens, other = sign_in(client), sign_in(client)
    for number in range(30):
        tokens = refresh(client, tokens["refresh_token"])
        clock.advance(number % 2)
    sent = {"refresh_token": tokens["refresh_token"]}

    for _ in range(3):
        refused = client.post("/auth/refresh", json=sent, headers=JSON)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "45")
        assert refused.get_json()["code"] == "too_many_tries"
    assert access(client, tokens) == 200
    assert "access_token" in refresh(client, other["refresh_token"])

    clock.advance(45)
    assert access(client, refresh(client, tokens["refresh_token"])) == 200  # nothing was used up


def test_refreshes_within_the_grace_are_not_counted(
    client: FlaskClient,
) -> None:
    first = sign_in(client)
    tokens = refresh(client, first["refresh_token"])
    for _ in range(40):
        assert refresh(client, first["refresh_token"])["refresh_token"] == tokens["refresh_token"]
    for _ in range(29):
        tokens = refresh(client, tokens["refresh_token"])
    sent = {"refresh_token": tokens["refresh_token"]}
    assert client.post("/auth/refresh", json=sent).status_code == 429

    assert refresh(client, first["refresh_token"])["code"] == "refresh_token_reused"

    assert refresh(client, tokens["refresh_token"])["code"] == "session_ended"


def test_rename_limit_of_ten_a_day(client: FlaskClient, clock: Clock, db: Connection) -> None:
    add_user(db, "ada")
    tokens, other = sign_in(client), sign_in(client, username="ada", password="correct horse")

    def rename(name: str, who: Tokens = tokens) -> TestResponse:
        headers = bearer(who["access_token"]) | JSON
        return client.patch("/me", json={"username": name}, headers=headers)

    def rows() -> int:
        found: int = db.driver.execute("SELECT count(*) AS n FROM audit").fetchone()["n"]
        return found

    assert [rename("").status_code for _ in range(20)] == [422] * 20
    told = [rename("ada" if number % 2 else f"travis{number}") for number in range(10)]
    before = rows()

    assert [response.status_code for response in told] == [200, 409] * 5
    for name in ("travis10", "ada"):
        refused = rename(name)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, str(DAY))
        assert refused.get_json()["code"] == "too_many_tries"
    assert rename("").status_code == 422
    assert client.get("/me", headers=bearer(tokens["access_token"])).get_json()["username"] == (
        "travis8"
    )
    assert rename("Ada", other).status_code == 200
    assert rows() == before + 1  # of the other user
    locked = audit.page(db, audit.Selection(action=Action.LOCKED_OUT), limit=10)
    assert [(row["user_id"], row["details"]) for row in locked] == [(1, {"limit": "rename"})]

    clock.advance(DAY)
    tokens |= sign_in(client, username="travis8")
    assert rename("travis").status_code == 200


# Counts in the database


def test_counts_have_no_names_and_no_addresses(
    guess: Guess, client: FlaskClient, db: Connection
) -> None:
    guess("correct horse battery", address="203.0.113.77")
    body = {"username": "travis", "password": "correct horse"}
    client.post("/users", json=body, environ_overrides={"REMOTE_ADDR": "203.0.113.77"})

    assert len(counts(db)) == 5
    assert "horse" not in str(every_row(db))
    assert "203.0.113" not in str(every_row(db)["throttle"])


def test_attempts_prune_expired_counts(guess: Guess, db: Connection, clock: Clock) -> None:
    fill(db, 45)

    for left in (25, 5, 0):
        guess("nobody")
        rows = db.driver.execute("SELECT * FROM throttle WHERE key LIKE 'old%'").fetchall()
        assert len(rows) == left


def fill(db: Connection, number: int) -> None:
    """Insert expired counts, and expired addresses of the demo user."""
    names = [(f"old{each}",) for each in range(number)]
    execute_many(db, "INSERT INTO throttle VALUES (?, 9, 9, 9)", names)
    execute_many(db, "INSERT INTO known_addresses VALUES (1, ?, 9)", names)


def test_sign_ins_prune_expired_addresses(guess: Guess, db: Connection) -> None:
    fill(db, 45)

    for left in (25, 5, 0):
        guess(password="mypassword")
        rows = db.driver.execute("SELECT * FROM known_addresses WHERE last_at = 9").fetchall()
        assert len(rows) == left


def test_an_address_is_stored_once(guess: Guess, db: Connection) -> None:
    for number in range(20):
        guess(password="mypassword", address=f"2001:db8::{number:x}")

    rows = db.driver.execute("SELECT user_id, network FROM known_addresses").fetchall()
    assert rows == [{"user_id": 1, "network": "2001:db8::/64"}]


def test_prune_deletes_expired_counts_and_addresses(
    client: FlaskClient, guess: Guess, db: Connection, clock: Clock
) -> None:
    fill(db, 2500)
    guess()
    run = client.application.test_cli_runner().invoke

    assert run(args=["prune"]).output == (
        "Deleted: 0 sessions\nDeleted: 2480 attempt counts\nDeleted: 2500 addresses\n"
        "Deleted: 0 audit rows\n"
    )
    assert counts(db) == {"account pair": 1, "account all": 1, "account share": 1, "address": 1}


def test_unlock_deletes_the_counts_of_an_account(
    client: FlaskClient, guess: Guess, clock: Clock
) -> None:
    headers = bearer(sign_in(client)["access_token"])
    wrong, *_ = password_routes(client, headers, "wrong")
    for _ in range(5):
        wrong()
    strangers(guess, 4)
    lock(guess, "nobody", HOME)
    run = client.application.test_cli_runner().invoke
    unlock = partial(run, args=["users", "unlock", "TRAVIS"])

    assert unlock().output == "travis is unlocked now.\n"

    assert unlock().output == "travis is unlocked now.\n"
    assert wrong().status_code == 403
    assert guess(password="mypassword", address="192.0.2.1").status_code == 200
    assert guess(password="mypassword", address="203.0.0.1").status_code == 200
    assert guess("nobody", address=HOME).status_code == 429


def test_unlock_of_an_unknown_user_fails(client: FlaskClient) -> None:
    done = client.application.test_cli_runner().invoke(args=["users", "unlock", "nobody"])

    assert (done.exit_code, done.output) == (1, "Error: There is no user 'nobody'.\n")


def test_apps_share_the_counts_of_a_database(guess: Guess, make_app: MakeApp) -> None:
    lock(guess)

    assert guesses(make_app(**LIMITS).test_client())().status_code == 429


def test_another_secret_key_starts_new_counts(
    guess: Guess, make_app: MakeApp, settings: Settings
) -> None:
    lock(guess)
    swapped = make_app(**LIMITS, secret_keys=(b"another secret key" * 2, *settings.secret_keys))
    lock(guesses(swapped.test_client()))

    done = swapped.test_cli_runner().invoke(args=["users", "unlock", "travis"])

    assert done.output == "travis is unlocked now.\n"
    assert guesses(swapped.test_client())().status_code == 401
    assert guess().status_code == 429


def test_nothing_is_hashed_if_the_count_can_not_be_written(
    client: FlaskClient, guess: Guess, settings: Settings, hashed: list[str], db: Connection
) -> None:
    headers = bearer(sign_in(client)["access_token"])
    done = len(hashed)
    client.application.extensions["jwt-server"].database.close()  # opened again below
    spoil(file_of(settings), "not writable")

    assert guess(password="mypassword").status_code == 503
    assert {send().status_code for send in password_routes(client, headers, "mypassword")} == {503}
    body = {"username": "ada", "password": "correct horse"}
    assert client.post("/users", json=body).status_code == 503

    assert len(hashed) == done


@pytest.mark.parametrize("accept", ["text/plain", "application/json"])
def test_lockouts_are_documented(app: Flask, clock: Clock, accept: str) -> None:
    client = app.test_client()
    tokens = sign_in(client)
    headers = {"Accept": accept} | bearer(tokens["access_token"])
    send = documented(partial(send_to_app, client))
    wrong = {"username": "nobody", "password": "wrong"}
    change = {"current_password": "wrong", "new_password": "correct horse battery"}

    for _ in range(5):
        assert send("POST", "/auth", json=wrong, headers=headers).status == 401
        assert send("POST", "/auth/reauth", json={"password": "x"}, headers=headers).status == 403
    for _ in range(10):
        signed_up = send("POST", "/users", json=CREDENTIALS | {"password": "correct horse"})
        assert signed_up.status == 409
    for _ in range(30):
        tokens = refresh(client, tokens["refresh_token"])
    for _ in range(10):
        assert send("PATCH", "/me", json={"username": "t"}, headers=headers).status == 200

    for method, path, body in [
        ("POST", "/auth", wrong),
        ("POST", "/auth/reauth", {"password": "x"}),
        ("PUT", "/me/password", change),
        ("DELETE", "/me", {"password": "x"}),
        ("PATCH", "/me", {"username": "t"}),
        ("POST", "/users", CREDENTIALS | {"password": "correct horse"}),
        ("POST", "/auth/refresh", {"refresh_token": tokens["refresh_token"]}),
    ]:
        assert send(method, path, json=body, headers=headers).status == 429


# Rules


@pytest.mark.parametrize(
    ("address", "client", "site"),
    [
        ("", "", ""),
        ("203.0.113.9", "203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("::1", "::/64", "::/48"),
    ],
)
def test_network_of_an_address(address: str, client: str, site: str) -> None:
    assert (network_of(address), network_of(address, 48)) == (client, site)


@pytest.mark.parametrize("count", [100, 1000, 10**9])
def test_lockout_is_at_most_15_minutes(count: int) -> None:
    assert RateLimit("x", 5, DAY, doubling=True).blocked_until(count, DAY, 1000) == 1900


def test_rate_limit_keys_depend_on_the_secret() -> None:
    one, other = (RateLimits(Settings((secret * 32,), ())) for secret in (b"a", b"b"))

    same_site = {one.sign_in("travis", f"2001:db8:1:{n}::1").check_key for n in range(3)}
    assert len(same_site) == 1
    assert one.sign_in("travis", "2001:db8:2::1").check_key not in same_site
    assert one.sign_in("travis", HOME) == one.sign_in("travis", HOME)
    assert one.account_root("travis") != other.account_root("travis")
    same_site = {one.sign_in("travis", f"2001:db8:1:{n}::1").check_key for n in range(3)}
    assert len(same_site) == 1
    assert one.sign_in("travis", "2001:db8:2::1").check_key not in same_site
    assert one.sign_in("travis", HOME).resettable != one.sign_in("travis", STRANGER).resettable
    assert "a" * 32 not in repr(one)


def test_double_refund_leaves_no_negative_count(db: Connection) -> None:
    counter = RateLimit("x", 5, DAY)
    attempts.count_against(db, counter, 0)
    for _ in range(2):
        db.queries.auth.refund(**dict.fromkeys(attempts.KEYS, "x"))

    assert counts(db) == {"x": 0}
