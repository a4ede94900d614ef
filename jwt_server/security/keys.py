"""The keys of access tokens: shared secrets under HS256, key pairs under the other algorithms."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from jwt_server.security.primitives import base64url_encode

RSA_BITS: Final = 3072

ACCESS_TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 - not a secret
"""The type of a token that says that it is an access token (RFC 9068)."""

# The members of a JWK that its thumbprint covers (RFC 7638 section 3.2, RFC 8037 section 2).
THUMBPRINT_MEMBERS: Final = ("crv", "e", "kty", "n", "x", "y")

Jwk = dict[str, str]


class UnusableKey(Exception):
    """A key can't be used; the text gives the reason and nothing of the key."""


@dataclass(frozen=True)
class Key:
    """What signs and verifies a token, its exact JWT header, and the public JWK (RFC 7517)."""

    header: Mapping[str, str]
    signing: Any = field(repr=False)
    verifying: tuple[Any, ...] = field(repr=False)
    jwk: Jwk = field(default_factory=dict)

    @property
    def kid(self) -> str:
        """Id of a key pair."""
        return self.header["kid"]


class SharedSecrets:
    """The keys of HS256: the first secret signs, all verify, none is published."""

    algorithm = "HS256"

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._key = Key({"alg": self.algorithm, "typ": "JWT"}, secrets[0], secrets)

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
class _KeyType:
    generate: Callable[[], Any]
    is_valid: Callable[[Any], bool]
    requirement: str


KEY_TYPES: Final[Mapping[str, _KeyType]] = {
    "EdDSA": _KeyType(
        ed25519.Ed25519PrivateKey.generate,
        lambda key: isinstance(key, ed25519.Ed25519PrivateKey),
        "an Ed25519 key",
    ),
    "ES256": _KeyType(
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda key: isinstance(getattr(key, "curve", None), ec.SECP256R1),
        "a key on the curve P-256",
    ),
    "RS256": _KeyType(
        lambda: rsa.generate_private_key(65537, RSA_BITS),
        lambda key: isinstance(key, rsa.RSAPrivateKey) and key.key_size >= RSA_BITS,
        f"an RSA key of at least {RSA_BITS} bits",
    ),
}
ALGORITHMS: Final = (SharedSecrets.algorithm, *KEY_TYPES)


def generate(algorithm: str) -> Key:
    """Generate a key pair whose kid does not look like an option of a command."""
    while (key := _key(algorithm, KEY_TYPES[algorithm].generate())).kid.startswith("-"):
        pass
    return key


def load(algorithm: str, pem: bytes) -> Key:
    """Load an unencrypted PEM. Raises UnusableKey if it is not a key for the algorithm."""
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise UnusableKey("It is not an unencrypted private key in PEM.") from error
    if not KEY_TYPES[algorithm].is_valid(private):
        needed = KEY_TYPES[algorithm].requirement
        raise UnusableKey(
            f"{algorithm} needs {needed}. For another algorithm set JWT_KEYS_DIR to another folder."
        )
    return _key(algorithm, private)


def dump(key: Key) -> bytes:
    """Return the PEM (PKCS #8) that `load` reads."""
    pem: bytes = key.signing.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem


def dump_public(key: Key) -> str:
    """Return the public half as PEM (SubjectPublicKeyInfo)."""
    [public] = key.verifying
    pem: bytes = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem.decode()


def _key(algorithm: str, private: Any) -> Key:
    """Return a key pair; its kid is the thumbprint of the public half (RFC 7638)."""
    public = private.public_key()
    jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(public, as_dict=True)
    members = {name: jwk[name] for name in THUMBPRINT_MEMBERS if name in jwk}
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    kid = base64url_encode(hashlib.sha256(canonical).digest())
    header = {"alg": algorithm, "kid": kid, "typ": "JWT"}
    return Key(header, private, (public,), members | {"kid": kid, "alg": algorithm, "use": "sig"})
