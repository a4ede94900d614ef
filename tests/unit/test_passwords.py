"""Password hashes: which verify, which are replaced, and that every failure costs the same."""

from __future__ import annotations

import math
from functools import partial

import pytest
from flask.testing import FlaskClient
from passlib.hash import bcrypt, bcrypt_sha256

from jwt_server.database import Connection
from jwt_server.security.hash_queue import HashQueue
from jwt_server.security.passwords import Hasher, hash_cost, hash_password, verify_password
from jwt_server.users import users
from tests.helpers.app import MakeApp
from tests.helpers.auth import sign_in
from tests.helpers.cpu import cpu_seconds
from tests.helpers.factories import add_user, bearer, execute

MIN_ROUNDS, MAX_ROUNDS = 5, 100  # of measurements
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


@pytest.mark.parametrize("stored", USABLE, ids=["bcrypt_sha256", "2b", "2a", "2y"])
def test_a_hash_verifies_its_password_and_no_other(stored: str) -> None:
    assert verify_password("correct horse", stored, 4)
    assert not verify_password("correct horsf", stored, 4)
    assert not verify_password("", stored, 4)


@pytest.mark.parametrize("stored", UNUSABLE)
def test_an_unusable_hash_is_a_failed_sign_in_and_logged(
    client: FlaskClient, db: Connection, caplog: pytest.LogCaptureFixture, stored: str
) -> None:
    add_user(db, "victim", password_hash=stored or " ")

    response = client.post("/auth", data={"username": "victim", "password": "x"})

    assert (response.status_code, response.text) == (401, "Incorrect username and/or password.")
    assert "unusable" in caplog.text
    assert hash_cost(stored) is None


def test_new_hashes_cover_long_passwords_whole() -> None:
    stored = hash_password(LONG + "a", 4)

    assert verify_password(LONG + "a", stored, 4)
    assert not verify_password(LONG + "b", stored, 4)


def test_old_bcrypt_verifies_the_first_72_bytes() -> None:
    stored = bcrypt.using(rounds=4).hash(LONG.encode()[:72])

    assert verify_password(LONG, stored, 4)
    assert verify_password(LONG + "b", stored, 4)
    assert not verify_password("b" + LONG, stored, 4)


@pytest.mark.parametrize(
    ("stored", "renewed"),
    [(USABLE[0], False), (hash_password("correct horse", 5), True), (USABLE[1], True)],
    ids=["current", "another cost", "plain bcrypt"],
)
def test_only_hashes_of_another_kind_or_cost_are_renewed(stored: str, renewed: bool) -> None:
    hasher = Hasher(4, HashQueue(slots=1, size=0, wait=0))

    new = hasher.verify_and_renew("correct horse", stored)

    assert new is not None
    assert (new != stored) is renewed
    assert hasher.verify("correct horse", new)
    assert hasher.verify_and_renew("wrong", stored) is None


def test_an_old_hash_is_upgraded_at_sign_in(client: FlaskClient, db: Connection) -> None:
    user_id = add_user(db, "old", password_hash=USABLE[1])
    data = {"username": "old", "password": "correct horse"}

    assert client.post("/auth", data=data | {"password": "wrong"}).status_code == 401
    assert stored_hash(db, user_id) == USABLE[1]
    assert client.post("/auth", data=data).status_code == 200
    assert stored_hash(db, user_id).startswith("$bcrypt-sha256$")
    assert client.post("/auth", data=data).status_code == 200


NFC, NFD = "correct h\u00f6rse", "correct ho\u0308rse"
HASH_OF_NFD = bcrypt_sha256.using(rounds=4).hash(NFD)
"""As older releases made it."""


@pytest.mark.parametrize("first", [NFC, NFD], ids=ascii)
@pytest.mark.parametrize("then", [NFC, NFD], ids=ascii)
def test_password_is_the_same_in_both_forms(
    make_app: MakeApp, db: Connection, first: str, then: str
) -> None:
    client = make_app(signup="open").test_client()
    client.post("/users", json={"username": "ada", "password": first})
    ada = {"username": "ada", "password": then}

    tokens = sign_in(client, **ada)

    headers = bearer(tokens["access_token"])
    assert client.post("/auth/reauth", json={"password": then}, headers=headers).status_code == 204
    change = {"current_password": then, "new_password": f"{first}s"}
    assert client.put("/me/password", json=change, headers=headers).status_code == 200
    assert client.post("/auth", data=ada).status_code == 401
    assert sign_in(client, username="ada", password=f"{then}s")


