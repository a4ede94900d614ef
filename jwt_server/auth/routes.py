"""Signing in and out, and staying so: passwords and refresh tokens in, tokens out."""

from __future__ import annotations

from typing import Any, Final

from flask import Response, current_app, jsonify
from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load, validate

from jwt_server.auth import sessions
from jwt_server.auth.guard import CurrentUser, may_be_signed_in
from jwt_server.auth.sign_in import sign_in
from jwt_server.auth.sign_out import end_all, sign_out, sign_out_by_token
from jwt_server.auth.token_responses import (
    COMPACT,
    TokenSchema,
    access_token_of,
    lasting_terms,
    require_key,
    text_terms,
    this_device,
    token_object,
)
from jwt_server.errors import (
    CredentialRequired,
    DatabaseUnavailable,
    HashingBusy,
    KeysUnavailable,
    RefreshTokenInvalid,
    RefreshTokenReused,
    SessionEnded,
    SessionExpired,
    TokenMissing,
    TooManyAttempts,
    WrongCredentials,
)
from jwt_server.security import passwords
from jwt_server.users import names
from jwt_server.web.fields import REPEATED, SEND_ONCE, AnyText, Text
from jwt_server.web.openapi import refuses
from jwt_server.web.parsing import BodySchema
from jwt_server.web.problems import prefers_json
from jwt_server.web.routing import Blueprint
from jwt_server.web.service import audit_cutoff, current_actor, current_service, get_db

bp = Blueprint("auth", __name__, description="Signing in and out, and staying so.")

MAX_REFRESH_TOKEN: Final = 200
"""Ours have some 80 characters."""

SCOPES: Final = ("local", "others", "global")


def _within_limit(username: str) -> None:
    if not names.fits(username):
        raise ValidationError(names.TOO_LONG)


class CredentialsSchema(BodySchema):
    """The original's two fields, with its own messages where one is missing."""

    any_content_type = True

    class Meta:
        unknown = EXCLUDE

    username = Text(
        required=True,
        validate=[validate.Length(1), _within_limit],
        metadata={
            "format": "username",
            "maxLength": names.MAX_CHARACTERS,
            "description": "In any case; the length is that of its NFKC.",
        },
    )
    password = Text(required=True, validate=validate.Length(1, passwords.MAX_CHARACTERS))

    @pre_load
    def require_both(self, data: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
        """The original tests both for truth, in this order, before anything else."""
        for name in ("username", "password"):
            value = data.get(name)
            if value is None or value in ("", 0):  # 0 equals False and 0.0, too
                raise CredentialRequired(name)
        repeated = [name for name, value in data.items() if value is REPEATED]
        if repeated:  # also where the field is not one of ours
            raise ValidationError({name: [SEND_ONCE] for name in repeated})
        return data


class RefreshSchema(BodySchema):
    """The refresh token that is to be used up."""

    refresh_token = Text(required=True, validate=validate.Length(1, MAX_REFRESH_TOKEN))


class LogoutSchema(BodySchema):
    """For a client that has no access token any more."""

    refresh_token = AnyText()  # what is none of ours is signed out already


class ScopeSchema(Schema):
    """Which of the user's sessions end."""

    class Meta:
        unknown = EXCLUDE

    scope = fields.String(load_default="local", validate=validate.OneOf(SCOPES))


@bp.route("/auth", methods=["POST"])
@refuses(CredentialRequired, WrongCredentials, TooManyAttempts)
@refuses(DatabaseUnavailable, HashingBusy, KeysUnavailable)
@bp.arguments(CredentialsSchema)
@bp.response(200, TokenSchema)
@bp.response(200, {"type": "string", "pattern": COMPACT}, content_type="text/plain")
def issue_token(credentials: dict[str, str]) -> Response:
    """Sign in: the bare token as text, or a token object for a client that prefers JSON."""
    service = current_service()
    require_key()
    as_json = prefers_json()
    session = sign_in(
        service.database,
        service.hasher,
        service.rate_limits,
        **credentials,
        terms=lasting_terms() if as_json else text_terms(),
        device=this_device(),
        now=service.now(),
        audited_since=audit_cutoff(),
    )
    if as_json:
        response = jsonify(token_object(session))
    else:
        token, _ = access_token_of(session, service.settings.text_token_ttl)
        response = current_app.response_class(token, mimetype="text/plain")
    response.vary.add("Accept")
    return response


@bp.route("/auth/refresh", methods=["POST"])
@refuses(RefreshTokenInvalid, RefreshTokenReused, SessionExpired, SessionEnded)
@refuses(TooManyAttempts, DatabaseUnavailable, KeysUnavailable)
@bp.arguments(RefreshSchema)
@bp.response(200, TokenSchema)
def refresh(body: dict[str, str]) -> dict[str, Any]:
    """Fresh tokens for a refresh token, which is used up.

    Sent again within `REFRESH_GRACE` seconds it gets the same successor; later it was stolen from
    somebody, and the session ends. Too often is 30 times a minute in one session, and changes
    nothing: the token is good for later.
    """
    service = current_service()
    require_key()
    session = sessions.rotate(
        get_db(),
        service.refresh_tokens,
        body["refresh_token"],
        idle=service.settings.refresh_token_idle_ttl,
        grace=service.settings.refresh_grace,
        actor=current_actor(),
    )
    return token_object(session)


@bp.route("/auth/logout", methods=["POST"])
@may_be_signed_in
@bp.arguments(LogoutSchema)
@bp.arguments(ScopeSchema, query=True)
@bp.response(204)
def logout(caller: CurrentUser | None, body: dict[str, str], scope: dict[str, str]) -> Response:
    """Sign out: this session, the user's others, or all of them.

    With a refresh token in place of an access token, its session. Signing out never asks for a
    password.
    """
    service = current_service()
    db, actor = get_db(), current_actor(caller.id if caller else None)
    if caller is None and "refresh_token" not in body:
        raise TokenMissing
    if caller is None:
        sign_out_by_token(db, service.refresh_tokens, body["refresh_token"], actor=actor)
    elif scope["scope"] == "local":
        sign_out(db, caller.id, caller.session_id, actor=actor)
    else:
        spared = caller.session_id if scope["scope"] == "others" else ""
        end_all(db, caller.id, actor=actor, spared=spared)
    return current_app.response_class(status=204)
