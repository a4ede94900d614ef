"""The OAuth 2.0 token endpoint, for libraries that expect one."""

from collections.abc import Callable
from typing import Any, Final

from flask import Blueprint, Response
from marshmallow import EXCLUDE, Schema, fields, validate
from werkzeug.exceptions import BadRequest

from jwt_server import errors
from jwt_server.auth import token_responses
from jwt_server.auth.routes import within_limit
from jwt_server.web.operations import accepts, describe_response, operation_of, raises, returns
from jwt_server.web.problems import log_error
from jwt_server.web.responses import json_response
from jwt_server.web.schemas import Password, Text

bp = Blueprint("oauth", __name__)

GRANTS: Final = {"password": ("username", "password"), "refresh_token": ("refresh_token",)}
"""What each supported grant type needs (RFC 6749 sections 4.3 and 6)."""

ERRORS: Final = {400: [], 429: ["Retry-After"], 503: ["Retry-After"]}
"""The statuses of errors, with their headers."""

MAX_CLIENT_ID: Final = 128

INVALID_GRANT: Final = (
    errors.WrongCredentials,
    errors.RefreshTokenInvalid,
    errors.RefreshTokenReused,
    errors.SessionExpired,
    errors.SessionEnded,
)


class TokenRequestSchema(Schema):
    """The parameters of both grant types; others, such as `scope`, are ignored."""

    class Meta:
        unknown = EXCLUDE

    grant_type = fields.String(required=True, metadata={"enum": list(GRANTS)})
    username = Text(validate=within_limit)
    password = Password()
    refresh_token = fields.String()
    client_id = Text(validate=validate.Length(max=MAX_CLIENT_ID))


class OAuthErrorSchema(Schema):
    """An error (RFC 6749 section 5.2)."""

    error = fields.String(
        required=True,
        validate=validate.OneOf(
            (
                "invalid_request",
                "invalid_grant",
                "unsupported_grant_type",
                "temporarily_unavailable",
            )
        ),
    )
    error_description = fields.String(required=True)


def oauth_errors(view: Callable[..., Response]) -> Callable[..., Response]:
    """Describe the errors of the view as `respond_with_error` sends them."""
    operation = operation_of(view)
    operation.raised = {(status, error) for status, error in operation.raised if status in ERRORS}
    for status, headers in ERRORS.items():
        content = {"application/json": {"schema": OAuthErrorSchema}}
        operation.responses[status] = describe_response(status, headers) | {"content": content}
    return view


@bp.errorhandler(errors.ServiceError)
def respond_with_error(error: errors.ServiceError) -> Response:
    """Respond as RFC 6749 section 5.2 says, whatever the client accepts."""
    log_error(error)
    status, code = 400, "invalid_request"
    if isinstance(error, INVALID_GRANT):
        code = "invalid_grant"
    elif isinstance(error, errors.UnsupportedGrantType):
        code = error.code
    elif error.retry_after is not None:
        status, code = error.status, "temporarily_unavailable"
    response = json_response({"error": code, "error_description": error.message}, status)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


@bp.errorhandler(BadRequest)
def respond_to_bad_request(_error: BadRequest) -> Response:
    """Respond likewise to a request that Flask can't read, such as one that was cut off."""
    return respond_with_error(errors.MalformedBody())


@bp.post("/auth/token")
@oauth_errors
@raises(errors.UnsupportedGrantType, errors.TooManyAttempts)
@raises(errors.DatabaseUnavailable, errors.HashingBusy, errors.KeysUnavailable)
@accepts(TokenRequestSchema, documented_as="application/x-www-form-urlencoded")
@returns(200, token_responses.TokenSchema)
def issue_tokens(body: dict[str, str]) -> dict[str, Any]:
    """Get tokens for a password or a refresh token, as OAuth 2.0 libraries do (RFC 6749).

    Clients are not registered: `scope` and HTTP Basic are ignored, and `client_id` only goes into
    tokens with `JWT_TYP=at+jwt`.
    """
    needed = GRANTS.get(body["grant_type"])
    if needed is None:
        raise errors.UnsupportedGrantType
    missing = [name for name in needed if not body.get(name)]
    if missing:
        raise errors.InvalidFields({name: ["Missing."] for name in missing})
    if body["grant_type"] == "refresh_token":
        return token_responses.refresh_client(body["refresh_token"])
    session = token_responses.sign_in_client(
        body["username"], body["password"], refreshable=True, client_id=body.get("client_id", "")
    )
    return token_responses.token_object(session)
