"""Signatures, good and bad, made without PyJWT, which would refuse to make half of them; and the
spellings of a public key that verifiers have been made to take for a secret.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from tests.helpers.factories import base64url

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493

Json = Mapping[str, Any] | bytes


def as_json(value: Json) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def compact(header: Json, payload: Json, signature: bytes) -> str:
    """The three parts as they are; a signature that is none leaves the last one empty."""
    return ".".join(map(base64url, (as_json(header), as_json(payload), signature)))


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def signature(
    algorithm: str, key: Any, message: bytes, hashed: HashAlgorithm | None = None
) -> bytes:
    """A good signature; with another hash, one that a lax verifier takes for good."""
    hashed = hashed or SHA256()
    signed: bytes
    if algorithm == "HS256":
        signed = hmac.digest(key, message, hashed.name)
    elif algorithm == "EdDSA":
        signed = key.sign(message)
    elif algorithm == "RS256":
        signed = key.sign(message, PKCS1v15(), hashed)
    else:
        signed = raw(*decode_dss_signature(key.sign(message, ec.ECDSA(hashed))))
    return signed


def raw(r: int, s: int, size: int = 32) -> bytes:
    """An ECDSA signature as JWS has it (RFC 7518 section 3.4)."""
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


@cache
def key_for(algorithm: str) -> Any:
    """Return the attacker's own key."""
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    return b"an attacker's own secret, which is of 32 bytes and more"


def certificate(key: Any) -> x509.Certificate:
    """Signed by its own key, as nobody else would."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "attacker")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256())
    )


def pem(public: Any, kind: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> bytes:
    written: bytes = public.public_bytes(Encoding.PEM, kind)
    return written


def der(public: Any, kind: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> bytes:
    written: bytes = public.public_bytes(Encoding.DER, kind)
    return written


def openssh(public: Any) -> bytes:
    written: bytes = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return written


def private_pem(key: Any) -> bytes:
    written: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return written


def raw_spellings(public: Any) -> Iterator[bytes]:
    """The bare bytes of a public key, as its kind has them."""
    if isinstance(public, ed25519.Ed25519PublicKey):
        yield public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        yield public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        yield public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    else:
        modulus: int = public.public_numbers().n
        yield modulus.to_bytes(384, "big")
        yield b"\0" + modulus.to_bytes(384, "big")
        yield str(modulus).encode()


def pkcs1_spellings(public: Any) -> Iterator[bytes]:
    """What RSA keys had before there were other kinds; the same again for the others."""
    kind = PublicFormat.SubjectPublicKeyInfo
    if isinstance(public, rsa.RSAPublicKey):
        kind = PublicFormat.PKCS1
    yield pem(public, kind)
    yield pem(public, kind).rstrip(b"\n")
    yield der(public, kind)


def pem_spellings(public: Any) -> Iterator[bytes]:
    """A PEM with and without the line end behind it."""
    yield pem(public)
    yield pem(public).rstrip(b"\n")


def mutated_pem_spellings(public: Any) -> Iterator[bytes]:
    """A PEM whose white space is not as a filter expects it."""
    written = pem(public)
    yield written.replace(b"\n", b"\r\n")
    yield written.replace(b"\n", b"\r")
    yield written.replace(b"\n", b"")
    yield written.replace(b"\n", b" ")
    yield written.replace(b"\n", b"\\n")
    for before in (b" ", b"\n", b"\t", b"\r\n", b"\xef\xbb\xbf", b"# mine\n"):
        yield before + written
    for behind in (b"\n", b"\0", b" "):
        yield written + behind


def public_jwk(key: Any, algorithm: str) -> dict[str, str]:
    """What is public of a key (RFC 7517)."""
    if algorithm == "EdDSA":
        return {"kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_key().public_bytes_raw())}
    numbers = key.public_key().public_numbers()
    if algorithm == "ES256":
        point = {name: base64url(getattr(numbers, name).to_bytes(32, "big")) for name in ("x", "y")}
        return {"kty": "EC", "crv": "P-256", **point}
    return {"kty": "RSA", "e": "AQAB", "n": base64url(numbers.n.to_bytes(256, "big"))}
