"""The tokens of a session, as responses: the token object, or the original's bare token."""

import json
from typing import Any, Final

from flask import request
from marshmallow import Schema, fields, validate

from jwt_server.auth import sessions
from jwt_server.auth.sessions import Client, NewSession
from jwt_server.auth.sign_in import sign_in
from jwt_server.database import Row
from jwt_server.security.tokens import TokenSubject
from jwt_server.web.middleware import SIGN_IN, USER
from jwt_server.web.request import client_address, user_agent
from jwt_server.web.service import audit_cutoff, current_actor, current_service, get_db

COMPACT_JWT: Final = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"
"""A JWT (RFC 7515 section 7.1), as a pattern of JSON Schema."""

BARE_TOKEN: Final = {
    "type": "string",
    "pattern": COMPACT_JWT,
    "examples": ["eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"],
}


class TokenSchema(Schema):
    """The token object of OAuth 2.0 (RFC 6749 section 5.1). Lifetimes are in seconds."""

    access_token = fields.String(required=True, metadata={"pattern": COMPACT_JWT})
    token_type = fields.String(required=True, validate=validate.Equal("Bearer"))
    expires_in = fields.Integer(required=True)
    refresh_token = fields.String(required=True)
    refresh_expires_in = fields.Integer(required=True)


def sign_in_client(username: str, password: str, *, refreshable: bool, client_id: str = "") -> Row:
    """Check a password, and return a new session of this client. Raises as `sign_in` does."""
    service = current_service()
    request.environ[SIGN_IN] = True
    require_signing_key()
    return sign_in(
        service.database,
        service.hasher,
        service.rate_limits,
        username,
        password,
        new=new_session(refreshable=refreshable, client_id=client_id),
        audit_cutoff=audit_cutoff(),
    )


def refresh_client(token: str, retry_key: str = "") -> dict[str, Any]:
    """Exchange a refresh token for new tokens, for TokenSchema. Raises as `sessions.refresh`."""
    service = current_service()
    require_signing_key()
    session = sessions.refresh(
        get_db(),
        service.refresh_tokens,
        token,
        Client(current_actor(), user_agent(), retry_key),
        idle=service.settings.refresh_token_idle_ttl,
        grace=service.settings.refresh_grace,
    )
    if session["retry"]:
        service.metrics.refresh_retries.labels(session["retry"]).inc()
    return token_object(session)


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
        "refresh_expires_in": max(0, session["expires_at"] - service.now()),
    }


def issue_access_token(session: Row, ttl: int) -> tuple[str, int]:
    """Return an access token and its lifetime: `ttl` seconds, or less if the session ends first.

    With a temporary password the token has neither admin rights nor custom claims.
    """
    service = current_service()
    now = service.now()
    ttl = max(0, min(ttl, session["expires_at"] - now))
    request.environ[USER] = session["user_id"]  # for the access log
    is_restricted = session["password_expires_at"] is not None
    token = service.tokens.issue(
        TokenSubject(session["user_id"], session["id"]),
        admin=bool(session["admin"]) and not is_restricted,
        now=now,
        ttl=ttl,
        client_id=session["client_id"],
        custom={} if is_restricted else json.loads(session["claims"]),
    )
    return token, ttl


def new_session(*, refreshable: bool, client_id: str = "") -> NewSession:
    """Return a session for this client, with refresh tokens or with a single access token."""
    service = current_service()
    settings = service.settings
    idle, absolute = settings.refresh_token_idle_ttl, settings.refresh_token_ttl
    if not refreshable:
        idle = absolute = settings.text_token_ttl
    client = client_address(), user_agent()
    return NewSession(refreshable, idle, absolute, *client, service.now(), client_id)
