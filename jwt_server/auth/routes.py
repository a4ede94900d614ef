"""Routes for signing in, refreshing, signing out, and for other services that verify tokens."""

from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, current_app
from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load, validate

from jwt_server import errors
from jwt_server.audit import Action
from jwt_server.auth import sessions, token_responses
from jwt_server.auth.guard import CurrentUser, login_required
from jwt_server.auth.sign_in import sign_in
from jwt_server.users import names
from jwt_server.web.operations import accepts, accepts_query, raises, returns
from jwt_server.web.parsing import REPEATED, SEND_ONCE
from jwt_server.web.problems import prefers_json
from jwt_server.web.request import PUBLIC_HEADERS
from jwt_server.web.responses import json_response
from jwt_server.web.schemas import BodySchema, Password, Text
from jwt_server.web.service import audit_cutoff, current_actor, current_service, get_db

bp = Blueprint("auth", __name__)


def _within_limit(username: str) -> None:
    if not names.fits(username):
        raise ValidationError(names.TOO_LONG)


class CredentialsSchema(BodySchema):
    """The original's two fields, with its messages for a missing one."""

    class Meta:
        unknown = EXCLUDE

    username = Text(
        required=True,
        validate=[validate.Length(1), _within_limit],
        metadata={
            "format": "username",
            "maxLength": names.MAX_CHARACTERS,
            "description": "Case-insensitive, without space at either end; length in NFKC.",
        },
    )
    password = Password(required=True)

    @pre_load
    def require_both(self, data: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
        """Refuse a falsy field before all other checks, as the original does."""
        for name in ("username", "password"):
            value = data.get(name)
            if value is None or value in ("", 0):  # False and 0.0 equal 0
                raise errors.CredentialRequired(name)
        repeated = [name for name, value in data.items() if value is REPEATED]
        if repeated:  # even if the field is unknown
            raise ValidationError({name: [SEND_ONCE] for name in repeated})
        return data


class RefreshSchema(BodySchema):
    """The refresh token to use up."""

    refresh_token = Text(required=True, validate=validate.Length(1, 200))  # issued: about 80


class LogoutSchema(BodySchema):
    """For a client whose access token has expired."""

    refresh_token = fields.String()  # any text: an invalid token is signed out already


class KeySetSchema(Schema):
    """Public keys (RFC 7517 section 5)."""

    keys = fields.List(fields.Dict(), required=True)


class ScopeSchema(Schema):
    """Which of the user's sessions to end."""

    class Meta:
        unknown = EXCLUDE

    scope = fields.String(
        load_default="local", validate=validate.OneOf(("local", "others", "global"))
    )


@bp.post("/auth")
@raises(errors.CredentialRequired, errors.WrongCredentials, errors.TooManyAttempts)
@raises(errors.DatabaseUnavailable, errors.HashingBusy, errors.KeysUnavailable)
@accepts(CredentialsSchema, any_content_type=True)
@returns(200, token_responses.TokenSchema)
@returns(200, {"type": "string", "pattern": token_responses.COMPACT_JWT}, content_type="text/plain")
def issue_token(credentials: dict[str, str]) -> Response:
    """Sign in; get the bare token as text, or a token object if the client prefers JSON."""
    service = current_service()
    token_responses.require_signing_key()
    as_json = prefers_json()
    session = sign_in(
        service.database,
        service.hasher,
        service.rate_limits,
        **credentials,
        new=token_responses.new_session(refreshable=as_json),
        audit_cutoff=audit_cutoff(),
    )
    if as_json:
        response = json_response(token_responses.token_object(session))
    else:
        token, _ = token_responses.issue_access_token(session, service.settings.text_token_ttl)
        response = current_app.response_class(token, mimetype="text/plain")
    response.vary.add("Accept")
    return response


@bp.post("/auth/refresh")
@raises(errors.RefreshTokenInvalid, errors.RefreshTokenReused)
@raises(errors.SessionExpired, errors.SessionEnded, errors.TooManyAttempts)
@raises(errors.DatabaseUnavailable, errors.KeysUnavailable)
@accepts(RefreshSchema)
@returns(200, token_responses.TokenSchema)
def refresh(body: dict[str, str]) -> dict[str, Any]:
    """Exchange a refresh token for new tokens.

    Sent again within `REFRESH_GRACE` seconds, it gets the same new refresh token; later, it counts
    as stolen, and the session ends. Over 30 refreshes a minute are refused, and the token stays
    valid.
    """
    service = current_service()
    token_responses.require_signing_key()
    session = sessions.refresh(
        get_db(),
        service.refresh_tokens,
        body["refresh_token"],
        idle=service.settings.refresh_token_idle_ttl,
        grace=service.settings.refresh_grace,
        actor=current_actor(),
    )
    return token_responses.token_object(session)


@bp.post("/auth/logout")
@login_required(optional=True)
@accepts(LogoutSchema)
@accepts_query(ScopeSchema)
@returns(204)
def logout(caller: CurrentUser | None, body: dict[str, str], scope: dict[str, str]) -> None:
    """Sign out of this session, of the user's others, or of all; never asks for a password.

    A refresh token in place of an access token ends its own session.
    """
    service = current_service()
    db, actor = get_db(), current_actor(caller.id if caller else None)
    if caller is None and "refresh_token" not in body:
        raise errors.TokenMissing
    if caller is None:
        sessions.end_by_token(db, service.refresh_tokens, body["refresh_token"], actor=actor)
    elif scope["scope"] == "local":
        sessions.end(db, caller.id, caller.session_id, actor=actor, action=Action.SIGNED_OUT)
    else:
        except_id = caller.session_id if scope["scope"] == "others" else ""
        sessions.sign_out_all(db, caller.id, actor=actor, except_id=except_id)


@bp.get("/auth/verify")
@login_required
@returns(204, headers=["X-Auth-User-Id", "X-Auth-Username", "X-Auth-Admin"])
def verify(caller: CurrentUser) -> tuple[None, dict[str, str]]:
    """Verify a token for nginx's `auth_request`; the username is percent-encoded UTF-8."""
    return None, {
        "X-Auth-User-Id": str(caller.id),
        "X-Auth-Username": quote(caller.username, safe=""),
        "X-Auth-Admin": "true" if caller.admin else "false",
    }


@bp.get("/.well-known/jwks.json")
@raises(errors.KeysUnavailable)
@returns(200, KeySetSchema, headers=["Cache-Control"])
def show_keys() -> tuple[dict[str, Any], dict[str, str]]:
    """Return the public keys that verify access tokens; none under HS256."""
    service = current_service()
    headers = {"Cache-Control": f"public, max-age={service.settings.jwks_max_age}"} | PUBLIC_HEADERS
    return {"keys": service.tokens.keys.jwks()}, headers
