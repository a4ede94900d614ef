"""Refresh tokens: opaque to clients, `r1.<session>.<generation>.<MAC>`.

The MAC's key comes from SECRET_KEY, and what it covers holds a nonce that only the session's row
knows. So neither the database nor the secret alone can make a token, and the database holds none.
One session, generation and nonce make one token: the same successor for all who ask for it.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

from jwt_server.errors import RefreshTokenInvalid
from jwt_server.security.primitives import base64url_encode, derive_key

VERSION: Final = "r1"
PURPOSE: Final = f"jwt-server refresh token {VERSION}"

NONCE_BYTES: Final = 16
SESSION_ID_BYTES: Final = 16

SESSION_ID: Final = "[A-Za-z0-9_-]{22}"
"""How the id of a session looks."""

FORM: Final = re.compile(
    rf"{VERSION}\.({SESSION_ID})\.([1-9][0-9]{{0,8}})\.([A-Za-z0-9_-]{{43}})", re.ASCII
)


@dataclass(frozen=True)
class ParsedRefreshToken:
    """What a refresh token says of itself; nothing of it is verified."""

    session_id: str
    generation: int
    mac: str


@dataclass(frozen=True)
class RefreshTokens:
    """What it takes to make and to verify refresh tokens."""

    keys: tuple[bytes, ...] = field(repr=False)
    """The first makes tokens, all verify."""

    @classmethod
    def from_secrets(cls, secret_keys: tuple[bytes, ...]) -> RefreshTokens:
        """Keys of their own for this purpose (HKDF, RFC 5869), from the service's SECRET_KEYs."""
        return cls(tuple(derive_key(secret, PURPOSE) for secret in secret_keys))

    def issue(self, session_id: str, generation: int, nonce: bytes) -> str:
        """The token of this generation of the session."""
        mac = _mac(self.keys[0], session_id, generation, nonce)
        return f"{VERSION}.{session_id}.{generation}.{mac}"

    def verify(self, shown: ParsedRefreshToken, nonce: bytes) -> bool:
        """Whether the token is one that this service has made."""
        return any(
            hmac.compare_digest(shown.mac, _mac(key, shown.session_id, shown.generation, nonce))
            for key in self.keys
        )


def parse(token: str) -> ParsedRefreshToken:
    """What the token says of itself. Raises RefreshTokenInvalid where it has another form."""
    found = FORM.fullmatch(token)
    if found is None:
        raise RefreshTokenInvalid
    return ParsedRefreshToken(found[1], int(found[2]), found[3])


def new_session_id() -> str:
    """A fresh random id, 128 bits."""
    return secrets.token_urlsafe(SESSION_ID_BYTES)


def new_nonce() -> bytes:
    """A fresh random nonce, 128 bits."""
    return secrets.token_bytes(NONCE_BYTES)


def _mac(key: bytes, session_id: str, generation: int, nonce: bytes) -> str:
    covered = f"{VERSION}.{session_id}.{generation}.".encode() + nonce
    digest = hmac.digest(key, covered, "sha256")
    return base64url_encode(digest)
