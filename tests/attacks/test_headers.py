"""Headers that ask for what the service doesn't do. It takes the one header that it writes, so
each of these is refused although the server's own key has signed it. RFC 8725 sections 3.1, 3.2,
3.9, 3.10 and 3.11.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives.serialization import Encoding

from tests.attacks import forging
from tests.attacks.conftest import Canary
from tests.attacks.forging import as_json, compact, decoded, signature
from tests.attacks.target import ALGORITHMS, FORGED, MALFORMED, Attack, Target, cases
from tests.helpers.factories import base64url, claims

NONES: tuple[Any, ...] = (
    "none", "None", "NONE", "nOnE", "NoNe", "nonE", "none ", " none", "none\0", "none\n", "nоne",
    "ｎｏｎｅ", "n\u200bone", "", "null", "undefined", "false", "0", None, False, True, 0, 1.5,
    [], ["none"], {}, {"alg": "none"},
)  # fmt: skip


def nones(target: Target) -> Iterator[str]:
    """`none` in every spelling beside what else the header must have, under signatures that are no
    HMAC of anything, that were good for another token, and that are good for this one.
    """
    for spelled in NONES:
        header = target.header | {"alg": spelled}
        yield compact(header, claims(), b"\0")
        yield compact(header, claims(), decoded(target.good.split(".")[2]))
        yield target.sign(header)


def bare_nones(target: Target) -> Iterator[str]:
    for spelled in NONES:
        yield compact({"alg": spelled}, claims(), b"none")
        yield compact({"typ": "JWT", "alg": spelled}, claims(), b"none")


def unsigned(target: Target) -> Iterator[str]:
    """With no signature at all; RFC 7519 section 6 keeps the dot behind the payload."""
    yield compact(target.header, claims(), b"")
    yield compact({}, claims(), b"")
    for spelled in NONES:
        yield compact({"alg": spelled, "typ": "JWT"}, claims(), b"")


def cut_off(target: Target) -> Iterator[str]:
    header, payload, made = target.good.split(".")
    yield from (
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}..{made}",
        f".{payload}.{made}",
    )
    yield from (
        f"{header}.{payload}..",
        f"{header}.{payload}.{made}.",
        f".{target.good}",
        "..",
        ".",
    )


def changed(target: Target, **members: Any) -> str:
    return target.sign(target.header | members)


def without(target: Target, *names: str) -> str:
    return target.sign({name: value for name, value in target.header.items() if name not in names})


def case_variants(target: Target) -> Iterator[str]:
    """Names and values of the header are compared byte by byte (RFC 7515 section 4)."""
    alg = target.algorithm
    for spelled in (alg.lower(), alg.upper(), alg.title(), alg.swapcase(), f"{alg} ", f"{alg}\0"):
        if spelled != alg:
            yield changed(target, alg=spelled)
    yield target.sign({name.upper(): value for name, value in target.header.items()})
    yield target.sign({f"{name} ": value for name, value in target.header.items()})
    yield changed(target, alg=[alg])
    yield changed(target, ALG="none")
    yield changed(target, alG=alg)


CRITICAL: tuple[dict[str, Any], ...] = (
    {"crit": ["x-policy"], "x-policy": "require-mfa"},
    {"crit": ["exp"], "exp": 1},
    {"crit": []},
    {"crit": None},
    {"crit": "exp"},
    {"crit": {}},
    {"crit": [None]},
    {"crit": ["alg", "typ"]},
    {"crit": ["crit"]},
    {"crit": ["b64"], "b64": True},
    {"crit": ["x"] * 300},
)


def critical(target: Target) -> Iterator[str]:
    for members in CRITICAL:
        yield changed(target, **members)


def unencoded(target: Target) -> Iterator[str]:
    """RFC 7797: the payload as it is, signed and shown in each way."""
    for members in ({"b64": False, "crit": ["b64"]}, {"b64": False}, {"b64": 0}, {"b64": "false"}):
        yield changed(target, **members)


def unencoded_payload(target: Target) -> Iterator[str]:
    header = base64url(as_json(target.header | {"b64": False, "crit": ["b64"]}))
    payload = json.dumps(claims())
    made = base64url(signature(target.algorithm, target.key, f"{header}.{payload}".encode()))
    yield f"{header}.{payload}.{made}"
    yield f"{header}..{made}"


def large_unused_payload(target: Target) -> Iterator[str]:
    header = base64url(as_json(target.header | {"b64": False, "crit": ["b64"]}))
    yield f"{header}.{'A' * 6000}.AAAA"


def compressed(target: Target) -> Iterator[str]:
    """JWS has no compression; who inflates anyway blows itself up."""
    for payload in (as_json(claims()), as_json(claims()) + b" " * 1_000_000):
        for packed in (zlib.compress(payload, 9), zlib.compress(payload, 9)[2:-4]):
            yield target.sign(target.header | {"zip": "DEF"}, packed)


def said_to_be_compressed(target: Target) -> Iterator[str]:
    for name in ("DEF", "GZIP", "", None):
        yield changed(target, zip=name)


TYPES = (
    "at+jwt", "application/at+jwt", "application/jwt", "jwt", "Jwt", "JWT ", "JOSE", "JOSE+JSON",
    "JWE", "JWS", "dpop+jwt", "logout+jwt", "secevent+jwt", "refresh+jwt", "id_token", "Logout",
    "Refresh", "", None, ["JWT"], {"JWT": 1}, True,
)  # fmt: skip


def types(target: Target) -> Iterator[str]:
    for spelled in TYPES:
        # Of key pairs the service issues it, too (tests/api/test_oauth.py).
        if spelled != "at+jwt" or target.algorithm == "HS256":
            yield changed(target, typ=spelled)
    yield without(target, "typ")
    yield changed(target, cty="JWT")


def objects(target: Target) -> Iterator[str]:
    """Objects where text is expected, with the members that JavaScript calls by itself."""
    poisons: tuple[Any, ...] = (
        {"toString": "x"}, {"__proto__": {"alg": "none"}}, {"length": 0}, [[]], 1e308,
    )  # fmt: skip
    for poison in poisons:
        for name in ("alg", "kid", "typ"):
            yield changed(target, **{name: poison})
    for name in ("__proto__", "constructor", "prototype", "toString"):
        yield changed(target, **{name: {"alg": "none"}})


def kids(target: Target) -> Iterator[Any]:
    own = target.header.get("kid", "a" * 43)
    yield from (
        "../../../../../../dev/null", "/dev/null", "/proc/sys/kernel/randomize_va_space",
        "/etc/passwd", "..\\..\\windows\\win.ini", "file:///dev/null",
        str(target.settings.jwt_keys_dir),
        f"0-{own}.pem", "' OR '1'='1", "x' UNION SELECT 'key' --", "1; DROP TABLE users", "%' --",
        "\0", f"{own}\0", f"{own}\n", f" {own}", f"{own}=", f"{own}.pem", own[:-1], own + own,
        own.swapcase(), "|id", "`id`", "$(id)", "${jndi:ldap://127.0.0.1/a}", "{{7*7}}", "%00",
        "%s%n", "*", ".", "..", "", "a" * 1800, "😀" * 100, "\ud800", 0, 1, -1, 2**70, 1.5, True,
        None, [], [own], {}, {"kid": own},
    )  # fmt: skip


# What is the secret for who reads /dev/null, or has a query answer.
GUESSES = (b"", b"key")


def kid_values(target: Target) -> Iterator[str]:
    for kid in kids(target):
        yield changed(target, kid=kid)
        for secret in GUESSES:
            yield target.forge({"alg": "HS256", "kid": kid, "typ": "JWT"}, secret)


def no_kid(target: Target) -> Iterator[str]:
    yield without(target, "kid")
    yield target.sign({"alg": target.algorithm})


def unknown_kids(target: Target) -> Iterator[str]:
    """More than any cache of keys would want to ask for."""
    for number in range(50):
        yield changed(target, kid=f"{number:043}")


HEADERS = [
    Attack("CVE-2022-23540", "node-jsonwebtoken: `none` by default where no key is given", nones,
           against=["HS256", "EdDSA"]),
    Attack("CVE-2025-61152", "python-jose: `none` is decoded all the same", bare_nones),
    Attack("CVE-2021-44878", "pac4j: `none`, and the signature is cut off", unsigned, MALFORMED),
    Attack("CVE-2015-2951", "F21 JWT: a crafted token passes, whatever its signature", cut_off,
           MALFORMED),
    Attack("alg-spelled-otherwise", "RFC 8725 3.1: `alg` in another case, or as a list",
           case_variants, against=ALGORITHMS),
    Attack("CVE-2026-32597", "PyJWT: an unknown `crit` is passed over", critical),
    Attack("CVE-2025-59420", "Authlib: an unknown `crit` is passed over", critical),
    Attack("RFC-7797", "`b64` false: what is signed is not what is read", unencoded),
    Attack("RFC-7797-payload", "`b64` false, with the payload as it is, or elsewhere",
           unencoded_payload, MALFORMED),
    Attack("CVE-2026-48525", "PyJWT: an unused payload under `b64` is decoded first",
           large_unused_payload, MALFORMED),
    Attack("zip", "a compressed payload, which no JWS has", compressed, MALFORMED),
    Attack("zip-said", "a payload that is said to be compressed", said_to_be_compressed),
    Attack("CVE-2023-0657", "Keycloak: a token of another type, a logout token, is an access token",
           types),
    Attack("CVE-2022-23529", "node-jsonwebtoken: an object where text belongs is called", objects),
    Attack("kid-injection", "RFC 8725 3.10: `kid` as a path, a query, a command, or no text",
           kid_values),
    Attack("kid-missing", "no `kid`, so any key will do", no_kid),
    Attack("CVE-2026-48524", "PyJWT: an unknown `kid` has the keys fetched, or forgotten",
           unknown_kids),
]  # fmt: skip


@cases(HEADERS)
def test_a_header_that_is_not_exactly_ours_is_refused(target: Target, attack: Attack) -> None:
    attack.run(target)


def offer(canary: Canary, algorithm: str) -> tuple[Any, dict[str, Any], str]:
    """An attacker's key, published at the canary: the key, its JWK, its certificate."""
    if algorithm == "HS256":
        own = forging.key_for(algorithm)
        jwk = {"kty": "oct", "k": base64url(own), "kid": "own", "alg": "HS256"}
        chain = base64.b64encode(forging.certificate(forging.key_for("ES256"))
                                 .public_bytes(Encoding.DER)).decode()  # fmt: skip
    else:
        own = forging.key_for(algorithm)
        jwk = forging.public_jwk(own, algorithm) | {"kid": "own", "alg": algorithm, "use": "sig"}
        chain = base64.b64encode(forging.certificate(own).public_bytes(Encoding.DER)).decode()
    canary.keys[:] = [jwk]
    return own, jwk, chain


