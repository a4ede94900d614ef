"""Access tokens: compact JWTs (RFC 7519), verified strictly (RFC 8725).

The header must be exactly the one that this service writes, so `none`, `crit`, `jku`, `x5u`,
embedded keys and other algorithms are refused; every claim must be there and of its type.
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import jwt

from jwt_server.errors import TokenExpired, TokenForged, TokenMalformed
from jwt_server.security.key_files import KeySet
from jwt_server.security.keys import ACCESS_TOKEN_TYPE, ALGORITHMS, Key
from jwt_server.security.primitives import base64url_decode, load_json, parse_id
from jwt_server.security.refresh_tokens import SESSION_ID_PATTERN

MAX_CHARACTERS: Final = 4096
MAX_CACHED: Final = 4096

FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
SESSION_ID: Final = re.compile(SESSION_ID_PATTERN, re.ASCII)

# The types are exact: a bool is not an int.
CLAIMS: Final[dict[str, type]] = {
    "iss": str, "aud": str, "sub": str, "iat": int, "exp": int, "jti": str, "sid": str,
    "admin": bool,
}  # fmt: skip

_jws = jwt.PyJWS(algorithms=ALGORITHMS)


@dataclass(frozen=True)
class TokenSubject:
    """The user and the session that a token was issued for."""

    user_id: int
    session_id: str


@dataclass(frozen=True)
class _Verified:
    """A token that has been verified, by which key."""

    subject: TokenSubject
    key: Key
    expires_at: int


@dataclass(frozen=True)
class AccessTokens:
    """Issues and verifies the access tokens of the service.

    Verified tokens are cached by their whole text; key and `exp` are checked each time.
    """

    keys: KeySet
    issuer: str
    audience: str
    typ: str = "JWT"
    _cache: dict[str, _Verified] = field(default_factory=dict, repr=False, compare=False)

    def issue(
        self, subject: TokenSubject, *, admin: bool, now: int, ttl: int, client_id: str = "",
        custom: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:  # fmt: skip
        """Sign a token that expires `ttl` seconds after `now`. Raises KeysUnavailable.

        `custom` has further claims. Of the type `at+jwt` (RFC 9068) it names the client, by default
        the audience.
        """
        key = self.keys.signing_key(now)
        claims = {
            **custom,
            "iss": self.issuer,
            "aud": self.audience,
            "sub": str(subject.user_id),
            "iat": now,
            "exp": now + ttl,
            "jti": secrets.token_urlsafe(16),
            "sid": subject.session_id,
            "admin": admin,
        }
        if self.typ == ACCESS_TOKEN_TYPE:
            claims["client_id"] = client_id or self.audience
        payload = json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode()
        return _jws.encode(
            payload, key.signing, self.keys.algorithm, {**key.header, "typ": self.typ}
        )

    def verify(self, token: str, now: float) -> TokenSubject:
        """Return the subject of a valid access token.

        A token is expired from the second of its `exp` on, without leeway. Raises TokenMalformed,
        TokenForged, TokenExpired or KeysUnavailable.
        """
        verified = self._cache.get(token)
        if verified is None or not self.keys.contains(verified.key):
            verified = self._verify(token)
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()  # atomic, for the other threads
            self._cache[token] = verified
        if verified.expires_at <= now:
            self._cache.pop(token, None)
            raise TokenExpired
        return verified.subject

    def _verify(self, token: str) -> _Verified:
        header, payload, signature = _decode(token)
        key = self.keys.verifying_key(header)
        if key is None or not self._is_signature(signature, token, key):
            raise TokenForged
        claims = _check_types(payload, header["typ"])
        if (claims["iss"], claims["aud"]) != (self.issuer, self.audience) or "nbf" in claims:
            raise TokenForged  # the service issues no `nbf`, and does not evaluate it
        subject = TokenSubject(int(claims["sub"]), claims["sid"])
        return _Verified(subject, key, claims["exp"])

    def _is_signature(self, signature: bytes, token: str, key: Key) -> bool:
        """Verify with PyJWT's algorithm itself, as its `decode` would parse the token again."""
        signed = token.rpartition(".")[0].encode()
        algorithm = _jws.get_algorithm_by_name(self.keys.algorithm)
        return any(algorithm.verify(signed, each, signature) for each in key.verifying)


def _decode(token: str) -> tuple[Any, Any, bytes]:
    """Decode header, payload and signature, none of them verified. Raises TokenMalformed."""
    if len(token) > MAX_CHARACTERS or not FORM.fullmatch(token):
        raise TokenMalformed
    try:
        header, payload, signature = map(base64url_decode, token.split("."))
        return load_json(header), load_json(payload), signature
    except ValueError as error:
        raise TokenMalformed from error


def _check_types(claims: Any, typ: str) -> Mapping[str, Any]:
    kinds = CLAIMS | ({"client_id": str} if typ == ACCESS_TOKEN_TYPE else {})
    if not isinstance(claims, dict) or any(
        type(claims.get(name)) is not kind for name, kind in kinds.items()
    ):
        raise TokenMalformed
    if parse_id(claims["sub"]) is None or not SESSION_ID.fullmatch(claims["sid"]):
        raise TokenMalformed
    return claims