def test_hash_of_another_form_is_renewed_at_sign_in(client: FlaskClient, db: Connection) -> None:
    user_id = add_user(db, "old", password_hash=HASH_OF_NFD)
    old = {"username": "old"}

    assert client.post("/auth", data=old | {"password": NFC}).status_code == 401  # as ever
    assert client.post("/auth", data=old | {"password": f"{NFD}x"}).status_code == 401
    assert stored_hash(db, user_id) == HASH_OF_NFD
    assert client.post("/auth", data=old | {"password": NFD}).status_code == 200
    renewed = stored_hash(db, user_id)
    assert bcrypt_sha256.verify(NFC, renewed)
    for password in (NFC, NFD):
        assert client.post("/auth", data=old | {"password": password}).status_code == 200
    assert stored_hash(db, user_id) == renewed


@pytest.mark.parametrize(
    ("password", "sign_up", "then"),
    [
        ("o\u0308" * 256, 201, 200),
        ("o\u0308" * 257, 422, 422),
        ("o\u0308" * 4, 422, 401),  # eight characters, four in NFC
        ("\u0958" * 86, 201, 200),  # two characters each in NFC
        ("\u0958" * 129, 422, 422),
    ],
    ids=["256", "257", "4", "172", "258"],
)
def test_length_of_a_password_is_that_of_its_nfc(
    make_app: MakeApp, db: Connection, password: str, sign_up: int, then: int
) -> None:
    client = make_app(signup="open").test_client()
    ada = {"username": "ada", "password": password}

    assert client.post("/users", json=ada).status_code == sign_up
    assert client.post("/auth", json=ada).status_code == then


def test_an_upgrade_does_not_overwrite_a_concurrent_change(db: Connection) -> None:
    user_id = add_user(db, "old", password_hash=USABLE[1])
    user = users.get_by_name(db, "old")
    changed = hash_password("a new password", 4)
    execute(db, "UPDATE users SET password_hash = ? WHERE id = ?", changed, user_id)

    assert not users.replace_hash(db, user, hash_password("correct horse", 4), 0)

    assert stored_hash(db, user_id) == changed


def stored_hash(db: Connection, user_id: int) -> str:
    [row] = execute(db, "SELECT password_hash FROM users WHERE id = ?", user_id)
    return str(row["password_hash"])


@pytest.mark.parametrize(
    "spelling",
    [
        "Ünal",
        "ünal",
        "ÜNAL",
        "U\u0308nal",
        "ｕ\u0308ｎａｌ",
        " Ünal",
        "Ünal ",
        "Ünal\n",
        "\t\u3000Ünal\xa0",
    ],
    ids=ascii,
)
def test_a_username_is_found_in_any_case_and_normalization(
    client: FlaskClient, db: Connection, spelling: str
) -> None:
    add_user(db, "Ünal")
    data = {"username": spelling, "password": "correct horse"}

    assert client.post("/auth", data=data).status_code == 200


@pytest.mark.parametrize("spelling", ["Unal", "Ü nal", "Ünal\u200b"], ids=ascii)
def test_a_different_username_is_another_user(
    client: FlaskClient, db: Connection, spelling: str
) -> None:
    add_user(db, "Ünal")
    data = {"username": spelling, "password": "correct horse"}

    assert client.post("/auth", data=data).status_code == 401


@pytest.mark.slow
def test_every_failed_sign_in_takes_the_time_of_a_known_user(
    make_app: MakeApp, db: Connection
) -> None:
    """By the least CPU time of the thread over rounds in turn, to which load can only add.

    tests/api/test_same_response.py counts the work exactly.
    """
    for name, stored in {
        "known": hash_password("x", 8),
        "cheap": bcrypt.using(rounds=6).hash("x"),
        "unusable": "!",
    }.items():
        add_user(db, name, password_hash=stored)
    client = make_app(salt_rounds=8).test_client()
    least = dict.fromkeys(("known", "unknown", "cheap", "unusable"), math.inf)

    for number in range(MAX_ROUNDS):
        for name in least:
            least[name] = min(least[name], cpu_seconds(partial(refuse, client, name)))
        ratios = {name: least[name] / least["known"] for name in least}
        if number >= MIN_ROUNDS and all(0.8 < ratio < 1.25 for ratio in ratios.values()):
            return
    pytest.fail(f"not the same: {ratios}")


def refuse(client: FlaskClient, username: str) -> None:
    response = client.post("/auth", data={"username": username, "password": "wrong"})
    assert response.status_code == 401
