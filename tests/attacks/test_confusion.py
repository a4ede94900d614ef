"""Keys taken for what they are not: a public key for a secret, a weak one for a good one, an
attacker's own for the server's. RFC 8725 sections 2.1, 3.1 and 3.5.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from tests.attacks import forging
from tests.attacks.forging import as_json, compact, der, openssh, signature
from tests.attacks.target import ALGORITHMS, FORGED, PAIRS, Attack, Target, cases, each_algorithm
from tests.helpers.factories import JWT_SECRET, base64url, claims

BOM = b"\xef\xbb\xbf"

Spellings = Callable[[Target], Iterable[bytes]]


def public(target: Target) -> Any:
    return target.key.public_key()


def confused(spellings: Spellings, target: Target) -> Iterator[str]:
    """HMACs under a public key, with each header that a lax verifier may go by."""
    kid = target.header["kid"]
    for secret in spellings(target):
        yield target.forge({"alg": "HS256", "typ": "JWT"}, secret)
        yield target.forge({"alg": "HS256", "kid": kid, "typ": "JWT"}, secret)
        yield target.forge(target.header, secret)


def of_public(spell: Callable[[Any], Iterable[bytes]]) -> Callable[[Target], Iterator[str]]:
    return partial(confused, lambda target: spell(public(target)))


def jwk_spellings(target: Target) -> Iterator[bytes]:
    members = {
        name: value for name, value in target.jwk.items() if name not in {"kid", "alg", "use"}
    }
    for jwk in (target.jwk, members):
        for sort_keys in (False, True):
            yield json.dumps(jwk, sort_keys=sort_keys).encode()
            yield json.dumps(jwk, sort_keys=sort_keys, separators=(",", ":")).encode()


def set_spellings(target: Target) -> Iterator[bytes]:
    yield target.send("GET", "/.well-known/jwks.json").body
    yield json.dumps([target.jwk]).encode()
    yield json.dumps({"keys": [target.jwk]}).encode()
    yield json.dumps({"jwk": target.jwk}).encode()


def member_spellings(target: Target) -> Iterator[bytes]:
    """Each value that the published key consists of, as text."""
    yield from (value.encode() for value in target.jwk.values())


def bom_spellings(target: Target) -> Iterator[bytes]:
    for written in jwk_spellings(target):
        yield BOM + written
        yield written.decode().encode("utf-16")


def openssh_spellings(key: Any) -> Iterator[bytes]:
    yield openssh(key)
    yield openssh(key) + b"\n"
    yield openssh(key) + b" user@host"
    yield openssh(key).split(b" ")[1]


def certificate_spellings(target: Target) -> Iterator[bytes]:
    made = forging.certificate(target.key)
    yield made.public_bytes(Encoding.PEM)
    yield made.public_bytes(Encoding.DER)


CONFUSIONS = [
    Attack("CVE-2015-9235", "node-jsonwebtoken: the public key is the secret once `alg` is HS256",
           of_public(forging.pem_spellings), against=["RS256"]),
    Attack("CVE-2016-10555", "jwt-simple: `decode` goes by the token's `alg`, not by the server's",
           of_public(forging.pem_spellings), against=["RS256"]),
    Attack("CVE-2017-11424", "PyJWT: the filter of public keys knows no PEM of PKCS #1",
           of_public(forging.pkcs1_spellings), against=["RS256"]),
    Attack("CVE-2022-23541", "node-jsonwebtoken: one look-up by `kid` for keys of both kinds",
           of_public(forging.pem_spellings), against=["ES256"]),
    Attack("CVE-2022-29217", "PyJWT: the filter of public keys knows no ssh-ed25519",
           of_public(openssh_spellings), against=["EdDSA"]),
    Attack("CVE-2024-33663", "python-jose: nor one of OpenSSH's ECDSA keys, nor DER",
           partial(confused, lambda target: [*openssh_spellings(public(target)),
                                             der(public(target))]), against=["ES256"]),
    Attack("CVE-2026-11800", "Keycloak: `alg` is the client's choice in the JWT grant",
           partial(confused, certificate_spellings), against=["RS256"]),
    Attack("CVE-2026-22817", "Hono: without an `alg` in the key, the token's is taken",
           partial(confused, member_spellings), against=["EdDSA"]),
    Attack("CVE-2026-34950", "fast-jwt: a blank before the PEM, and it is no public key",
           of_public(forging.mutated_pem_spellings), against=["RS256"]),
    Attack("CVE-2026-48526", "PyJWT: a JWK as JSON is a secret",
           partial(confused, jwk_spellings), against=["ES256"]),
    Attack("CVE-2026-102268", "PyJWT: a PEM with other line ends is a secret",
           of_public(forging.mutated_pem_spellings), against=["EdDSA"]),
    Attack("CVE-2026-102271", "PyJWT: a public key in DER is a secret",
           partial(confused, lambda target: [der(public(target))]), against=["EdDSA"]),
    Attack("CVE-2026-102272", "PyJWT: a JWK behind a byte order mark is a secret",
           partial(confused, bom_spellings), against=["ES256"]),
    Attack("CVE-2026-102273", "PyJWT: a set of JWKs is a secret",
           partial(confused, set_spellings), against=["EdDSA"]),
    Attack("raw-public-key", "the bare bytes of the public key, or its thumbprint, as the secret",
           partial(confused, lambda target: [*forging.raw_spellings(public(target)),
                                             target.header["kid"].encode()]), against=PAIRS),
]  # fmt: skip


@cases(CONFUSIONS)
def test_a_public_key_is_no_secret(target: Target, attack: Attack) -> None:
    attack.run(target)


def empty_keys(target: Target) -> Iterator[str]:
    for header in ({"alg": "HS256", "typ": "JWT"}, target.header):
        for secret in (b"", b"\0", b"\0" * 32, b"\0" * 64):
            yield target.forge(header, secret)


WEAK = (b"secret", b"a", b"changeme", b"your-256-bit-secret", b"JWT_SECRET", b"jwt-server", b"null",
        b"undefined", b"super-secret-jwt-token-with-at-least-32-characters-long")  # fmt: skip


def weak_keys(target: Target) -> Iterator[str]:
    """The last one is what Supabase's own examples set."""
    for secret in (*WEAK, JWT_SECRET[:-1], JWT_SECRET + b"\n", JWT_SECRET.swapcase()):
        yield target.forge({"alg": "HS256", "typ": "JWT"}, secret)


