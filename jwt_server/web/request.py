"""What holds for every request: who asks from where, and CORS."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Final, cast

from flask import Flask, Response, has_request_context, request
from flask_cors import CORS

from jwt_server.web.addresses import address_of
from jwt_server.web.middleware import METHODS, RULE
from jwt_server.web.responses import PlainResponse

EXPOSED_HEADERS: Final = ("Link", "Location", "Retry-After", "WWW-Authenticate", "X-Request-ID")
MAX_USER_AGENT: Final = 200
A_DAY: Final = 24 * 60 * 60


def init_app(app: Flask, origins: tuple[str, ...]) -> None:
    """Hook all of it into the app. `origins` are those of `CORS_ORIGINS`."""
    any_origin = origins == ("*",)
    add_cors_headers = _cors(app, origins, any_origin=any_origin)
    app.before_request(_begin)

    @app.after_request
    def finish(response: Response) -> Response:
        if "HTTP_ORIGIN" in request.environ:
            add_cors_headers(response)
        if not any_origin:
            response.vary.add("Origin")
        return response


def _cors(
    app: Flask, origins: tuple[str, ...], *, any_origin: bool
) -> Callable[[Response], Response]:
    """What adds the CORS headers to a response to a request with `Origin`."""
    CORS(
        app,
        origins="*" if any_origin else [_exactly(origin) for origin in origins],
        send_wildcard=any_origin,
        always_send=False,
        vary_header=False,  # `finish` adds it, also where the request had no Origin
        methods=METHODS,
        expose_headers=EXPOSED_HEADERS,
        max_age=A_DAY,
    )
    # flask-cors would look for something to do after each request, most of which have no Origin.
    return cast("Callable[[Response], Response]", app.after_request_funcs[None].pop())


def _exactly(origin: str) -> re.Pattern[str]:
    """Match just this origin: flask-cors takes text with an IPv6 bracket for an expression."""
    return re.compile(re.escape(origin) + r"\Z")


def client_address(trusted: int) -> str:
    """This request's, as `address_of` tells it."""
    return address_of(request.environ, trusted)


def user_agent() -> str:
    """What the client calls itself, as far as it fits and can be stored."""
    told = request.headers.get("User-Agent", "")[:MAX_USER_AGENT]
    return "".join(each if each.isprintable() else "?" for each in told)


def client_has_left() -> bool:
    """Whether the client has hung up, as far as can be known: gunicorn hands on its socket.

    One that has only said that it sends no more counts as gone, as it does for nginx.
    """
    sock = request.environ.get("gunicorn.socket") if has_request_context() else None
    if sock is None:
        return False
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"")
    except (BlockingIOError, ValueError):  # nothing to read; gunicorn's own TLS, which can't look
        return False
    except OSError:
        return True


def _begin() -> Response | None:
    """Note the route, and answer a CORS preflight on any path; flask-cors adds the headers."""
    environ = request.environ
    environ[RULE] = request.url_rule
    is_preflight = (
        environ["REQUEST_METHOD"] == "OPTIONS"
        and "HTTP_ORIGIN" in environ
        and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
    )
    return PlainResponse(status=204) if is_preflight else None
