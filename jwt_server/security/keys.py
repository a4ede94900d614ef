"""The keys of access tokens: shared secrets under HS256, key pairs under the other algorithms."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from jwt_server.security.primitives import base64url_encode

RSA_BITS: Final = 3072
RSA_EXPONENT: Final = 65537

Jwk = dict[str, str]


class UnusableKey(Exception):
    """A key can't be used; the text gives the reason and nothing of the key."""


@dataclass(frozen=True)
class Key:
    """What signs and what verifies a token, and the exact JWT header that goes with it."""

    header: Mapping[str, str]
    signing: Any = field(repr=False)
    verifying: tuple[Any, ...] = field(repr=False)


@dataclass(frozen=True)
class SharedSecrets:
    """The keys of HS256: the first secret signs, all verify, none is published."""

    secrets: tuple[bytes, ...] = field(repr=False)
    algorithm = "HS256"

    @cached_property
    def _key(self) -> Key:
        return Key({"alg": self.algorithm, "typ": "JWT"}, self.secrets[0], self.secrets)

    def signing_key(self, _now: float) -> Key:
        """Return the only key."""
        return self._key

    def verifying_key(self, header: Mapping[str, Any]) -> Key | None:
        """Return the only key, if the header is its own."""
        return self._key if header == self._key.header else None

    def contains(self, _key: Key) -> bool:
        """Return true: secrets change with a restart."""
        return True

    def jwks(self) -> list[Jwk]:
        """Return no keys: a secret is not published."""
        return []


@dataclass(frozen=True)
class KeyPair:
    """A private key, the public half as a JWK (RFC 7517), and the key that tokens use."""

    kid: str
    private: Any = field(repr=False)
    jwk: Jwk
    key: Key


@dataclass(frozen=True)
class _KeyType:
    generate: Callable[[], Any]
    is_valid: Callable[[Any], bool]
    requirement: str
    to_jwk: Callable[..., dict[str, Any]]
    members: tuple[str, ...]
    """What the thumbprint covers (RFC 7638 section 3.2, RFC 8037 section 2)."""


KEY_TYPES: Final[Mapping[str, _KeyType]] = {
    "EdDSA": _KeyType(
        ed25519.Ed25519PrivateKey.generate,
        lambda key: isinstance(key, ed25519.Ed25519PrivateKey),
        "an Ed25519 key",
        OKPAlgorithm.to_jwk,
        ("crv", "kty", "x"),
    ),
    "ES256": _KeyType(
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda key: (
            isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
        ),
        "a key on the curve P-256",
        ECAlgorithm.to_jwk,
        ("crv", "kty", "x", "y"),
    ),
    "RS256": _KeyType(
        lambda: rsa.generate_private_key(RSA_EXPONENT, RSA_BITS),
        lambda key: isinstance(key, rsa.RSAPrivateKey) and key.key_size >= RSA_BITS,
        f"an RSA key of at least {RSA_BITS} bits",
        RSAAlgorithm.to_jwk,
        ("e", "kty", "n"),
    ),
}
ALGORITHMS: Final = (SharedSecrets.algorithm, *KEY_TYPES)


def generate(algorithm: str) -> KeyPair:
    """Generate a key pair whose kid does not look like an option of a command."""
    while (pair := _pair(algorithm, KEY_TYPES[algorithm].generate())).kid.startswith("-"):
        pass
    return pair


def load(algorithm: str, pem: bytes) -> KeyPair:
    """Load an unencrypted PEM. Raises UnusableKey if it is not a key for the algorithm."""
    try:
        private = load_pem_private_key(pem, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise UnusableKey("It is not an unencrypted private key in PEM.") from error
    if not KEY_TYPES[algorithm].is_valid(private):
        raise UnusableKey(f"{algorithm} needs {KEY_TYPES[algorithm].requirement}.")
    return _pair(algorithm, private)


def dump(pair: KeyPair) -> bytes:
    """Return the PEM (PKCS #8) that `load` reads."""
    pem: bytes = pair.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def _pair(algorithm: str, private: Any) -> KeyPair:
    key_type, public = KEY_TYPES[algorithm], private.public_key()
    full = key_type.to_jwk(public, as_dict=True)
    jwk = {name: full[name] for name in key_type.members}
    kid = thumbprint(jwk)
    header = {"alg": algorithm, "kid": kid, "typ": "JWT"}
    return KeyPair(
        kid,
        private,
        jwk | {"kid": kid, "alg": algorithm, "use": "sig"},
        Key(header, private, (public,)),
    )


def thumbprint(members: Jwk) -> str:
    """Return the thumbprint of a public key's required members (RFC 7638)."""
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    return base64url_encode(hashlib.sha256(canonical).digest())
