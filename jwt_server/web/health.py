"""Is it alive, is it ready? For load balancers, supervisors and people."""

from __future__ import annotations

from flask import Response, current_app

from jwt_server.errors import DatabaseUnavailable, KeysUnavailable
from jwt_server.web.openapi import refuses
from jwt_server.web.routing import Blueprint
from jwt_server.web.service import current_service

bp = Blueprint("health", __name__, description="For load balancers and supervisors.")


@bp.route("/healthz")
@bp.response(200, {"const": "alive"}, content_type="text/plain")
def alive() -> Response:
    """The process answers."""
    return current_app.response_class("alive", mimetype="text/plain")


@bp.route("/readyz")
@refuses(DatabaseUnavailable, KeysUnavailable)
@bp.response(200, {"const": "ready"}, content_type="text/plain")
def ready() -> Response:
    """The database is reachable, writable, and of the right schema version; a key can sign."""
    service = current_service()
    service.database.check()
    service.tokens.keys.signing_key(service.clock())
    return current_app.response_class("ready", mimetype="text/plain")
