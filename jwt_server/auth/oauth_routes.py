"""The OAuth 2.0 token endpoint, and what verifiers fetch: the public keys and the metadata."""

import re
from contextlib import suppress
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from flask import Blueprint
from marshmallow import EXCLUDE, Schema, fields, pre_load, validate

from jwt_server import errors
from jwt_server.auth import token_responses
from jwt_server.config import Settings
from jwt_server.listeners import is_loopback
from jwt_server.web.operations import accepts, raises, returns
from jwt_server.web.problems import TOKEN_ENDPOINT
from jwt_server.web.request import PUBLIC_HEADERS
from jwt_server.web.schemas import Password, Username
from jwt_server.web.service import current_service

bp = Blueprint("oauth", __name__)

GRANTS: Final = {"password": ("username", "password"), "refresh_token": ("refresh_token",)}
"""What each supported grant type needs (RFC 6749 sections 4.3 and 6)."""

METADATA_PATH: Final = "/.well-known/oauth-authorization-server"

ISSUER_URL: Final = re.compile("https?://[^/?#@]+(/[^?#]*)?", re.IGNORECASE)
"""A URL without user, query and fragment (RFC 8414 section 2)."""


class TokenRequestSchema(Schema):
    """The parameters of both grant types; others are ignored."""

    class Meta:
        unknown = EXCLUDE

    grant_type = fields.String(required=True, metadata={"enum": list(GRANTS)})
    username = Username()
    password = Password()
    refresh_token = fields.String()
    client_id = fields.String(
        validate=validate.Regexp(r"[ -~]{1,128}\Z", error="Send at most 128 characters of ASCII."),
        metadata={"pattern": "^[ -~]*$", "maxLength": 128},
    )
    scope = fields.String(metadata={"description": "Ignored.", "examples": ["openid"]})

    @pre_load
    def drop_empty(self, data: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
        """Take a parameter without a value as omitted, and refuse other grant types first."""
        sent = {name: value for name, value in data.items() if value not in ("", None)}
        grant_type = sent.get("grant_type")
        if isinstance(grant_type, str) and grant_type not in GRANTS:
            raise errors.UnsupportedGrantType
        return sent


EXAMPLES: Final = (
    {"grant_type": "password", "username": "travis", "password": "mypassword"},
    {"grant_type": "refresh_token", "refresh_token": "r1.Fq3nUWlMzT8dPoVhGyWb2g.1.1cF2ZkTn0PqD"},
)
TOKEN_REQUEST: Final = {
    "schema": TokenRequestSchema,
    "examples": {each["grant_type"]: {"value": each} for each in EXAMPLES},
}


class KeySetSchema(Schema):
    """Public keys (RFC 7517 section 5)."""

    keys = fields.List(fields.Dict(), required=True)


class MetadataSchema(Schema):
    """The metadata (RFC 8414 section 2)."""

    issuer = fields.String(required=True)
    jwks_uri = fields.String(required=True)
    token_endpoint = fields.String(required=True)
    grant_types_supported = fields.List(fields.String(), required=True)
    token_endpoint_auth_methods_supported = fields.List(fields.String(), required=True)
    response_types_supported = fields.List(fields.String(), required=True)


@bp.post(TOKEN_ENDPOINT)
@raises(errors.UnsupportedGrantType, errors.WrongCredentials, errors.RefreshTokenInvalid)
@raises(errors.RefreshTokenReused, errors.SessionExpired, errors.SessionEnded)
@raises(errors.TooManyAttempts, errors.DatabaseUnavailable, errors.HashingBusy)
@raises(errors.KeysUnavailable)
@accepts(TokenRequestSchema, described_as={"application/x-www-form-urlencoded": TOKEN_REQUEST})
@returns(200, token_responses.TokenSchema)
def issue_tokens(body: dict[str, str]) -> dict[str, Any]:
    """Get tokens for a password or a refresh token, as OAuth 2.0 libraries do (RFC 6749).

    Clients are not registered: `scope` and HTTP Basic are ignored, and `client_id` only goes into
    tokens with `JWT_TYP=at+jwt`.
    """
    grant_type = body["grant_type"]
    if missing := {name: ["Missing."] for name in GRANTS[grant_type] if name not in body}:
        raise errors.InvalidFields(missing)
    if grant_type == "refresh_token":
        return token_responses.refresh_client(body["refresh_token"])
    session = token_responses.sign_in_client(
        body["username"], body["password"], refreshable=True, client_id=body.get("client_id", "")
    )
    return token_responses.token_object(session)


def cached(settings: Settings) -> dict[str, str]:
    """Return the headers of what verifiers may cache for `JWKS_MAX_AGE`."""
    return {"Cache-Control": f"public, max-age={settings.jwks_max_age}"} | PUBLIC_HEADERS


@bp.get("/.well-known/jwks.json")
@raises(errors.KeysUnavailable)
@returns(200, KeySetSchema, headers=["Cache-Control"])
def show_keys() -> tuple[dict[str, Any], dict[str, str]]:
    """Return the public keys that verify access tokens; none under HS256."""
    service = current_service()
    return {"keys": service.tokens.keys.jwks()}, cached(service.settings)


def issuer_url(issuer: str) -> SplitResult | None:
    """Return the issuer as a URL that may have metadata: `https`, or `http` on this machine."""
    with suppress(ValueError):  # a bad port or IPv6 address
        url = urlsplit(issuer)
        is_trusted = url.scheme == "https" or is_loopback(url.hostname or "")
        if is_trusted and url.port != 0 and ISSUER_URL.fullmatch(issuer):
            return url
    return None


@bp.get("/.well-known/openid-configuration", endpoint="show_openid_configuration")
@bp.get(f"{METADATA_PATH}/<path:issuer_path>", endpoint="show_metadata_of_path")
@bp.get(METADATA_PATH)
@raises(errors.NotFound)
@returns(200, MetadataSchema, headers=["Cache-Control"])
def show_metadata(issuer_path: str = "") -> tuple[dict[str, Any], dict[str, str]]:
    """Show where the public keys and the token endpoint are (RFC 8414), if the issuer is a URL.

    For libraries that verify tokens; some put the issuer's path at the end (section 3.1). The
    service is no OpenID provider.
    """
    settings = current_service().settings
    url = issuer_url(settings.jwt_issuer)
    if settings.jwt_algorithm == "HS256" or url is None:
        raise errors.NotFound
    if issuer_path and issuer_path.strip("/") != url.path.strip("/"):
        raise errors.NotFound
    base = settings.jwt_issuer.rstrip("/")
    metadata = {
        "issuer": settings.jwt_issuer,
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "token_endpoint": f"{base}{TOKEN_ENDPOINT}",
        "grant_types_supported": list(GRANTS),
        "token_endpoint_auth_methods_supported": ["none"],
        "response_types_supported": [],
    }
    return metadata, cached(settings)
