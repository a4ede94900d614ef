"""Pages without a user: health checks, the OpenAPI document, the client, the admin panel."""

from pathlib import Path
from typing import Final

import flask_swagger_ui
from flask import Blueprint, Response, current_app, render_template, request, send_from_directory

from jwt_server.errors import DatabaseUnavailable, KeysUnavailable, NotFound
from jwt_server.web.middleware import CLOSED_POLICY
from jwt_server.web.openapi import OPENAPI_VERSION, document
from jwt_server.web.operations import raises, returns
from jwt_server.web.request import PUBLIC_HEADERS
from jwt_server.web.responses import PlainResponse, json_response
from jwt_server.web.service import current_service

bp = Blueprint("pages", __name__)

STATIC: Final = Path(__file__).parent.parent / "static"
SWAGGER_UI: Final = Path(flask_swagger_ui.__file__).parent / "dist"

ASSETS: Final = {
    "swagger-ui.css": SWAGGER_UI,
    "swagger-ui-bundle.js": SWAGGER_UI,
    "docs.css": STATIC,
    "docs.js": STATIC,
}

PANEL: Final = STATIC / "admin"
PANEL_FILES: Final = sorted(path.name for path in PANEL.iterdir() if path.suffix in {".css", ".js"})

# `data:` for the icons in Swagger UI's style sheet.
PAGE_POLICY: Final = (
    f"{CLOSED_POLICY}; connect-src 'self'; img-src 'self' data:; script-src 'self';"
    " style-src 'self'"
)

PANEL_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self' data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
}


@bp.get("/healthz")
@returns(200, {"const": "alive"}, content_type="text/plain")
def alive() -> str:
    """Check that the process responds."""
    return "alive"


@bp.get("/readyz")
@raises(DatabaseUnavailable, KeysUnavailable)
@returns(200, {"const": "ready"}, content_type="text/plain")
def ready() -> str:
    """Check that the database is reachable, writable and of the right schema version, and that a
    key can sign.
    """
    service = current_service()
    service.database.check()
    service.tokens.keys.signing_key(service.clock())
    return "ready"


@bp.get("/openapi.json")
@returns(200, {"type": "object", "properties": {"openapi": {"const": OPENAPI_VERSION}}})
def show_description() -> Response:
    """Return this document, OpenAPI 3.1."""
    response = json_response(document(current_app, request.script_root))
    response.headers.extend(PUBLIC_HEADERS)
    return response


@bp.get("/docs")
@returns(200, {"type": "string", "examples": ["<!doctype html>"]}, content_type="text/html")
def show_docs() -> tuple[str, dict[str, str]]:
    """Show this document as a page that can send requests."""
    return render_template("docs.html"), {"Content-Security-Policy": PAGE_POLICY}


@bp.get(f"/docs/<any({', '.join(map(repr, ASSETS))}):asset>")
@raises(NotFound)
@returns(304)
@returns(200, {"type": "string", "examples": ["// a script"]}, content_type="text/javascript")
@returns(200, {"type": "string", "examples": ["/* a style */"]}, content_type="text/css")
def show_asset(asset: str) -> Response:
    """Return a script or style sheet of the page."""
    return public_file(ASSETS[asset], asset)


@bp.get("/client.js")
@returns(304)
@returns(200, {"type": "string", "examples": ["// a module"]}, content_type="text/javascript")
def show_client() -> Response:
    """Return the client for browsers, a module that pages of every origin may import."""
    response = public_file(STATIC, "client.js")
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


@bp.get("/admin")
@returns(200, {"type": "string", "examples": ["<!doctype html>"]}, content_type="text/html")
def show_panel() -> tuple[str, dict[str, str]]:
    """Show the admin panel, a page that uses the routes below `/admin` with its user's token."""
    return render_template("admin.html"), PANEL_HEADERS


@bp.get(f"/admin/<any({', '.join(map(repr, PANEL_FILES))}):file>")
@raises(NotFound)
@returns(304)
@returns(200, {"type": "string", "examples": ["// a module"]}, content_type="text/javascript")
@returns(200, {"type": "string", "examples": ["/* a style */"]}, content_type="text/css")
def show_panel_file(file: str) -> Response:
    """Return a module or the style sheet of the panel."""
    return public_file(PANEL, file)


def public_file(folder: Path, name: str) -> Response:
    """Return a file, or 304 if the browser has it.

    Of Flask's conditional requests and ranges, this is all that a browser needs.
    """
    response = send_from_directory(folder, name, conditional=False)
    response.headers.extend(PUBLIC_HEADERS)
    etag, _ = response.get_etag()
    if etag is None or not request.if_none_match.contains_weak(etag):
        return response
    response.close()
    return PlainResponse(status=304, headers={"ETag": response.headers["ETag"], **PUBLIC_HEADERS})
