"""Refresh on a database, and refresh tokens, without HTTP."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jwt_server.audit import Actor
from jwt_server.auth import sessions
from jwt_server.auth.sessions import Client, NewSession
from jwt_server.database import Connection, Database, Row
from jwt_server.errors import (
    NotSignedIn,
    RefreshTokenInvalid,
    RefreshTokenReused,
    SessionEnded,
    SessionExpired,
    TokenExpired,
    TokenForged,
)
from jwt_server.security import key_files
from jwt_server.security.key_files import KeyFolder, KeySet
from jwt_server.security.keys import ALGORITHMS, SharedSecrets
from jwt_server.security.refresh_tokens import (
    RefreshTokens,
    parse,
)
from jwt_server.security.tokens import AccessTokens, TokenSubject
from jwt_server.users import users
from tests.helpers.auth import run_at_once
from tests.helpers.factories import SESSION, execute
from tests.helpers.fuzzing import examples
from tests.helpers.sql import tracing

TOKENS = RefreshTokens((b"s" * 32,))
NEW = NewSession(refreshable=True, idle=100, absolute=250, address="", user_agent="", now=1000)
SESSION_IDS = st.from_regex(r"[A-Za-z0-9_-]{22}", fullmatch=True)
GENERATIONS = st.integers(1, 10**9 - 1)
NONCES = st.binary(min_size=16, max_size=16)


@pytest.fixture
def session(db: Connection) -> Row:
    """A session opened at 1000."""
    with db.transaction():
        return sessions.open_session(db, users.get_by_id(db, 1), NEW)


def token_of(session: Row, generation: int) -> str:
    return TOKENS.issue(session["id"], generation, session["nonce"])


def rotate(db: Connection, session: Row, generation: int, now: int) -> Row:
    token = token_of(session, generation)
    return refresh(db, token, now)


def refresh(db: Connection, token: str, now: int) -> Row:
    return sessions.refresh(db, TOKENS, token, Client(Actor(None, None, now)), idle=100, grace=10)


def generation(db: Connection, session: Row) -> int:
    return int(db.queries.auth.find_for_refresh(id=session["id"])["generation"])


def test_refresh_increments_generation_and_extends_expiry(db: Connection, session: Row) -> None:
    rotated = rotate(db, session, 1, 1050)

    assert (rotated["generation"], generation(db, session)) == (2, 2)
    assert (session["expires_at"], rotated["expires_at"]) == (1100, 1150)
    assert rotate(db, session, 2, 1149)["expires_at"] == 1249
    assert rotate(db, session, 3, 1200)["expires_at"] == 1250  # not beyond the end


@pytest.mark.parametrize(
    ("steps", "refusal"),
    [
        ([(1, 1000), (1, 1011)], RefreshTokenReused),
        ([(1, 1000), (2, 1000), (1, 1000)], RefreshTokenReused),
        ([(2, 1000)], RefreshTokenReused),
        ([(1, 1000), (1, 1011), (2, 1011)], SessionEnded),
        ([(1, 1100)], SessionExpired),
        ([(1, 1099), (2, 1199)], SessionExpired),
        ([(1, 1090), (2, 1180), (3, 1250)], SessionExpired),
    ],
    ids=str,
)
def test_refused_refreshes(
    db: Connection, session: Row, steps: list[tuple[int, int]],
    refusal: type[NotSignedIn],
) -> None:  # fmt: skip
    *before, (last, now) = steps
    for number, when in before:
        try:
            rotate(db, session, number, when)
        except RefreshTokenReused:
            assert refusal is SessionEnded

    with pytest.raises(refusal):
        rotate(db, session, last, now)
    assert (db.queries.auth.find_for_refresh(id=session["id"])["ended_at"] is None) == (
        refusal is SessionExpired
    )


def test_refresh_within_the_grace_changes_nothing(db: Connection, session: Row) -> None:
    rotate(db, session, 1, 1000)
    before = db.driver.execute("SELECT * FROM sessions").fetchall()

    assert rotate(db, session, 1, 1010)["generation"] == 2
    assert db.driver.execute("SELECT * FROM sessions").fetchall() == before


def test_session_without_refresh_is_not_refreshed(db: Connection) -> None:
    new = replace(NEW, refreshable=False, absolute=100)
    with db.transaction():
        session = sessions.open_session(db, users.get_by_id(db, 1), new)
    before = db.driver.execute("SELECT * FROM sessions").fetchall()

    for number in (1, 2):
        with pytest.raises(RefreshTokenInvalid):
            rotate(db, session, number, 1000)
    assert db.driver.execute("SELECT * FROM sessions").fetchall() == before


def test_foreign_token_takes_no_write_lock(db: Connection, session: Row) -> None:
    before = db.driver.execute("SELECT * FROM sessions").fetchall()
    theirs = RefreshTokens((b"x" * 32,)).issue(session["id"], 1, session["nonce"])

    statements: list[str] = []
    for token in (theirs, TOKENS.issue(secrets.token_urlsafe(16), 1, session["nonce"]), "r1.x"):
        with tracing(db, statements.append), pytest.raises(RefreshTokenInvalid):
            refresh(db, token, 1000)
    assert statements
    assert not any(each.startswith("BEGIN") for each in statements)
    assert db.driver.execute("SELECT * FROM sessions").fetchall() == before


def test_concurrent_refreshes_rotate_once(database: Database, session: Row) -> None:
    token = token_of(session, 1)

    def use() -> Row:
        with database.connection() as db:
            return refresh(db, token, 1050)

    refreshed = run_at_once(use, 8)

    assert {row["generation"] for row in refreshed} == {2}
    assert {row["expires_at"] for row in refreshed} == {1150}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("generation = 2, rotated_at = 1050", None),
        ("generation = 3, rotated_at = 1050", RefreshTokenReused),
        ("ended_at = 1050, expires_at = 1050", SessionEnded),
    ],
)
def test_refresh_reads_again_if_the_session_changes_meanwhile(
    db: Connection, session: Row, monkeypatch: pytest.MonkeyPatch,
    change: str, expected: type[NotSignedIn] | None,
) -> None:  # fmt: skip
    """Another request rotates or ends the session after this one has read it."""
    reads = []
    verify = sessions.verify

    def verify_then_change(*args: Any) -> tuple[int, Row]:
        reads.append(verify(*args))
        if len(reads) == 1:
            execute(db, f"UPDATE sessions SET {change} WHERE id = ?", session["id"])  # noqa: S608 - constants
        return reads[-1]

    monkeypatch.setattr(sessions, "verify", verify_then_change)

    if expected is None:
        assert rotate(db, session, 1, 1050)["generation"] == 2
    else:
        with pytest.raises(expected):
            rotate(db, session, 1, 1050)
    assert len(reads) == 2


def test_refresh_reads_the_session_once(db: Connection, session: Row) -> None:
    statements: list[str] = []

    with tracing(db, statements.append):
        rotate(db, session, 1, 1050)

    assert len([each for each in statements if "FROM sessions" in each]) == 1


def test_refresh_token_format_is_stable() -> None:
    """Computed independently: HMAC-SHA-256 under HKDF-SHA-256 (RFC 5869, no salt) of the secret."""
    made = TOKENS.issue("A" * 22, 7, bytes(range(16)))

    assert made == f"r1.{'A' * 22}.7.RMG3sWbeodDMLVEu4WvoxLvffzEq_SJwP7QVD_UdE38"


@hypothesis_settings(max_examples=examples(50))
@given(SESSION_IDS, GENERATIONS, NONCES)
def test_refresh_token_round_trip(session_id: str, number: int, nonce: bytes) -> None:
    token = TOKENS.issue(session_id, number, nonce)

    assert parse(token) == (session_id, number)
    assert TOKENS.verify(token, session_id, number, nonce)
    assert nonce.hex() not in token


@hypothesis_settings(max_examples=examples(50))
@given(SESSION_IDS, GENERATIONS, NONCES, SESSION_IDS, GENERATIONS, NONCES)
def test_mac_is_unique_to_session_generation_and_nonce(
    session_id: str, number: int, nonce: bytes,
    other_id: str, other_number: int, other_nonce: bytes,
) -> None:  # fmt: skip
    mac = TOKENS.issue(session_id, number, nonce).rpartition(".")[2]
    token = f"r1.{other_id}.{other_number}.{mac}"

    same = (session_id, number, nonce) == (other_id, other_number, other_nonce)
    assert TOKENS.verify(token, other_id, other_number, other_nonce) is same


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[KeySet]]:
    """Two rings of keys for each algorithm; one for HS256."""
    folder = tmp_path_factory.mktemp("rings")
    made: dict[str, list[KeySet]] = {"HS256": [SharedSecrets((b"s" * 32,))]}
    for algorithm in ALGORITHMS:
        if algorithm != "HS256":
            files = [KeyFolder(folder / f"{algorithm}{number}", algorithm) for number in range(2)]
            for ring in files:
                key_files.rotate(ring, now=0, lead=0)
            made[algorithm] = [*files]
    return made


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_access_token_verifies_only_with_its_own_keys(
    rings: dict[str, list[KeySet]], algorithm: str
) -> None:
    subject = TokenSubject(7, secrets.token_urlsafe(16))
    ring = rings[algorithm][0]
    tokens = AccessTokens(ring, "us", "them")
    token = tokens.issue(subject, admin=False, now=1000, ttl=60)

    assert tokens.verify(token, 1059.9) == subject
    with pytest.raises(TokenExpired):
        tokens.verify(token, 1060)
    for others in rings.values():
        for other in others:
            if other is not ring:
                with pytest.raises(TokenForged):
                    AccessTokens(other, "us", "them").verify(token, 1000)
    for issuer, audience in (("them", "them"), ("us", "us")):
        with pytest.raises(TokenForged):
            AccessTokens(ring, issuer, audience).verify(token, 1000)


@pytest.mark.parametrize("column", ["admin", "claims"])
def test_a_user_changed_since_the_session_was_read_is_not_rotated_as_before(
    db: Connection, column: str
) -> None:
    db.driver.execute("""UPDATE users SET admin = 1, claims = '{"role":"editor"}'""")
    row = db.queries.auth.find_for_refresh(id=SESSION)
    values = {"id": SESSION, "admin": row["admin"], "claims": row["claims"], "now": 0}
    values |= {"generation": row["generation"], "expires_at": row["expires_at"]}
    values |= {"retry_key_hash": None, "rotated_by_hash": None}
    now = {"admin": 0, "claims": "{}"}[column]
    execute(db, f"UPDATE users SET {column} = ?", now)  # noqa: S608 - constants

    assert db.queries.auth.rotate(**values) == 0
    assert db.queries.auth.rotate(**values | {column: now}) == 1
