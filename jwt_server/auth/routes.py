"""`POST /auth`: username and password in, access token out."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, jsonify
from marshmallow import EXCLUDE, ValidationError, pre_load, validate

from jwt_server.accounts import usernames
from jwt_server.auth.sign_in import sign_in
from jwt_server.errors import CredentialRequired
from jwt_server.security import passwords
from jwt_server.web.bodies import BodySchema
from jwt_server.web.fields import REPEATED, SEND_ONCE, Text
from jwt_server.web.problems import prefers_json
from jwt_server.web.routing import Blueprint
from jwt_server.web.service import current_service, get_db

bp = Blueprint("auth", __name__, description="Signing in.")


def _within_limit(username: str) -> None:
    if not usernames.fits(username):
        raise ValidationError(f"Longer than {usernames.MAX_CHARACTERS} characters.")


class CredentialsSchema(BodySchema):
    """The original's two fields, with its own messages where one is missing."""

    any_content_type = True

    class Meta:
        unknown = EXCLUDE

    username = Text(required=True, validate=_within_limit)
    password = Text(required=True, validate=validate.Length(max=passwords.MAX_CHARACTERS))

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


@bp.route("/auth", methods=["POST"])
@bp.arguments(CredentialsSchema)
def issue_token(credentials: dict[str, str]) -> Response:
    """Sign in: the bare token as text, or a token object for a client that prefers JSON."""
    service = current_service()
    settings = service.settings
    user = sign_in(get_db(), **credentials, rounds=settings.salt_rounds)
    as_json = prefers_json()
    ttl = settings.access_token_ttl if as_json else settings.text_token_ttl
    token = service.tokens.issue(user["id"], admin=bool(user["admin"]), now=service.now(), ttl=ttl)
    if as_json:
        response = jsonify(access_token=token, token_type="Bearer", expires_in=ttl)  # noqa: S106 - the type's name
    else:
        response = current_app.response_class(token, mimetype="text/plain")
    response.vary.add("Accept")
    return response