def urls(target: Target, canary: Canary) -> Iterator[str]:
    """Where an attacker's keys are to be had: over HTTP, in a file, in the URL itself."""
    written = target.settings.jwt_keys_dir.with_name("attacker.json")
    written.write_text(json.dumps({"keys": canary.keys}))
    host = canary.url.removeprefix("http://")
    yield from (
        f"{canary.url}/jwks.json", f"http://auth.example.com@{host}/jwks.json", f"HTTP://{host}/",
        f"//{host}/", f"https://{host}/", f"ftp://{host}/", f"file://{written}", str(written),
        f"gopher://{host}/_x", f"ldap://{host}/x",
        f"data:application/json,{quote(json.dumps({'keys': canary.keys}))}"[:1500],
    )  # fmt: skip


def embedded(target: Target, canary: Canary) -> Iterator[str]:
    """Tokens under an attacker's key, with each way of telling the verifier of it."""
    own, jwk, chain = offer(canary, target.algorithm)
    told: list[dict[str, Any]] = [
        {"jwk": jwk}, {"jwk": json.dumps(jwk)}, {"jwk": [jwk]}, {"jwks": {"keys": [jwk]}},
        {"x5c": [chain]}, {"x5c": chain}, {"x5t": "own"}, {"x5t#S256": "own"},
    ]  # fmt: skip
    for url in urls(target, canary):
        told += [{"jku": url}, {"x5u": url}, {"jku": url, "kid": "own"}, {"kid": url}]
    for members in told:
        for signing in (own, target.key):
            header = target.header | members
            message = f"{base64url(as_json(header))}.{base64url(as_json(claims()))}"
            made = signature(target.algorithm, signing, message.encode())
            yield f"{message}.{base64url(made)}"


