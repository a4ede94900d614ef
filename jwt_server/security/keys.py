"""The keys that sign access tokens, each for one algorithm: secrets under HS256, key pairs else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Protocol

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
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class UnusableKey(Exception):
    """The text says what is wrong with a key; nothing of the key."""


@dataclass(frozen=True)
class Key:
    """What a token is signed and verified with, and the header that goes with it, exactly."""

    header: Mapping[str, str]
    signing: Any = field(repr=False)
    verifying: tuple[Any, ...] = field(repr=False)


class KeyRing(Protocol):
    """Where access tokens get their keys from; what it answers may change at any time."""

    algorithm: str

    def signing_key(self, now: float) -> Key:
        """The key that signs at this Unix time. Raises KeysUnavailable."""

    def verifying_key(self, header: Mapping[str, Any]) -> Key | None:
        """The key whose header this is, exactly; or None. Raises KeysUnavailable."""

    def holds(self, key: Key) -> bool:
        """Whether a key that was here is so still. Raises KeysUnavailable."""

    def jwks(self) -> list[Jwk]:
        """The public keys, for others to verify with (RFC 7517). Raises KeysUnavailable."""


@dataclass(frozen=True)
class Secrets:
    """The ring under HS256: the first secret signs, all verify, none is published."""

    secrets: tuple[bytes, ...] = field(repr=False)
    algorithm = "HS256"

    def signing_key(self, now: float) -> Key:
        """The one key, with all of its secrets; they are swapped by a restart."""
        return Key({"alg": self.algorithm, "typ": "JWT"}, self.secrets[0], self.secrets)

    def verifying_key(self, header: Mapping[str, Any]) -> Key | None:
        """The one key, where the header is its own."""
        key = self.signing_key(0)
        return key if header == key.header else None

    def holds(self, key: Key) -> bool:
        """Always: the secrets are those of the process."""
        return True

    def jwks(self) -> list[Jwk]:
        """Nothing: a secret is not to be shared."""
        return []


@dataclass(frozen=True)
class KeyPair:
    """A private key, and what is said of it to others."""

    algorithm: str
    private: PrivateKey = field(repr=False)
    jwk: Jwk
    """The public half, with its `kid`, `alg` and `use`."""

    @property
    def kid(self) -> str:
        """The key id: the thumbprint."""
        return self.jwk["kid"]

    @cached_property
    def key(self) -> Key:
        """What tokens are signed and verified with."""
        header = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT"}
        return Key(header, self.private, (self.private.public_key(),))


def generate(algorithm: str) -> KeyPair:
    """A fresh key pair for one of PAIRS, whose kid is no option to a command: no dash in front."""
    while (pair := _pair(algorithm, PAIRS[algorithm].make())).kid.startswith("-"):
        pass
    return pair


def load(algorithm: str, pem: bytes) -> KeyPair:
    """The key pair in an unencrypted PEM. Raises UnusableKey where it is none for the algorithm."""
    try:
        private = load_pem_private_key(pem, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise UnusableKey("It is no PEM of an unencrypted private key.") from error
    wrong = PAIRS[algorithm].complaint(private)
    if wrong is not None:
        raise UnusableKey(wrong)
    return _pair(algorithm, private)


def dump(pair: KeyPair) -> bytes:
    """The PEM (PKCS #8) that `load` reads."""
    return pair.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _pair(algorithm: str, private: Any) -> KeyPair:
    kind = PAIRS[algorithm]
    full = kind.to_jwk(private.public_key())
    public = {name: full[name] for name in kind.members}
    return KeyPair(
        algorithm, private, public | {"kid": thumbprint(public), "alg": algorithm, "use": "sig"}
    )


def thumbprint(required: Jwk) -> str:
    """The thumbprint of a public key's required members (RFC 7638)."""
    canonical = json.dumps(required, sort_keys=True, separators=(",", ":")).encode()
    return base64url_encode(hashlib.sha256(canonical).digest())


def _no_ed25519(key: object) -> str | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else "EdDSA wants an Ed25519 key."


def _no_p256(key: object) -> str | None:
    fits = isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
    return None if fits else "ES256 wants a key on the curve P-256."


def _no_strong_rsa(key: object) -> str | None:
    if not isinstance(key, rsa.RSAPrivateKey):
        return "RS256 wants an RSA key."
    if key.key_size < RSA_BITS:
        return f"An RSA key of {key.key_size} bits is too weak, {RSA_BITS} are needed."
    return None


@dataclass(frozen=True)
class _Kind:
    """What is particular to the key pairs of one algorithm."""

    make: Callable[[], PrivateKey]
    complaint: Callable[[object], str | None]
    to_jwk: Callable[[Any], dict[str, Any]]
    members: tuple[str, ...]
    """What its thumbprint is made of (RFC 7638 section 3.2, RFC 8037 section 2)."""


PAIRS: Final[Mapping[str, _Kind]] = {
    "EdDSA": _Kind(
        ed25519.Ed25519PrivateKey.generate,
        _no_ed25519,
        lambda key: OKPAlgorithm.to_jwk(key, as_dict=True),
        ("crv", "kty", "x"),
    ),
    "ES256": _Kind(
        lambda: ec.generate_private_key(ec.SECP256R1()),
        _no_p256,
        lambda key: ECAlgorithm.to_jwk(key, as_dict=True),
        ("crv", "kty", "x", "y"),
    ),
    "RS256": _Kind(
        lambda: rsa.generate_private_key(RSA_EXPONENT, RSA_BITS),
        _no_strong_rsa,
        lambda key: RSAAlgorithm.to_jwk(key, as_dict=True),
        ("e", "kty", "n"),
    ),
}
ALGORITHMS: Final = (Secrets.algorithm, *PAIRS)
