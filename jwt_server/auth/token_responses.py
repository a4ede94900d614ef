"""What a client gets for a session: the token object, or the bare token of the original."""

from __future__ import annotations

from typing import Any, Final

from flask import request
from marshmallow import Schema, fields, validate

from jwt_server.auth.sessions import Device, Session, SessionLifetime
from jwt_server.security.tokens import TokenSubject
from jwt_server.web.middleware import USER
from jwt_server.web.request import client_address, user_agent
from jwt_server.web.service import current_service

COMPACT: Final = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"
"""What a JWT looks like, as a pattern of JSON Schema (RFC 7515 section 7.1)."""


class TokenSchema(Schema):
    """Tokens, as OAuth 2.0 hands them out (RFC 6749 section 5.1). Lifetimes are in seconds."""

    access_token = fields.String(required=True, metadata={"pattern": COMPACT})
    token_type = fields.String(required=True, validate=validate.Equal("Bearer"))
    expires_in = fields.Integer(required=True)
    refresh_token = fields.String(required=True)
    refresh_expires_in = fields.Integer(required=True)


def require_key() -> None:
    """Raise KeysUnavailable while nothing is written yet: a refresh token would be used up, and a
    session opened, for tokens that can't be signed.
    """
    service = current_service()
    service.tokens.keys.signing_key(service.clock())


def token_object(session: Session) -> dict[str, Any]:
    """Both tokens of a session, as TokenSchema has them. Raises KeysUnavailable."""
    service = current_service()
    access_token, expires_in = access_token_of(session, service.settings.access_token_ttl)
    refresh_token = service.refresh_tokens.issue(session.id, session.generation, session.nonce)
    return {
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": expires_in,
        "refresh_token": refresh_token,
        "refresh_expires_in": session.expires_at - service.now(),
    }


def access_token_of(session: Session, ttl: int) -> tuple[str, int]:
    """An access token, and its lifetime: `ttl` seconds, or what the session has left."""
    service = current_service()
    now = service.now()
    ttl = min(ttl, session.expires_at - now)
    request.environ[USER] = session.user_id  # for the log: who signs in, or stays so
    bearer = TokenSubject(session.user_id, session.id)
    return service.tokens.issue(bearer, admin=session.admin, now=now, ttl=ttl), ttl


def lasting_terms() -> SessionLifetime:
    """How long a session lives that can be refreshed."""
    settings = current_service().settings
    return SessionLifetime(
        settings.refresh_token_idle_ttl, settings.refresh_token_ttl, refreshable=True
    )


def text_terms() -> SessionLifetime:
    """How long a session lives that ends with its one token."""
    ttl = current_service().settings.text_token_ttl
    return SessionLifetime(ttl, ttl, refreshable=False)


def this_device() -> Device:
    """Where this request came from."""
    trusted = current_service().settings.trusted_proxies
    return Device(client_address(trusted), user_agent())
