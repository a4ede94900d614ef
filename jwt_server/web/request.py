"""What holds for every request: ids in paths, CORS, and what is known of the client."""

import re
import socket
from typing import Final

from flask import Flask, Response, has_request_context, request
from flask_cors import CORS
from werkzeug.routing import BaseConverter, IntegerConverter

from jwt_server.errors import MAX_BODY_BYTES, NotFound
from jwt_server.security.primitives import ID_PATTERN, MAX_ID
from jwt_server.security.refresh_tokens import SESSION_ID_PATTERN
from jwt_server.web.middleware import BEFORE_WAITING, CLIENT_ADDRESS, METHODS, RULE
from jwt_server.web.responses import PlainResponse

EXPOSED_HEADERS: Final = ("Link", "Location", "Retry-After", "WWW-Authenticate", "X-Request-ID")
PUBLIC_HEADERS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": ", ".join(EXPOSED_HEADERS),
}
"""Of what may be cached: for scripts of every origin, also if a cache asked without Origin."""

PREFLIGHT_MAX_AGE: Final = 24 * 60 * 60
MAX_USER_AGENT: Final = 200


class IdConverter(IntegerConverter):
    """An id in a path; `schema` describes it in the OpenAPI document."""

    regex = ID_PATTERN
    schema: Final = {"type": "integer", "minimum": 1, "maximum": MAX_ID}


class SessionConverter(BaseConverter):
    """The id of a session in a path."""

    regex = SESSION_ID_PATTERN
    schema: Final = {"type": "string", "pattern": f"^{SESSION_ID_PATTERN}$"}


def init_app(app: Flask, origins: tuple[str, ...]) -> None:
    """Set the rules for paths, bodies and CORS, before the blueprints; `origins`: CORS_ORIGINS."""
    # Werkzeug cuts a body of unknown length at the limit without an error, hence one byte more.
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES + 1
    app.url_map.converters |= {"id": IdConverter, "session": SessionConverter}
    app.url_map.strict_slashes = False  # a trailing slash matches without a redirect
    app.url_map.merge_slashes = False
    any_origin = origins == ("*",)
    # As patterns, because flask-cors takes an origin with an IPv6 bracket for one.
    patterns = [re.compile(re.escape(origin) + r"\Z") for origin in origins]
    CORS(
        app,
        origins="*" if any_origin else patterns,
        send_wildcard=any_origin,
        always_send=False,
        vary_header=False,  # `finish` adds it, also without Origin in the request
        methods=METHODS,
        expose_headers=EXPOSED_HEADERS,
        max_age=PREFLIGHT_MAX_AGE,
    )
    # Called for requests with Origin only: flask-cors takes its time with the others, too.
    add_cors_headers = app.after_request_funcs[None].pop()
    app.before_request(_begin)

    @app.after_request
    def finish(response: Response) -> Response:
        if "HTTP_ORIGIN" in request.environ:
            add_cors_headers(response)  # not those of PUBLIC_HEADERS
        if not any_origin and response.headers.get("Access-Control-Allow-Origin") != "*":
            response.vary.add("Origin")
        return response


def _begin() -> Response | None:
    """Note the route, and answer a CORS preflight on any path; flask-cors adds the headers."""
    environ = request.environ
    # Werkzeug takes a path with no slash or several at its start for one with one.
    is_exact = re.match("/(?!/)", environ["PATH_INFO"])
    environ[RULE] = request.url_rule if is_exact else None
    is_preflight = (
        environ["REQUEST_METHOD"] == "OPTIONS"
        and "HTTP_ORIGIN" in environ
        and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
    )
    if is_preflight:
        return PlainResponse(status=204)
    if not is_exact:
        raise NotFound
    return None


def client_address() -> str:
    """Return the client's IP address, or an empty string if it is unknown."""
    address: str = request.environ[CLIENT_ADDRESS]
    return address


def user_agent() -> str:
    """Return the User-Agent header, shortened and printable."""
    text = request.headers.get("User-Agent", "")[:MAX_USER_AGENT]
    return "".join(each if each.isprintable() else "?" for each in text)


def before_waiting() -> None:
    """Let another thread serve the other requests: this one will wait, for longer than a read."""
    if has_request_context() and (call := request.environ.get(BEFORE_WAITING)):
        call()


def client_disconnected() -> bool:
    """Tell whether the client has closed its connection, where gunicorn passes on its socket.

    A client that has closed only its sending half counts, too, as it does for nginx.
    """
    sock = request.environ.get("gunicorn.socket") if has_request_context() else None
    try:
        return sock is not None and sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:  # connected, and has sent nothing
        return False
    except OSError:
        return True
