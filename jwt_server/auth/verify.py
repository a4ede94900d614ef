"""Routes for other services: token verification for nginx, and the public keys (JWKS)."""

from typing import Any
from urllib.parse import quote

from flask import Blueprint
from marshmallow import Schema, fields

from jwt_server.auth.guard import CurrentUser, login_required
from jwt_server.errors import KeysUnavailable
from jwt_server.web.operations import raises, returns
from jwt_server.web.service import current_service

bp = Blueprint("verify", __name__)


class KeySetSchema(Schema):
    """Public keys (RFC 7517 section 5)."""

    keys = fields.List(fields.Dict(), required=True)


@bp.route("/auth/verify")
@login_required
@returns(204, headers=["X-Auth-User-Id", "X-Auth-Username", "X-Auth-Admin"])
def verify(caller: CurrentUser) -> tuple[None, dict[str, str]]:
    """Verify a token for nginx's `auth_request`; the username is percent-encoded UTF-8."""
    return None, {
        "X-Auth-User-Id": str(caller.id),
        "X-Auth-Username": quote(caller.username, safe=""),
        "X-Auth-Admin": "true" if caller.admin else "false",
    }


@bp.route("/.well-known/jwks.json")
@raises(KeysUnavailable)
@returns(200, KeySetSchema, headers=["Cache-Control"])
def show_keys() -> tuple[dict[str, Any], dict[str, str]]:
    """Return the public keys that verify access tokens; none under HS256."""
    service = current_service()
    headers = {"Cache-Control": f"public, max-age={service.settings.jwks_max_age}"}
    return {"keys": service.tokens.keys.jwks()}, headers
