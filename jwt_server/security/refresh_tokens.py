"""Refresh tokens: opaque to clients, `r1.<session>.<generation>.<MAC>`.

The key of the MAC is derived from SECRET_KEY, and the MAC covers a nonce that only the session's
row holds: neither the database nor the secret alone can make a token, and the database holds none.
The same session, generation and nonce always make the same token.
"""

import hmac
import re
from enum import StrEnum
from typing import Final

from jwt_server.errors import RefreshTokenInvalid
from jwt_server.security.primitives import base64url_encode, derive_key

VERSION: Final = "r1"

SESSION_ID_PATTERN: Final = "[A-Za-z0-9_-]{22}"
FORM: Final = re.compile(
    rf"{VERSION}\.({SESSION_ID_PATTERN})\.([1-9][0-9]{{0,8}})\.[A-Za-z0-9_-]{{43}}", re.ASCII
)


class Retry(StrEnum):
    """Why a refresh token that was just replaced gets its successor again, or not: ELSEWHERE."""

    SAME_KEY = "same_key"
    NO_KEY = "no_key"
    OTHER_KEY = "other_key"
    ELSEWHERE = "elsewhere"


class RefreshTokens:
    """Issues and verifies refresh tokens: the first secret issues, all verify."""

    def __init__(self, secret_keys: tuple[bytes, ...]) -> None:
        purpose = f"jwt-server refresh token {VERSION}"
        self._keys = [derive_key(secret, purpose) for secret in secret_keys]

    def issue(self, session_id: str, generation: int, nonce: bytes) -> str:
        """Return the token of this generation of the session."""
        return _sign(self._keys[0], session_id, generation, nonce)

    def verify(self, token: str, session_id: str, generation: int, nonce: bytes) -> bool:
        """Return whether this is the token of this generation of the session."""
        return any(
            hmac.compare_digest(token, _sign(key, session_id, generation, nonce))
            for key in self._keys
        )

    def hash(self, session_id: str, text: str) -> bytes:
        """Return a keyed hash of what a client sent with a refresh of the session."""
        return _hash(self._keys[0], session_id, text)

    def matches(self, stored: bytes, session_id: str, text: str) -> bool:
        """Return whether a stored hash is of this text."""
        return any(hmac.compare_digest(stored, _hash(key, session_id, text)) for key in self._keys)


def parse(token: str) -> tuple[str, int]:
    """Return the session id and the generation that a token names, not verified.

    Raises RefreshTokenInvalid if it has another form.
    """
    match = FORM.fullmatch(token)
    if match is None:
        raise RefreshTokenInvalid
    return match[1], int(match[2])


def _sign(key: bytes, session_id: str, generation: int, nonce: bytes) -> str:
    prefix = f"{VERSION}.{session_id}.{generation}."
    return prefix + base64url_encode(hmac.digest(key, prefix.encode() + nonce, "sha256"))


def _hash(key: bytes, session_id: str, text: str) -> bytes:
    # No token's MAC covers a text that starts so.
    return hmac.digest(key, f"retry.{session_id}.{text}".encode(), "sha256")