def own_keys(target: Target) -> Iterator[str]:
    """An attacker's key of the right kind, and of each other kind, under each header."""
    for algorithm in ALGORITHMS:
        own = forging.key_for(algorithm)
        for header in (
            target.header,
            target.header | {"alg": algorithm},
            {"alg": algorithm, "typ": "JWT"},
        ):
            message = f"{base64url(as_json(header))}.{base64url(as_json(claims()))}"
            yield f"{message}.{base64url(signature(algorithm, own, message.encode()))}"


def other_types(target: Target) -> Iterator[str]:
    """Signatures by keys that do not belong to the algorithm at all."""
    message = f"{base64url(as_json(target.header))}.{base64url(as_json(claims()))}".encode()
    old: bytes = dsa.generate_private_key(1024).sign(message, SHA256())  # noqa: S505 - an attacker's
    yield target.with_signature(old)
    for curve in (ec.SECP256K1(), ec.SECP384R1()):
        made: bytes = ec.generate_private_key(curve).sign(message, ec.ECDSA(SHA256()))
        yield target.with_signature(made)
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - as above
    yield target.with_signature(weak.sign(message, padding.PKCS1v15(), SHA256()))


def other_hashes(target: Target) -> Iterator[str]:
    """The server's own key, used as another algorithm than its own."""
    message = f"{base64url(as_json(target.header))}.{base64url(as_json(claims()))}".encode()
    longer: tuple[HashAlgorithm, ...] = (SHA384(), SHA512())
    if target.algorithm == "EdDSA":
        # Ed25519 has one hash; an HMAC under its seed is what is left.
        seed: bytes = target.key.private_bytes_raw()
        yield target.with_signature(hmac.digest(seed, message, "sha512"))
        return
    for hashed in longer:
        made = signature(target.algorithm, target.key, message, hashed)
        yield target.with_signature(made)
        yield target.with_signature(made[:32])
    if target.algorithm == "RS256":
        pss = padding.PSS(padding.MGF1(SHA256()), 32)
        yield target.with_signature(target.key.sign(message, pss, SHA256()))