def test_cve_2018_0114_an_embedded_key_is_no_key_and_nothing_is_fetched(
    target: Target, canary: Canary
) -> None:
    """node-jose: a token that brings its key along is verified with it. CVE-2026-48522, PyJWT: a
    `jku` may be file:, ftp: or data:. RFC 8725 sections 2.9 and 3.10.
    """
    for token in embedded(target, canary):
        target.refuses(token, FORGED)

    assert canary.requested == []
    target.still_works()


def test_cve_2026_102275_a_private_key_that_belongs_to_another_public_one(
    target: Target, canary: Canary
) -> None:
    """PyJWT: the `x` of an embedded key is the server's, its `d` the attacker's."""
    own, jwk, _ = offer(canary, target.algorithm)
    mixed = jwk | {"x": target.jwk["x"], "d": base64url(own.private_bytes_raw())}
    message = f"{base64url(as_json(target.header | {'jwk': mixed}))}.{base64url(as_json(claims()))}"

    target.refuses(f"{message}.{base64url(own.sign(message.encode()))}", FORGED)
    target.still_works()


def test_an_issuer_is_not_looked_up(target: Target, canary: Canary) -> None:
    """GHSA-9wqv-qhrh-87f4, GoTrue: the token's own `iss` says whose keys are asked for."""
    own, _, _ = offer(canary, target.algorithm)
    message = f"{base64url(as_json(target.header))}.{base64url(as_json(claims(iss=canary.url)))}"

    target.refuses(
        f"{message}.{base64url(signature(target.algorithm, own, message.encode()))}", FORGED
    )
    target.refuses(target.sign(iss=canary.url), FORGED)

    assert canary.requested == []
    target.still_works()
