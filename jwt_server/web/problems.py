"""Exceptions become responses: plain text, problem details (RFC 9457), or OAuth's error object."""

import logging
import re
from typing import Final

from flask import Flask, Response, request
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.http import HTTP_STATUS_CODES, parse_accept_header

from jwt_server import errors
from jwt_server.web.middleware import CODE
from jwt_server.web.responses import PlainResponse, json_response

log = logging.getLogger(__name__)

# RFC 9110 section 9.1 and RFC 5789; another method on a known path is 501, not 405.
KNOWN_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)

# A charset in Accept is ignored, as all responses are UTF-8; in a quoted string it does not matter.
CHARSET: Final = re.compile(r';[ \t]*charset[ \t]*=[ \t]*("[\w-]*"|[\w-]*)', re.IGNORECASE)

# Code and message of the exceptions of Flask and Werkzeug.
HTTP_ERRORS: Final = {
    400: ("bad_request", "The request can't be parsed."),
    404: (errors.NotFound.code, errors.NotFound.message),
    405: ("method_not_allowed", "This path does not support this method."),
    413: (errors.BodyTooLarge.code, errors.BodyTooLarge.message),
    500: (errors.ServiceError.code, errors.ServiceError.message),
    501: ("method_not_implemented", "This method is not supported."),
}

TOKEN_ENDPOINT: Final = "/auth/token"  # noqa: S105 - a path
"""The path whose errors are as RFC 6749 has them, whatever the client accepts."""

# Status and code at the token endpoint, by the status elsewhere. For what section 5.2 has no code,
# those of section 4.1.2.1.
OAUTH_ERRORS: Final = {
    401: (400, "invalid_grant"),
    405: (405, "invalid_request"),
    501: (501, "invalid_request"),
    429: (429, "temporarily_unavailable"),
    503: (503, "temporarily_unavailable"),
    500: (500, "server_error"),
}


def init_app(app: Flask) -> None:
    """Register the error handlers."""
    app.register_error_handler(errors.ServiceError, _service_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def prefers_json() -> bool:
    """Tell whether the Accept header ranks JSON above plain text (RFC 9110 section 12.5.1).

    A tie, the default of browsers and axios, means text.
    """
    header = CHARSET.sub("", request.headers.get("Accept", ""))
    accepted = parse_accept_header(header, MIMEAccept)
    json = max(accepted.quality("application/json"), accepted.quality("application/problem+json"))
    return json > accepted.quality("text/plain")


def _service_error(error: errors.ServiceError) -> Response:
    if isinstance(error, errors.Unavailable):
        log.error("%s", error.cause)
    response = _problem(error.status, error.code, error.message, error.errors)
    if response.status_code == error.status:  # 401 is 400 at the token endpoint
        response.headers.extend(error.headers)
    return response


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if isinstance(error, MethodNotAllowed) and request.method not in KNOWN_METHODS:
        status = 501
    code, message = HTTP_ERRORS.get(status, HTTP_ERRORS[400])
    if isinstance(error, NotFound) and request.path == "/":  # where people look first
        message = f"{message} The API is described at {request.script_root}/docs."
    response = _problem(status, code, message)
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
    return response


def _unexpected(error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return _problem(500, *HTTP_ERRORS[500])


def _problem(
    status: int, code: str, message: str, fields: errors.FieldErrors | None = None
) -> Response:
    request.environ[CODE] = code  # for the access log and the metrics
    if request.environ["PATH_INFO"].removesuffix("/") == TOKEN_ENDPOINT:
        status, error = oauth_error(status, code)
        return json_response({"error": error, "error_description": message}, status)
    if prefers_json():
        problem: dict[str, object] = {
            "type": "about:blank",
            "title": HTTP_STATUS_CODES[status],
            "status": status,
            "detail": message,
            "code": code,
        }
        if fields:
            problem["errors"] = fields
        response = json_response(problem, status, "application/problem+json")
    else:
        response = PlainResponse(message, status, mimetype="text/plain")
    response.vary.add("Accept")
    return response


def oauth_error(status: int, code: str) -> tuple[int, str]:
    """Return status and code at the token endpoint of an error elsewhere (RFC 6749 section 5.2)."""
    if code == errors.UnsupportedGrantType.code:
        return status, code
    return OAUTH_ERRORS.get(status, (400, "invalid_request"))
