"""The rotation's transaction on a database, and what it is made of, without HTTP or Flask."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_server.audit import operator
from jwt_server.auth import sessions
from jwt_server.auth.sessions import Device, SessionLifetime
from jwt_server.database import Connection, Row
from jwt_server.errors import (
    RefreshRefused,
    RefreshTokenInvalid,
    RefreshTokenReused,
    SessionEnded,
    SessionExpired,
    TokenExpired,
    TokenForged,
)
from jwt_server.security import key_files
from jwt_server.security.key_files import KeyFolder
from jwt_server.security.keys import ALGORITHMS, SharedSecrets
from jwt_server.security.refresh_tokens import (
    ParsedRefreshToken,
    RefreshTokens,
    new_session_id,
    parse,
)
from jwt_server.security.tokens import AccessTokens, KeySet, TokenSubject
from jwt_server.users import users

TOKENS = RefreshTokens.from_secrets((b"s" * 32,))
TERMS = SessionLifetime(idle=100, absolute=250, refreshable=True)
SESSION_IDS = st.from_regex(r"[A-Za-z0-9_-]{22}", fullmatch=True)
GENERATIONS = st.integers(1, 10**9 - 1)
NONCES = st.binary(min_size=16, max_size=16)


@pytest.fixture
def session(db: Connection) -> Row:
    """A session that is opened at 1000."""
    with db.transaction():
        return sessions.open_session(db, users.get_by_id(db, 1), TERMS, Device("", ""), 1000)


def token_of(session: Row, generation: int) -> str:
    return TOKENS.issue(session["id"], generation, session["nonce"])


def rotate(db: Connection, session: Row, generation: int, now: int) -> Row:
    token = token_of(session, generation)
    return sessions.refresh(db, TOKENS, token, idle=100, grace=10, actor=operator(now))


def generation(db: Connection, session: Row) -> int:
    return int(db.queries.auth.find(id=session["id"])["generation"])


def test_a_step_moves_the_generation_by_one_and_the_expiry(db: Connection, session: Row) -> None:
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
def test_a_refusal_is_the_last_step(
    db: Connection, session: Row, steps: list[tuple[int, int]],
    refusal: type[RefreshRefused],
) -> None:  # fmt: skip
    *before, (last, now) = steps
    for number, when in before:
        try:
            rotate(db, session, number, when)
        except RefreshTokenReused:
            assert refusal is SessionEnded

    with pytest.raises(refusal):
        rotate(db, session, last, now)
    assert (db.queries.auth.find(id=session["id"])["ended_at"] is None) == (
        refusal is SessionExpired
    )


def test_the_grace_gives_the_same_and_extends_nothing(db: Connection, session: Row) -> None:
    first = rotate(db, session, 1, 1000)

    assert rotate(db, session, 1, 1010) == first
    assert generation(db, session) == 2


def test_a_session_that_can_not_be_refreshed_is_not(db: Connection) -> None:
    terms = SessionLifetime(idle=100, absolute=100, refreshable=False)
    with db.transaction():
        session = sessions.open_session(db, users.get_by_id(db, 1), terms, Device("", ""), 1000)
    before = db.driver.execute("SELECT * FROM sessions").fetchall()

    for number in (1, 2):
        with pytest.raises(RefreshTokenInvalid):
            rotate(db, session, number, 1000)
    assert db.driver.execute("SELECT * FROM sessions").fetchall() == before


def test_what_is_not_ours_changes_nothing_and_waits_for_nobody(
    db: Connection, session: Row
) -> None:
    before = db.driver.execute("SELECT * FROM sessions").fetchall()
    theirs = RefreshTokens.from_secrets((b"x" * 32,)).issue(session["id"], 1, session["nonce"])

    for token in (theirs, TOKENS.issue(new_session_id(), 1, session["nonce"]), "r1.x"):
        with pytest.raises(RefreshTokenInvalid):
            sessions.refresh(db, TOKENS, token, idle=100, grace=10, actor=operator(1000))
    assert db.driver.execute("SELECT * FROM sessions").fetchall() == before


def test_a_token_is_made_as_ever() -> None:
    """Worked out by hand: HMAC-SHA-256 under HKDF-SHA-256 (RFC 5869, no salt) of the secret."""
    made = TOKENS.issue("A" * 22, 7, bytes(range(16)))

    assert made == f"r1.{'A' * 22}.7.RMG3sWbeodDMLVEu4WvoxLvffzEq_SJwP7QVD_UdE38"


@given(SESSION_IDS, GENERATIONS, NONCES)
def test_a_token_says_what_it_was_made_of_and_verifies(
    session_id: str, number: int, nonce: bytes
) -> None:
    shown = parse(TOKENS.issue(session_id, number, nonce))

    assert (shown.session_id, shown.generation) == (session_id, number)
    assert TOKENS.verify(shown, nonce)
    assert nonce.hex() not in shown.mac


@given(SESSION_IDS, GENERATIONS, NONCES, SESSION_IDS, GENERATIONS, NONCES)
def test_no_other_session_generation_or_nonce_has_its_mac(
    session_id: str, number: int, nonce: bytes,
    other_id: str, other_number: int, other_nonce: bytes,
) -> None:  # fmt: skip
    mac = parse(TOKENS.issue(session_id, number, nonce)).mac

    same = (session_id, number, nonce) == (other_id, other_number, other_nonce)
    assert TOKENS.verify(ParsedRefreshToken(other_id, other_number, mac), other_nonce) is same


def ring_of(algorithm: str, folder: Path) -> KeySet:
    if algorithm == "HS256":
        return SharedSecrets((b"s" * 32,))
    ring = KeyFolder(folder, algorithm)
    key_files.rotate(ring, now=0, lead=0)
    return ring


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_access_token_is_verified_under_its_own_ring_alone(
    tmp_path: Path, algorithm: str
) -> None:
    bearer = TokenSubject(7, new_session_id())
    ours = AccessTokens(ring_of(algorithm, tmp_path / "ours"), "us", "them")
    token = ours.issue(bearer, admin=False, now=1000, ttl=60)

    assert ours.verify(token, 1059.9) == bearer
    with pytest.raises(TokenExpired):
        ours.verify(token, 1060)
    for other in ALGORITHMS:
        ring = ring_of(other, tmp_path / other)
        if other != "HS256" or algorithm != "HS256":
            with pytest.raises(TokenForged):
                AccessTokens(ring, "us", "them").verify(token, 1000)
    for issuer, audience in (("them", "them"), ("us", "us")):
        with pytest.raises(TokenForged):
            AccessTokens(ours.keys, issuer, audience).verify(token, 1000)
