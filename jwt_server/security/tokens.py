"""Access tokens: compact JWTs (RFC 7519), made here and verified strictly (RFC 8725).

Whoever verifies decides: the header must be exactly the one that this service writes, so
`none`, `crit`, `jku`, `x5u`, embedded keys and other algorithms have no way in, and every
claim must be there and of its type.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt

from jwt_server.errors import TokenExpired, TokenForged, TokenMalformed
from jwt_server.security.keys import ALGORITHMS, Key, KeyRing
from jwt_server.security.primitives import base64url_decode, load_json, parse_id
from jwt_server.security.refresh_tokens import SESSION_ID

MAX_CHARACTERS: Final = 4096
"""Ours have some 450, under RS256 900; what is longer is not worth decoding."""

MOST_REMEMBERED: Final = 4096
"""So many verified tokens are remembered, which takes some 4 MB."""

_jws = jwt.PyJWS(algorithms=ALGORITHMS)

FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)

_SID: Final = re.compile(SESSION_ID, re.ASCII)

# The claims and their types; a bool is no int here.
CLAIMS: Final[Mapping[str, type]] = {
    "iss": str,
    "aud": str,
    "sub": str,
    "iat": int,
    "exp": int,
    "jti": str,
    "sid": str,
    "admin": bool,
}


@dataclass(frozen=True)
class TokenSubject:
    """Whom a verified token was issued to, and in which session."""

    user_id: int
    session_id: str


@dataclass(frozen=True)
class _Verified:
    """A token that was found good: whose, by which key, and until when."""

    bearer: TokenSubject
    key: Key
    expires_at: int


@dataclass(frozen=True)
class AccessTokens:
    """What it takes to make and to verify the service's access tokens.

    A token that was found good is remembered by its whole text, so that a client that asks often
    is not decoded each time; its key and its `exp` are looked at each time all the same.
    """

    keys: KeyRing
    issuer: str
    audience: str
    _remembered: dict[str, _Verified] = field(default_factory=dict, repr=False, compare=False)

    def issue(self, bearer: TokenSubject, *, admin: bool, now: int, ttl: int) -> str:
        """A signed token for the user, good from `now` (Unix time) for `ttl` seconds.

        Raises KeysUnavailable.
        """
        key = self.keys.signing_key(now)
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": str(bearer.user_id),
            "iat": now,
            "exp": now + ttl,
            "jti": secrets.token_urlsafe(16),
            "sid": bearer.session_id,
            "admin": admin,
        }
        payload = json.dumps(claims, separators=(",", ":")).encode()
        return _jws.encode(payload, key.signing, self.keys.algorithm, dict(key.header))

    def verify(self, token: str, now: float) -> TokenSubject:
        """Whom the token was issued to.

        Raises TokenMalformed, TokenForged or TokenExpired, or KeysUnavailable; a token is expired
        from the second of its `exp` on, without leeway.
        """
        verified = self._remembered.get(token)
        if verified is None or not self.keys.holds(verified.key):
            verified = self._verified(token)
            self._remember(token, verified)
        if verified.expires_at <= now:
            self._remembered.pop(token, None)
            raise TokenExpired
        return verified.bearer

    def _remember(self, token: str, verified: _Verified) -> None:
        if len(self._remembered) >= MOST_REMEMBERED:
            self._remembered.clear()  # one step, whatever other threads do; they verify again
        self._remembered[token] = verified

    def _verified(self, token: str) -> _Verified:
        header, payload, signature = _decoded(token)
        key = self._signed_by(token, header, signature)
        if key is None:
            raise TokenForged
        claims = _checked(payload)
        if claims["iss"] != self.issuer or claims["aud"] != self.audience:
            raise TokenForged
        if "nbf" in claims:  # not of ours; who writes it wants it heeded (RFC 7519 section 4.1.5)
            raise TokenForged
        return _Verified(TokenSubject(int(claims["sub"]), claims["sid"]), key, claims["exp"])

    def _signed_by(self, token: str, header: Any, signature: bytes) -> Key | None:
        """The key that has made the signature. PyJWT's algorithm is asked straight: its `decode`
        would take the token apart once more, and takes four times as long.
        """
        key = self.keys.verifying_key(header)
        if key is None:
            return None
        signed = token.rpartition(".")[0].encode()
        verify = _jws.get_algorithm_by_name(self.keys.algorithm).verify
        return key if any(verify(signed, each, signature) for each in key.verifying) else None


def _decoded(token: str) -> tuple[Any, Any, bytes]:
    """Header and payload as JSON values, and the signature, from a token of canonical form; nothing
    is verified.
    """
    if len(token) > MAX_CHARACTERS or not FORM.fullmatch(token):
        raise TokenMalformed
    header, payload, signature = token.split(".")
    try:
        return (
            load_json(base64url_decode(header)),
            load_json(base64url_decode(payload)),
            base64url_decode(signature),
        )
    except ValueError as error:
        raise TokenMalformed from error


def _checked(claims: Any) -> Mapping[str, Any]:
    if not isinstance(claims, dict) or any(
        type(claims.get(name)) is not kind for name, kind in CLAIMS.items()
    ):
        raise TokenMalformed
    if parse_id(claims["sub"]) is None or not _SID.fullmatch(claims["sid"]):
        raise TokenMalformed
    return claims
