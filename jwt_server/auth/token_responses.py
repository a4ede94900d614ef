"""The tokens of a session, as responses: the token object, or the original's bare token."""

from typing import Any, Final

from flask import request
from marshmallow import Schema, fields, validate

from jwt_server.auth.sessions import NewSession
from jwt_server.database import Row
from jwt_server.security.tokens import TokenSubject
from jwt_server.web.middleware import USER
from jwt_server.web.request import client_address, user_agent
from jwt_server.web.service import current_service

COMPACT_JWT: Final = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"
"""A JWT (RFC 7515 section 7.1), as a pattern of JSON Schema."""


class TokenSchema(Schema):
    """The token object of OAuth 2.0 (RFC 6749 section 5.1). Lifetimes are in seconds."""

    access_token = fields.String(required=True, metadata={"pattern": COMPACT_JWT})
    token_type = fields.String(required=True, validate=validate.Equal("Bearer"))
    expires_in = fields.Integer(required=True)
    refresh_token = fields.String(required=True)
    refresh_expires_in = fields.Integer(required=True)


def require_signing_key() -> None:
    """Raise KeysUnavailable if tokens can't be signed, before a session is opened or rotated."""
    service = current_service()
    service.tokens.keys.signing_key(service.clock())


def token_object(session: Row) -> dict[str, Any]:
    """Return a session's tokens for TokenSchema. Raises KeysUnavailable."""
    service = current_service()
    access_token, expires_in = issue_access_token(session, service.settings.access_token_ttl)
    return {
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": expires_in,
        "refresh_token": service.refresh_tokens.issue(
            session["id"], session["generation"], session["nonce"]
        ),
        "refresh_expires_in": session["expires_at"] - service.now(),
    }


def issue_access_token(session: Row, ttl: int) -> tuple[str, int]:
    """Return an access token and its lifetime: `ttl` seconds, or less if the session ends first."""
    service = current_service()
    now = service.now()
    ttl = min(ttl, session["expires_at"] - now)
    request.environ[USER] = session["user_id"]  # for the access log
    subject = TokenSubject(session["user_id"], session["id"])
    return service.tokens.issue(subject, admin=bool(session["admin"]), now=now, ttl=ttl), ttl


def new_session(*, refreshable: bool) -> NewSession:
    """Return a session for this client, with refresh tokens or with a single access token."""
    service = current_service()
    settings = service.settings
    idle, absolute = settings.refresh_token_idle_ttl, settings.refresh_token_ttl
    if not refreshable:
        idle = absolute = settings.text_token_ttl
    return NewSession(refreshable, idle, absolute, client_address(), user_agent(), service.now())
