"""Routes for signing in and out, for sessions, and for proxies that verify tokens."""

from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, current_app
from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load, validate

from jwt_server import audit, errors
from jwt_server.audit import Action
from jwt_server.auth import guard, sessions, token_responses
from jwt_server.auth.guard import CurrentUser, login_required
from jwt_server.database import Row
from jwt_server.web.operations import accepts, accepts_query, raises, returns
from jwt_server.web.parsing import REPEATED, SEND_ONCE
from jwt_server.web.problems import prefers_json
from jwt_server.web.responses import json_response
from jwt_server.web.schemas import Password, SessionSchema, Text, Username
from jwt_server.web.service import current_actor, current_service, get_db

bp = Blueprint("auth", __name__)

IGNORED: dict[str, Any] = {"description": "Ignored; OAuth libraries send it."}


class CredentialsSchema(Schema):
    """The original's two fields, with its messages for a missing one."""

    class Meta:
        unknown = EXCLUDE

    username = Username(required=True)
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


class RefreshSchema(Schema):
    """The refresh token to use up."""

    refresh_token = Text(required=True, validate=validate.Length(1, 200))  # issued: about 80
    retry_key = fields.String(
        validate=validate.Regexp(
            r"[A-Za-z0-9_-]{22,64}\Z", error="Send 22 to 64 letters, digits, hyphens, underscores."
        ),
        metadata={
            "pattern": "^[A-Za-z0-9_-]{22,64}$",
            "description": "Random and new for each refresh, stored before it is sent.",
            "examples": ["wz6pvHAQ0Mc3rN5kqWn1Zg"],
        },
    )
    grant_type = fields.String(metadata=IGNORED)
    client_id = fields.String(metadata=IGNORED)
    client_secret = fields.String(metadata=IGNORED)
    redirect_uri = fields.String(metadata=IGNORED)
    scope = fields.String(metadata=IGNORED | {"examples": ["openid"]})


class LogoutSchema(Schema):
    """For a client whose access token has expired."""

    refresh_token = fields.String()  # any text: an invalid token is signed out already


class ScopeSchema(Schema):
    """Which of the user's sessions to end."""

    scope = fields.String(
        load_default="local", validate=validate.OneOf(("local", "others", "global"))
    )


@bp.post("/auth")
@raises(errors.CredentialRequired, errors.WrongCredentials, errors.TooManyAttempts)
@raises(errors.DatabaseUnavailable, errors.HashingBusy, errors.KeysUnavailable)
@accepts(CredentialsSchema, any_content_type=True)
@returns(200, token_responses.TokenSchema)
@returns(200, token_responses.BARE_TOKEN, content_type="text/plain")
def issue_token(credentials: dict[str, str]) -> Response:
    """Sign in; get the bare token as text, or a token object if the client prefers JSON."""
    as_json = prefers_json()
    session = token_responses.sign_in_client(**credentials, refreshable=as_json)
    if as_json:
        response = json_response(token_responses.token_object(session))
    else:
        ttl = current_service().settings.text_token_ttl
        token, _ = token_responses.issue_access_token(session, ttl)
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

    Sent again with the same `retry_key`, it gets the same new refresh token until that one is used.
    Without the key it does so for `REFRESH_GRACE` seconds, from the same network and user agent;
    from elsewhere it is refused in that time. Otherwise it counts as stolen, and the session ends.
    Over 30 refreshes a minute are refused, and the token stays valid.
    """
    return token_responses.refresh_client(body["refresh_token"], body.get("retry_key", ""))


@bp.post("/auth/logout")
@login_required(optional=True, temporary_password=True)
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


@bp.post("/auth/reauth")
@login_required
@raises(errors.WrongPassword, errors.HashingBusy, errors.TooManyAttempts)
@accepts(guard.PasswordSchema)
@returns(204)
def reauthenticate(caller: CurrentUser, body: dict[str, str]) -> None:
    """Enter the password again, for routes that require a recent one."""
    guard.require_password(caller, body["password"])
    db = get_db()
    with db.transaction():
        guard.require_still_signed_in(db, caller)
        actor = current_actor(caller.id)
        db.queries.auth.authenticate(id=caller.session_id, now=actor.now)
        audit.record(db, actor, Action.REAUTHENTICATED, caller.id, session=caller.session_id)


@bp.get("/auth/sessions")
@login_required
@returns(200, SessionSchema(many=True))
def list_sessions(caller: CurrentUser) -> list[Row]:
    """List the user's active sessions, at most 50, oldest first, with the hour of the last use."""
    return guard.list_sessions(caller, caller.id)


@bp.delete("/auth/sessions/<session:session_id>")
@login_required
@raises(errors.NotFound, errors.PasswordTooOld)
@returns(204)
def end_session(caller: CurrentUser, session_id: str) -> None:
    """End one of the current user's sessions; any but this one needs a recent password."""
    if session_id != caller.session_id:
        guard.require_recent_password(caller)
    actor, action = current_actor(caller.id), Action.SESSION_ENDED
    if not sessions.end(get_db(), caller.id, session_id, actor=actor, action=action):
        raise errors.NotFound