def other_names(target: Target) -> Iterator[str]:
    """The server's own key and hash under another name, which only fits if nobody compares it."""
    for name in ("Ed25519", "EdDSA", "ES256", "ES256K", "ESP256", "HS256", "HS384", "HS512",
                 "PS256",
                 "RS256", "RS384", "RS512", "RSA-SHA256", "HMAC", "dir"):  # fmt: skip
        if name != target.algorithm:
            yield target.sign(target.header | {"alg": name})


KEYS = [
    Attack("CVE-2019-20933", "InfluxDB: with no secret set, everybody knows it", empty_keys,
           against=["HS256"]),
    Attack("CVE-2026-45363", "ruby-jwt: an HMAC under the empty key is an HMAC", empty_keys,
           against=["HS256"]),
    Attack("CVE-2026-102266", "PyJWT: a JWK may be an empty secret", empty_keys,
           against=["HS256"]),
    Attack("CVE-2025-45768", "PyJWT: a secret may be short enough to guess", weak_keys,
           against=["HS256"]),
    Attack("CVE-2022-23539", "node-jsonwebtoken: a DSA key signs as RS256", other_types,
           against=["RS256"]),
    Attack("CVE-2026-48523", "PyJWT: the allow-list sees `alg`, the key signs otherwise",
           other_hashes, against=ALGORITHMS),
    Attack("CVE-2026-23993", "HarbourJwt: an unknown `alg` is verified by nobody", other_names,
           against=ALGORITHMS),
    Attack("own-key", "an attacker's own key, of each kind", own_keys, against=ALGORITHMS),
]  # fmt: skip


@cases(KEYS)
def test_no_other_key_signs_and_no_key_signs_otherwise(target: Target, attack: Attack) -> None:
    attack.run(target)


def test_a_refusal_tells_nothing_of_the_key(target: Target) -> None:
    """Nor which of the checks it was, beyond the few words."""
    wanting_json = {"Accept": "application/problem+json"}
    other_kid = target.sign(target.header | {"kid": "other"})
    other_key = target.forge(target.header, b"another secret, of 32 bytes and more")

    answers = [target.show(token, **wanting_json) for token in (other_kid, other_key)]

    for answer in answers:
        told = json.loads(answer.body)
        assert (told["code"], told["detail"]) == ("token_forged", FORGED)
        assert set(told) == {"type", "title", "status", "detail", "code"}
        whole = f"{answer.text} {answer.headers}"
        for detail in (target.algorithm, target.header.get("kid", "kid"), "other", "keys", "alg"):
            assert detail not in whole
    assert answers[0].body == answers[1].body


@each_algorithm
def test_what_the_attacks_are_made_with_makes_good_tokens_too(target: Target) -> None:
    """The control of all the others: unchanged, what they forge is taken."""
    assert target.show(target.sign()).status == 200
    reordered = dict(reversed(target.header.items()))
    assert target.show(target.sign(reordered)).status == 200
    spaced = json.dumps(target.header, indent=1).encode()
    assert target.show(target.sign(spaced)).status == 200
    payload = claims()
    message = f"{base64url(as_json(target.header))}.{base64url(as_json(payload))}".encode()
    made = signature(target.algorithm, target.key, message)
    assert target.show(compact(target.header, payload, made)).status == 200
