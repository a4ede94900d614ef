"""Access tokens: how they are sent, and which are refused."""

from __future__ import annotations

import hmac
import json
import math
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jwt_server.__main__ import create_secrets
from jwt_server.database import Connection
from jwt_server.security.policy import ALPHABET, generate_password
from tests.helpers.app import Clock, MakeApp
from tests.helpers.auth import refresh, sign_in
from tests.helpers.factories import (
    ABSENT,
    CREDENTIALS,
    HEADER,
    JWT_SECRET,
    base64url,
    bearer,
    claims,
    execute,
    signed,
    token,
)
from tests.helpers.fuzzing import examples
from tests.helpers.http import Send, send_to_server
from tests.helpers.server import Server


def test_bearer_scheme_is_case_insensitive(send: Send) -> None:
    for scheme in ("Bearer", "bearer", "BEARER", "bEaReR", "Bearer "):
        response = send("GET", "/pets", headers={"Authorization": f"{scheme} {token()}"})
        assert response.status == 200


def test_request_without_a_bearer_token_gets_a_bare_challenge(send: Send) -> None:
    for authorization in (
        "", "Bearer", "Bearer ", "Basic dHJhdmlzOm15cGFzc3dvcmQ=", "Token x", "Bearer\tx",
        "Bearer, x", "BearerX x", "x",
    ):  # fmt: skip
        response = send("GET", "/pets", headers={"Authorization": authorization})
        assert (response.status, response.text) == (401, "No token.")
        assert response.headers["WWW-Authenticate"] == "Bearer"


def test_token_outside_of_the_authorization_header_is_ignored(send: Send) -> None:
    for path, kwargs in (
        (f"/pets?access_token={token()}", {}),
        ("/pets", {"headers": {"Cookie": f"access_token={token()}"}}),
        ("/pets", {"headers": {"X-Authorization": f"Bearer {token()}"}}),
    ):
        assert send("GET", path, **kwargs).text == "No token."


def unsigned(header: dict[str, Any]) -> str:
    return f"{base64url(json.dumps(header).encode())}.{base64url(json.dumps(claims()).encode())}."


GOOD = token()
FIRST, SECOND, LAST = GOOD.split(".")
PAYLOAD = json.dumps(claims()).encode()

MALFORMED = {
    "two tokens": f"{GOOD} {GOOD}",
    "two headers joined": f"{GOOD}, Bearer {GOOD}",
    "a space inside": f"{FIRST}. {SECOND}.{LAST}",
    "a tab inside": f"{FIRST}.\t{SECOND}.{LAST}",
    "one part": FIRST,
    "two parts": f"{FIRST}.{SECOND}",
    "four parts": f"{GOOD}.{LAST}",
    "five parts, as JWE": f"{GOOD}.{LAST}.{LAST}",
    "empty parts": "..",
    "no signature": f"{FIRST}.{SECOND}.",
    "padded": f"{GOOD}=",
    "standard base64": f"{FIRST}.{SECOND}.{'+/' * 20}",
    "quoted": f'"{GOOD}"',
    "stray bits at the end": GOOD[:-1] + chr(ord(GOOD[-1]) + 1),
    "letters beyond ASCII": f"{FIRST}.{SECOND}.é",
    "the JSON serialization": json.dumps({"payload": SECOND, "signature": LAST}),
    "100 KB": signed(b'{"alg":"HS256","typ":"JWT"}', b'{"x":"' + b"x" * 100_000 + b'"}'),
    "8 KB": signed(b'{"alg":"HS256","typ":"JWT"}', b'{"x":"' + b"x" * 5_000 + b'"}'),
    "a header that is no JSON": signed(b"{", PAYLOAD),
    "a header in UTF-16": signed(json.dumps(HEADER).encode("utf-16"), PAYLOAD),
    "alg twice": signed(b'{"alg":"none","alg":"HS256","typ":"JWT"}', PAYLOAD),
    "a payload that is no JSON": signed(json.dumps(HEADER).encode(), b"\xff"),
    "a payload that is no object": signed(json.dumps(HEADER).encode(), b"[]"),
    "a payload in UTF-16": signed(json.dumps(HEADER).encode(), PAYLOAD.decode().encode("utf-16")),
    "a claim twice": signed(json.dumps(HEADER).encode(), PAYLOAD[:-1] + b',"sub":"2"}'),
    "deep JSON": signed(json.dumps(HEADER).encode(), b"[" * 2900),
    "exp NaN": token(exp=float("nan")),
}


