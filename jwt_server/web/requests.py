"""What holds for every request and response: its id, its headers, CORS, its log line."""

from __future__ import annotations

import logging
import re
import time
from typing import Final
from uuid import uuid4

from flask import Flask, Response, g, request
from flask_cors import CORS

from jwt_server.web.responses import PlainResponse

log = logging.getLogger("jwt_server.access")

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)

# No page is served from here: a browser that shows one of our answers must run nothing in it.
SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

EXPOSED_HEADERS: Final = ("Link", "Location", "Retry-After", "WWW-Authenticate", "X-Request-ID")
METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
MAX_USER_AGENT: Final = 200
A_DAY: Final = 24 * 60 * 60


def register(app: Flask, origins: tuple[str, ...]) -> None:
    """Hook all of it into the app. `origins` are those of `CORS_ORIGINS`."""
    any_origin = origins == ("*",)
    app.before_request(_begin)
    app.before_request(_answer_preflight)

    @app.after_request
    def finish(response: Response) -> Response:
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["X-Request-ID"] = request_id()
        if not any_origin:
            response.vary.add("Origin")
        _log(response)
        return response

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


def _exactly(origin: str) -> re.Pattern[str]:
    """Match just this origin: flask-cors takes text with an IPv6 bracket for an expression."""
    return re.compile(re.escape(origin) + r"\Z")


def request_id() -> str:
    """This request's id: the client's own where it is harmless in a log, else a fresh one."""
    if "request_id" not in g:
        offered = request.headers.get("X-Request-ID", "")
        g.request_id = offered if REQUEST_ID.fullmatch(offered) else uuid4().hex
    return str(g.request_id)


def client_address() -> str:
    """The address that the request came from."""
    return request.remote_addr or ""


def user_agent() -> str:
    """What the client calls itself, as far as it fits and can be stored."""
    told = request.headers.get("User-Agent", "")[:MAX_USER_AGENT]
    return "".join(each if each.isprintable() else "?" for each in told)


def _begin() -> None:
    g.started = time.perf_counter()


def _answer_preflight() -> Response | None:
    """Answer a CORS preflight on any path; flask-cors adds the headers to it."""
    is_preflight = (
        request.method == "OPTIONS"
        and "Origin" in request.headers
        and "Access-Control-Request-Method" in request.headers
    )
    return PlainResponse(status=204) if is_preflight else None


def _log(response: Response) -> None:
    # The route, not the path: what a client put into the path stays out of the log.
    route = request.url_rule.rule if request.url_rule else "-"
    started = g.get("started", time.perf_counter())  # missing where a hook before ours failed
    milliseconds = (time.perf_counter() - started) * 1000
    method = request.method if request.method in METHODS else "-"
    log.info("%s %s %d %.1f ms", method, route, response.status_code, milliseconds)
