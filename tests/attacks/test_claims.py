"""Claims under a good signature that no token of the service has, or has for somebody else; and
tokens that are made to cost. RFC 8725 sections 2.4, 2.6 to 2.8, 3.8, 3.12.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.attacks.forging import as_json
from tests.attacks.target import (
    ACCESS_LINE,
    CHALLENGE,
    EXPIRED,
    FORGED,
    MALFORMED,
    OF_NOBODY,
    REVOKED,
    Attack,
    Target,
    cases,
)
from tests.helpers.factories import ABSENT, base64url, bearer, claims
from tests.helpers.http import send_to_server
from tests.helpers.server import Server

WRONG: dict[str, list[Any]] = {
    "iss": [None, 1, True, {}, ["jwt-server"], {"jwt-server": 1}, 0],
    "aud": [None, 1, True, ["jwt-server"], ["jwt-server", "other"], [["jwt-server"]],
            {"aud": "jwt-server"}, 0],
    "sub": [None, 1, True, "", "0", "01", "-1", "+1", " 1", "1\n", "١", "1.0", "x", "1e0",
            str(2**63), 0, -1, 1.0, [1], ["1"], {"sub": "1"}, "null", "undefined", "*", "%",
            "1 OR 1=1", "1;", "1,2", "0x1", "1_0", "1\0", "\0001", "１", "①", "9" * 400, "-0", "00",
            "1.", ".1", "NaN"],
    "iat": [None, "1", 1.5, True, [1], "", "now", 1.0, {}, -1.5],
    "exp": [None, "9999999999", 9999999999.5, True, [9999999999], "", "never", 1.0, {}, 1e308,
            -1.5, [], False],
    "jti": [None, 1, ["x"], 0, {}, True, 1.5],
    "sid": [None, 1, True, ["x" * 22], "", "x" * 21, "x" * 23, "x" * 21 + "\n", "é" * 22,
            "x" * 21 + "\ud800", "x" * 21 + "\0", "x" * 21 + "=", 0, {}, "../" * 7 + "x",
            "' OR 1=1 -- '''''''''''", "%" * 22, "*" * 22, " " * 22],
    "admin": [None, 0, 1, "false", [], "true", "True", 1.0, {}, [True]],
}  # fmt: skip
"""Values that a claim never has, by their type or form."""


@pytest.mark.parametrize("claim", WRONG)
def test_a_claim_of_another_type_is_refused(target: Target, claim: str) -> None:
    """GHSA-5hvv-9cqv-894r, GoTrue: an empty id is some user's. CVE-2026-8922, Keycloak: one of two
    times is checked.
    """
    for value in (ABSENT, *WRONG[claim]):
        target.refuses(target.sign(**{claim: value}), MALFORMED)


def test_a_token_with_the_right_claims_is_accepted(target: Target) -> None:
    """The control of the test above."""
    target.still_works()
    assert target.show(target.sign(jti="", iat=0)).status == 200


def elsewhere(claim: str, target: Target) -> Iterator[str]:
    """What contains the right value, is contained in it, or looks like it."""
    for value in ("", "jwt", "jwt-serve", "server", "-", "jwt-server2", " jwt-server",
                  "jwt-server ",
                  "jwt-server/", "JWT-SERVER", "Jwt-Server", "jwt-server\0", "jwt\u2010server",
                  "https://jwt-server", "jwt-server,other", "*", "null", "elsewhere"):  # fmt: skip
        changed: dict[str, Any] = {claim: value}
        yield target.sign(**changed)


def issuers(target: Target) -> Iterator[str]:
    yield from elsewhere("iss", target)


def audiences(target: Target) -> Iterator[str]:
    yield from elsewhere("aud", target)
    yield target.sign(iss="elsewhere", aud="elsewhere")


def past(target: Target) -> Iterator[str]:
    now = int(time.time())
    for exp in (now, now - 1, now - 10**6, 0, -1, -(10**30)):
        yield target.sign(exp=exp)
    yield target.sign(now=now - 900)


def not_yet(target: Target) -> Iterator[str]:
    """`nbf` is none of ours; whoever writes it wants it to be heeded (RFC 7519 section 4.1.5)."""
    now = int(time.time())
    for nbf in (now + 600, now + 1, 2**40, "tomorrow", None):
        yield target.sign(payload=claims() | {"nbf": nbf})


def nobody(target: Target) -> Iterator[str]:
    for sub in ("2", "999", str(10**17)):
        yield target.sign(sub=sub)


def no_session(target: Target) -> Iterator[str]:
    for sid in ("A" * 22, "_" * 22, "-" * 22, "travis-session-of-tesT"):
        yield target.sign(sid=sid)


def repeated(target: Target) -> Iterator[str]:
    """A member twice, in header and payload, plain and escaped: readers differ in which counts."""
    header, payload = as_json(target.header), as_json(claims())
    for alg in (b'"alg":"none",', b'"\\u0061lg":"none",', b'"typ":"JWT",', b'"x":1,"x":1,'):
        yield target.sign(b"{" + alg + header[1:], payload)
        yield target.sign(header[:-1] + b"," + alg[:-1] + b"}", payload)
    for sub in (b'"sub":"2",', b'"\\u0073ub":"2",', b'"exp":9999999999,', b'"x":{"a":1,"a":2},'):
        yield target.sign(header, b"{" + sub + payload[1:])
        yield target.sign(header, payload[:-1] + b"," + sub[:-1] + b"}")
    yield target.sign(header + header, payload)
    yield target.sign(header, payload + payload)


def no_objects(target: Target) -> Iterator[str]:
    for value in (b"[]", b'"x"', b"1", b"null", b"true", b"{}"):
        yield target.sign(payload=value)


def no_json(target: Target) -> Iterator[str]:
    header, payload = as_json(target.header), as_json(claims())
    for bad in (b",", b"{", b"}", b"'x'", b"{'a':1}", b"undefined", b"NaN", b"\xff", b"\0",
                b"//x", b"\xed\xa0\x80", b"\xc0\xaf"):  # fmt: skip
        yield target.sign(header, bad + payload)
        yield target.sign(header, payload + bad)
        yield target.sign(bad + header, payload)
        yield target.sign(header, bad)
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig"):
        yield target.sign(header.decode().encode(encoding), payload)
        yield target.sign(header, payload.decode().encode(encoding))
    for number in (
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e999",
        b"0x7fffffff",
        b"01",
        b"1_000",
        b"+1",
    ):
        yield target.sign(header, payload[:-1] + b',"exp":' + number + b"}")
        yield target.sign(header, as_json(claims(exp=ABSENT))[:-1] + b',"exp":' + number + b"}")


def headers_that_are_no_objects(target: Target) -> Iterator[str]:
    for value in (b"[]", b'"HS256"', b"1", b"null", b"true", b"{}", b'["alg","HS256"]'):
        yield target.sign(header=value)


CLAIMS = [
    Attack("CVE-2024-53861", "PyJWT: an issuer that is part of the right one", issuers),
    Attack("RFC-8725-3.9", "a token that another service was meant to get", audiences),
    Attack("expired", "a token whose time has passed, to the second", past, EXPIRED),
    Attack("not-yet-valid", "a token whose time is still to come", not_yet),
    Attack("no-such-user", "a subject that nobody is", nobody, OF_NOBODY),
    Attack("no-such-session", "a session that never was", no_session, REVOKED),
    Attack("member-twice", "RFC 8725 2.4: which of two equal members counts", repeated, MALFORMED),
    Attack("payload-no-object", "a payload that is no object, or an empty one", no_objects,
           MALFORMED),
    Attack("header-no-object", "a header that is no object", headers_that_are_no_objects),
    Attack("no-json", "RFC 8725 3.7: JSON that is none, or in another encoding", no_json,
           MALFORMED),
]  # fmt: skip


@cases(CLAIMS)
def test_what_the_server_would_never_write_is_refused(target: Target, attack: Attack) -> None:
    attack.run(target)


def test_claims_about_the_user_are_ignored(target: Target) -> None:
    """RFC 8725 3.10: `admin`, and more that one may hope for, are read from the database."""
    hoped = claims(admin=True) | {"role": "admin", "username": "root", "scope": "*", "user_id": 2}

    answer = target.show(target.sign(payload=hoped), "/auth/verify")

    told = {name: value for name, value in answer.headers.items() if name.startswith("X-Auth-")}
    assert told == {"X-Auth-User-Id": "1", "X-Auth-Username": "travis", "X-Auth-Admin": "false"}


DEEP = (b"[" * 2000, b'{"a":' * 400, b"[" * 1100 + b"]" * 1100, b'{"a":' * 300 + b"1" + b"}" * 300)


def deep_headers(target: Target) -> Iterator[str]:
    for deep in DEEP:
        yield target.sign(deep)
        yield target.sign(as_json(target.header)[:-1] + b',"x":' + deep + b"}", b"{}")


def deep_payloads(target: Target) -> Iterator[str]:
    for deep in DEEP:
        yield target.sign(payload=deep)
        yield target.sign(payload=b'{"x":' + deep + b"}")


def markers(target: Target) -> Iterator[str]:
    for name in ("x5c", "kid", "jwk"):
        yield target.sign(target.header | {name: "-----BEGIN CERTIFICATE-----" * 60})


def long_numbers(target: Target) -> Iterator[str]:
    header = as_json(target.header)
    for number in (b"9" * 2300, b"-" + b"9" * 2300, b"1e" + b"9" * 2000, b"0." + b"9" * 2300):
        yield target.sign(header, as_json(claims(sub=ABSENT))[:-1] + b',"sub":' + number + b"}")


def large(target: Target) -> Iterator[str]:
    """Longer than any token of the service, up to what a header may have at all."""
    for count in (3000, 5000):
        yield target.sign(payload=claims() | {"x": "x" * count})
    yield target.sign(payload=b"{" + b'"a":1,' * 400 + as_json(claims())[1:])
    yield "A" * 8000
    yield "." * 8000
    yield "A.A" * 2600
    yield f"{'A' * 4000}.{'A' * 3000}.{'A' * 1000}"
    yield f"{target.good}{'.' * 4000}"


BOMBS = [
    Attack("CVE-2026-102265", "PyJWT: a deep header is a RecursionError, and a 500", deep_headers),
    Attack("CVE-2026-101918", "PyJWT: so is a deep payload", deep_payloads),
    Attack("long-numbers", "numbers that take quadratic time to read", long_numbers),
    Attack("CVE-2026-102270", "PyJWT: markers of PEM without an end take quadratic time", markers),
    Attack("large", "tokens of kilobytes", large),
]
MAX_CPU_SECONDS = 0.5
"""What a refusal may take of this thread's CPU; it takes a few milliseconds."""


@cases(BOMBS)
def test_an_expensive_token_is_refused_cheaply(target: Target, attack: Attack) -> None:
    for token in attack.tokens(target):
        started = time.thread_time()
        response = target.show(token)
        assert time.thread_time() - started < MAX_CPU_SECONDS
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, CHALLENGE)
        assert response.text in {FORGED, MALFORMED}
    assert all(ACCESS_LINE.fullmatch(line) for line in target.log_lines())
    target.still_works()


@pytest.mark.parametrize("length", [16_400, 60_000])
def test_a_token_longer_than_any_header_never_reaches_the_service(
    server: Server, length: int
) -> None:
    before = len(server.log())

    assert send_to_server(server, "GET", "/pets", bearer("A" * length)).status == 431

    assert "jwt_server.access" not in server.log()[before:]


def test_many_bad_tokens_do_not_evict_good_ones(target: Target) -> None:
    """The cache of good tokens can't be filled by bad ones."""
    payload = base64url(json.dumps(claims()).encode())
    header = base64url(as_json(target.header))
    for number in range(100):
        target.show(f"{header}.{payload}.{base64url(str(number).encode())}")

    target.still_works()