def test_malformed_tokens_are_refused(client: FlaskClient) -> None:
    for name, malformed in MALFORMED.items():
        response = client.get("/pets", headers=bearer(malformed))
        assert (response.status_code, response.text) == (401, "Malformed token."), name
        assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_server_refuses_malformed_tokens(server: Server) -> None:
    for name, malformed in MALFORMED.items():
        if malformed.isascii():
            response = send_to_server(server, "GET", "/pets", bearer(malformed))
            assert response.status in {400, 401, 431}, name


def test_infinite_exp_is_refused(send: Send) -> None:
    payload = json.dumps(claims(exp=0)).replace('"exp": 0', '"exp": 1e400').encode()

    response = send("GET", "/pets", headers=bearer(signed(json.dumps(HEADER).encode(), payload)))

    assert (response.status, response.text) == (401, "Malformed token.")


WRONG_TYPES: dict[str, list[Any]] = {
    "iss": [None, 1, ["jwt-server"], True, {}],
    "aud": [None, 1, ["jwt-server"], True],
    "sub": [
        None,
        1,
        True,
        "",
        "0",
        "01",
        "-1",
        "+1",
        " 1",
        "1\n",
        "١",
        "1.0",
        "x",
        "1e0",
        str(2**63),
    ],
    "iat": [None, "1", 1.5, True, [1]],
    "exp": [None, "9999999999", 9999999999.5, True, [9999999999]],
    "jti": [None, 1, ["x"]],
    "sid": [None, 1, True, ["x" * 22], "", "x" * 21, "x" * 23, "x" * 21 + "\n", "é" * 22,
            "x" * 21 + "\ud800", "x" * 21 + "\0", "x" * 21 + "="],
    "admin": [None, 0, 1, "false", []],
}  # fmt: skip


@pytest.mark.parametrize("claim", WRONG_TYPES)
def test_missing_and_mistyped_claims_are_refused(
    client: FlaskClient, clock: Clock, claim: str
) -> None:
    now = int(clock())
    assert client.get("/pets", headers=bearer(token(now=now))).status_code == 200

    for value in (ABSENT, *WRONG_TYPES[claim]):
        response = client.get("/pets", headers=bearer(token(now=now, **{claim: value})))
        assert (response.status_code, response.text) == (401, "Malformed token."), value


FORGED = {
    **{f"alg {alg}": unsigned({"alg": alg, "typ": "JWT"}) + "AA" for alg in
       ("none", "None", "NONE", "nOnE", "", "HS384", "RS256")},
    "alg absent": token(header={"typ": "JWT"}),
    "alg null": token(header={"alg": None, "typ": "JWT"}),
    "alg a list": token(header={"alg": ["HS256"], "typ": "JWT"}),
    "alg in lower case": token(header={"alg": "hs256", "typ": "JWT"}),
    "typ absent": token(header={"alg": "HS256"}),
    "another typ": token(header={"alg": "HS256", "typ": "at+jwt"}),
    "crit": token(header=HEADER | {"crit": ["exp"]}),
    "crit empty": token(header=HEADER | {"crit": []}),
    "b64 false": token(header=HEADER | {"b64": False, "crit": ["b64"]}),
    "jku": token(header=HEADER | {"jku": "http://127.0.0.1:1/"}),
    "jwk": token(header=HEADER | {"jwk": {"kty": "oct", "k": base64url(b"x" * 32)}}),
    "kid": token(header=HEADER | {"kid": "../../dev/null"}),
    "another key": token(key=b"another secret of thirty-two bytes and more"),
    "the empty key": token(key=b""),
    "a changed payload": f"{FIRST}.{base64url(json.dumps(claims(sub='2')).encode())}.{LAST}",
    "a cut signature": f"{FIRST}.{SECOND}.{LAST[:20]}",
    "a zero signature": f"{FIRST}.{SECOND}.{base64url(bytes(32))}",
    "another issuer": token(iss="elsewhere"),
    "another audience": token(aud="elsewhere"),
}  # fmt: skip


def test_forged_tokens_are_refused(send: Send) -> None:
    for name, forged in FORGED.items():
        response = send("GET", "/pets", headers=bearer(forged))
        assert (response.status, response.text) == (401, "Forged token."), name
        assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_token_expires_to_the_second(client: FlaskClient, clock: Clock) -> None:
    text = client.post("/auth", data=CREDENTIALS).text

    clock.advance(12 * 60 * 60 - 0.001)
    assert client.get("/my-pets", headers=bearer(text)).status_code == 200
    clock.advance(0.001)
    assert client.get("/my-pets", headers=bearer(text)).text == "Expired token. Sign in again."


def test_claims_of_a_token(client: FlaskClient, clock: Clock) -> None:
    text = client.post("/auth", data=CREDENTIALS).text

    assert jwt.get_unverified_header(text) == HEADER
    found = jwt.decode(text, JWT_SECRET, ["HS256"], options={"verify_signature": False})
    jti, sid = found.pop("jti"), found.pop("sid")
    now = int(clock())
    assert found == {
        "iss": "jwt-server",
        "aud": "jwt-server",
        "sub": "1",
        "iat": now,
        "exp": now + 12 * 60 * 60,
        "admin": False,
    }
    assert len(jti) >= 22
    assert len(sid) == 22


