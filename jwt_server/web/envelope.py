"""What is put around each answer, whatever has made it: the request's id, the headers that hold
everywhere, the log line.

WSGI middleware rather than Flask's hooks, as it costs 3 µs a request there and 20 here.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from flask import Flask, request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("jwt_server.access")

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)

FIXED_HEADERS: Final = (
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)

# Where the route has not said otherwise. A browser that shows one of our answers must run nothing
# in it, but for the pages, which say what.
DEFAULT_HEADERS: Final = (
    ("Cache-Control", "no-store"),
    (
        "Content-Security-Policy",
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
)

METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

LINE: Final = "%s %s %s %.1f ms"

# Where the request's facts are kept, in the request's environment.
ID: Final = "jwt_server.request_id"
RULE: Final = "jwt_server.rule"


class Envelope:
    """The application within, and what goes around each of its answers."""

    def __init__(self, within: WSGIApplication) -> None:
        self.within = within

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        started = time.perf_counter()
        offered = environ.get("HTTP_X_REQUEST_ID", "")
        environ[ID] = offered if REQUEST_ID.fullmatch(offered) else secrets.token_hex(16)
        answered = "-"

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            nonlocal answered
            answered = status[:3]
            there = {name for name, _ in headers}
            headers += [header for header in DEFAULT_HEADERS if header[0] not in there]
            headers += FIXED_HEADERS
            headers.append(("X-Request-ID", environ[ID]))
            return start_response(status, headers, *exc_info)

        try:
            return self.within(environ, start)
        finally:
            _log(environ, answered, time.perf_counter() - started)


def register(app: Flask) -> None:
    """Put the envelope around the app."""
    app.wsgi_app = Envelope(app.wsgi_app)  # type: ignore[method-assign]  # as Flask's docs do


def request_id() -> str:
    """This request's id: the client's own where it is harmless in a log, else a fresh one."""
    return str(request.environ[ID])


def _log(environ: WSGIEnvironment, status: str, seconds: float) -> None:
    if not log.isEnabledFor(logging.INFO):
        return
    # The route, not the path: what a client put into the path stays out of the log.
    rule = environ.get(RULE)
    method = environ["REQUEST_METHOD"]
    told = (
        method if method in METHODS else "-",
        rule.rule if rule else "-",
        status,
        seconds * 1000,
    )
    # Made by hand: `log.info` would look for the file and line that it is called from.
    record = logging.LogRecord(log.name, logging.INFO, "", 0, LINE, told, None)
    record.request_id = environ[ID]
    log.handle(record)
