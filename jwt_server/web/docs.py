"""The API's description for programs, and a page that shows it to people.

The page is Swagger UI, from a package of PyPI; every part of it is served from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import flask_swagger_ui
from flask import Response, current_app, render_template, request, send_from_directory

from jwt_server.errors import NotFound
from jwt_server.web.openapi import description, refuses
from jwt_server.web.routing import Blueprint

bp = Blueprint("docs", __name__, description="This description.")

OURS: Final = Path(__file__).parent.parent / "static"
SWAGGER_UI: Final = Path(flask_swagger_ui.__file__).parent / "dist"

ASSETS: Final = {
    "swagger-ui.css": SWAGGER_UI,
    "swagger-ui-bundle.js": SWAGGER_UI,
    "docs.css": OURS,
    "docs.js": OURS,
}

# The page may use what comes from here, and the icons that its style sheet brings along.
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


@bp.route("/openapi.json")
@bp.response(200, {"type": "object", "required": ["openapi"]})
def show_description() -> Response:
    """This description, as OpenAPI 3.1."""
    return current_app.response_class(description(), mimetype="application/json")


@bp.route("/docs")
@bp.response(200, {"type": "string"}, content_type="text/html")
def show_docs() -> Response:
    """A page that shows this description, and tries the routes out."""
    page = current_app.response_class(render_template("docs.html"), mimetype="text/html")
    page.headers["Content-Security-Policy"] = PAGE_POLICY
    return page


@bp.route(f"/docs/<any({', '.join(map(repr, ASSETS))}):asset>")
@refuses(NotFound)
@bp.response(304)
@bp.response(200, {"type": "string"}, content_type="text/javascript")
@bp.response(200, {"type": "string"}, content_type="text/css")
def show_asset(asset: str) -> Response:
    """A script or style sheet of that page."""
    response = send_from_directory(ASSETS[asset], asset, conditional=False)
    # Of what Flask would do for conditions and ranges, this is all that a browser needs.
    etag, _ = response.get_etag()
    if etag is None or not request.if_none_match.contains(etag):
        return response
    response.close()
    return current_app.response_class(status=304, headers={"ETag": response.headers["ETag"]})