def test_tokens_are_unique(client: FlaskClient) -> None:
    tokens = {client.post("/auth", data=CREDENTIALS).text for _ in range(2)}

    assert len(tokens) == 2


def test_previous_secret_verifies_but_does_not_sign(
    app: Flask, make_app: MakeApp, travis: dict[str, str]
) -> None:
    new = b"a newer secret, which is of 32 bytes and more"
    swapped = make_app(jwt_secrets=(new, JWT_SECRET)).test_client()
    new_token = swapped.post("/auth", data=CREDENTIALS).text

    assert swapped.get("/pets", headers=travis).status_code == 200
    assert swapped.get("/pets", headers=bearer(new_token)).status_code == 200
    assert app.test_client().get("/pets", headers=bearer(new_token)).text == "Forged token."


@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=examples(50),
    deadline=None,
)
@given(
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"))
    | st.tuples(st.binary(), st.binary(), st.binary()).map(
        lambda parts: "Bearer " + ".".join(map(base64url, parts))
    )
    | st.tuples(st.sampled_from([b"{}", b"[]", json.dumps(HEADER).encode()]), st.binary()).map(
        lambda parts: f"Bearer {signed(*parts)}"
    )
)
def test_arbitrary_authorization_headers_are_refused(
    client: FlaskClient, authorization: str
) -> None:
    response = client.get("/pets", headers={"Authorization": authorization})

    assert response.status_code == 401


def another_start(mac: str) -> str:
    return ("B" if mac[0] == "A" else "A") + mac[1:]


def another_end(mac: str) -> str:
    return mac[:-2] + ("B" if mac[-2] == "A" else "A") + mac[-1]


@pytest.mark.parametrize("altered", [another_start, another_end])
def test_cve_2016_7036_macs_are_compared_in_constant_time(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, altered: Callable[[str], str]
) -> None:
    """CVE-2016-7036, python-jose: the time of a comparison reveals how much of a MAC is right.

    Password hashes and the MACs of both kinds of tokens go whole to `hmac.compare_digest`.
    """
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def noted(one: Any, other: Any) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    tokens = sign_in(client)
    start, _, mac = tokens["access_token"].rpartition(".")
    refused = client.get("/pets", headers=bearer(f"{start}.{altered(mac)}"))
    start, _, mac = tokens["refresh_token"].rpartition(".")

    assert refused.status_code == 401
    assert refresh(client, f"{start}.{altered(mac)}")["code"] == "refresh_token_invalid"
    whole = len(tokens["refresh_token"])
    assert compared == [(31, 31), (32, 32), (whole, whole)]
    assert "access_token" in refresh(client, tokens["refresh_token"])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The random bytes taken from the system by `secrets`."""
    chunks: list[bytes] = []

    def urandom(size: int) -> bytes:
        chunks.append(os.urandom(size))
        return chunks[-1]

    monkeypatch.setattr(random, "_urandom", urandom)
    random.seed(1)  # Python's own generator is predictable, and must not matter
    return chunks


def test_tokens_and_sessions_have_128_random_bits(
    client: FlaskClient, db: Connection, drawn: list[bytes]
) -> None:
    response = client.post("/auth", json=CREDENTIALS, headers={"Accept": "application/json"})

    told = jwt.decode(response.get_json()["access_token"], options={"verify_signature": False})
    [nonce] = execute(db, "SELECT nonce FROM sessions WHERE id = ?", told["sid"])
    made = [told["jti"], told["sid"], base64url(nonce["nonce"])]
    assert len(set(made)) == 3
    assert set(made) <= {base64url(chunk) for chunk in drawn if len(chunk) == 16}
    assert bytes.fromhex(response.headers["X-Request-ID"]) in drawn


@pytest.mark.parametrize("least", [1, 8, 64])
def test_generated_password_has_128_random_bits(least: int, drawn: list[bytes]) -> None:
    password = generate_password(least)

    letters = password.replace("-", "")
    assert set(letters) <= set(ALPHABET)
    assert len(letters) * math.log2(len(set(ALPHABET))) >= 128
    assert len(drawn) >= len(letters)  # one draw per letter, or more


def test_generated_secrets_have_256_random_bits(tmp_path: Path, drawn: list[bytes]) -> None:
    create_secrets()

    written = {path.read_text() for path in (tmp_path / "instance").iterdir()}
    assert len(written) == 2
    assert written <= {base64url(chunk) for chunk in drawn if len(chunk) >= 32}
