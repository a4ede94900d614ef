"""Password hashes: what verifies, what is replaced, and how much work a failure is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import pytest
from flask.testing import FlaskClient
from passlib.hash import bcrypt

from jwt_server.database import Connection
from jwt_server.security.passwords import hash_cost, hash_password, needs_rehash, verify_password
from jwt_server.users import users
from tests.helpers.app import MakeApp
from tests.helpers.factories import add_user

LONG = "é" * 50  # 100 bytes
USABLE = [
    hash_password("correct horse", 4),
    bcrypt.using(rounds=4).hash("correct horse"),
    bcrypt.using(rounds=4, ident="2a").hash("correct horse"),
    bcrypt.using(rounds=4, ident="2y").hash("correct horse"),
]
UNUSABLE = [
    "", "!", "plain", "$1$abc$def",
    "$2b$04$short", "$2b$99$" + "." * 53, "$2x$04$" + "." * 53,
    "$2b$04$" + "." * 53 + "\n", "$2b$04$" + "é" * 53,
    "$2b$04$" + "." * 22, "$bcrypt-sha256$v=2,t=2b,r=4$" + "." * 22,
]  # fmt: skip


@pytest.mark.parametrize("stored", USABLE)
def test_a_hash_verifies_its_password_and_no_other(stored: str) -> None:
    assert verify_password("correct horse", stored, 4)
    assert not verify_password("correct horsf", stored, 4)
    assert not verify_password("", stored, 4)


@pytest.mark.parametrize("stored", UNUSABLE)
def test_an_unusable_hash_is_a_failed_check_and_a_line_in_the_log(
    client: FlaskClient, db: Connection, caplog: pytest.LogCaptureFixture, stored: str
) -> None:
    add_user(db, "victim", password_hash=stored or " ")

    answer = client.post("/auth", data={"username": "victim", "password": "x"})

    assert (answer.status_code, answer.text) == (401, "Incorrect username and/or password.")
    assert "unusable" in caplog.text
    assert hash_cost(stored) is None


def test_new_hashes_do_not_cut_long_passwords() -> None:
    stored = hash_password(LONG + "a", 4)

    assert verify_password(LONG + "a", stored, 4)
    assert not verify_password(LONG + "b", stored, 4)


def test_old_bcrypt_verifies_the_first_72_bytes() -> None:
    stored = bcrypt.using(rounds=4).hash(LONG.encode()[:72])

    assert verify_password(LONG, stored, 4)
    assert verify_password(LONG + "b", stored, 4)
    assert not verify_password("b" + LONG, stored, 4)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [(hash_password("x", 4), False), (hash_password("x", 5), True), (USABLE[1], True)],
)
def test_only_hashes_of_another_kind_or_cost_are_replaced(stored: str, expected: bool) -> None:
    assert needs_rehash(stored, 4) is expected


def test_an_old_hash_is_upgraded_at_sign_in(client: FlaskClient, db: Connection) -> None:
    user_id = add_user(db, "old", password_hash=USABLE[1])
    data = {"username": "old", "password": "correct horse"}

    assert client.post("/auth", data=data | {"password": "wrong"}).status_code == 401
    assert stored_hash(db, user_id) == USABLE[1]
    assert client.post("/auth", data=data).status_code == 200
    assert stored_hash(db, user_id).startswith("$bcrypt-sha256$")
    assert client.post("/auth", data=data).status_code == 200


def test_an_upgrade_does_not_overwrite_a_password_changed_meanwhile(db: Connection) -> None:
    user_id = add_user(db, "old", password_hash=USABLE[1])
    user = users.get_by_name(db, "old")
    changed = hash_password("a new password", 4)
    db.driver.execute("UPDATE users SET password_hash = ? WHERE id = ?", (changed, user_id))

    assert not users.record_sign_in(db, user, hash_password("correct horse", 4), 0)

    assert stored_hash(db, user_id) == changed


def stored_hash(db: Connection, user_id: int) -> str:
    row = db.driver.execute("SELECT password_hash FROM users WHERE id = ?", (user_id,)).fetchone()
    return str(row["password_hash"])


@pytest.mark.parametrize(
    "spelling", ["Ünal", "ünal", "ÜNAL", "U\u0308nal", "ｕ\u0308ｎａｌ"], ids=ascii
)
def test_a_name_is_found_however_it_is_spelled(
    client: FlaskClient, db: Connection, spelling: str
) -> None:
    add_user(db, "Ünal")
    data = {"username": spelling, "password": "correct horse"}

    assert client.post("/auth", data=data).status_code == 200


@pytest.mark.parametrize("spelling", [" Ünal", "Ünal ", "Unal", "Ünal\u200b", "Ünal\n"], ids=ascii)
def test_another_name_is_another_user(client: FlaskClient, db: Connection, spelling: str) -> None:
    add_user(db, "Ünal")
    data = {"username": spelling, "password": "correct horse"}

    assert client.post("/auth", data=data).status_code == 401


def test_unknown_users_cheap_hashes_and_unusable_ones_take_the_time_of_a_known_user(
    make_app: MakeApp, db: Connection
) -> None:
    """At the default cost, 30 tries each in turn, by the CPU time that the thread has used: it
    is nearly all that a try takes, and free of what else the machine is doing.
    """
    for name, stored in {
        "known": hash_password("x", 12),
        "cheap": bcrypt.using(rounds=10).hash("x"),
        "unusable": "!",
    }.items():
        add_user(db, name, password_hash=stored)
    client = make_app(salt_rounds=12).test_client()
    tries: dict[str, list[float]] = {"known": [], "unknown": [], "cheap": [], "unusable": []}

    for _ in range(30):
        for name, times in tries.items():
            times.append(cpu_time(partial(refuse, client, name)))

    medians = {name: statistics.median(times) for name, times in tries.items()}
    for name, median in medians.items():
        assert 0.9 < median / medians["known"] < 1.1, (name, medians)


def refuse(client: FlaskClient, username: str) -> None:
    answer = client.post("/auth", data={"username": username, "password": "wrong"})
    assert answer.status_code == 401


def cpu_time(work: Callable[[], None]) -> float:
    before = time.thread_time()
    work()
    return time.thread_time() - before
