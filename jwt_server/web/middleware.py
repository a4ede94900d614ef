"""What is put around each answer, whatever has made it: the request's id, the headers that hold
everywhere, the log line, the count.

WSGI middleware rather than Flask's hooks, as it costs 3 µs a request there and 20 here.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from flask import Flask

from jwt_server.metrics import Metrics
from jwt_server.web.addresses import address_of

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

# A request's line in the log: method, route, status, code, time, user and address.
LINE: Final = "%s %s %s %s %.1f ms user=%s from=%s"

# Where the request's facts are kept, in the request's environment.
ID: Final = "jwt_server.request_id"
"""The client's own where it is harmless in a log, else a fresh one."""
RULE: Final = "jwt_server.rule"
USER: Final = "jwt_server.user_id"
"""Set where somebody is signed in, or signs in."""
CODE: Final = "jwt_server.code"
"""Set where the request is refused: the stable code of the refusal."""


class RequestMiddleware:
    """The application within, and what goes around each of its answers."""

    def __init__(self, within: WSGIApplication, metrics: Metrics, trusted_proxies: int) -> None:
        self.within = within
        self.metrics = metrics
        self.trusted_proxies = trusted_proxies

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
            self._tell(environ, answered, time.perf_counter() - started)

    def _tell(self, environ: WSGIEnvironment, status: str, seconds: float) -> None:
        """Log and count the request. Nothing that a client made up is told: of the path just the
        route, of the method just a known one.
        """
        rule, code = environ.get(RULE), environ.get(CODE)
        method, route = environ["REQUEST_METHOD"], rule.rule if rule else "-"
        if method not in METHODS:
            method = "-"
        self.metrics.count(method, route, status, code, seconds)
        if not log.isEnabledFor(logging.INFO):
            return
        address = address_of(environ, self.trusted_proxies)
        told = (method, route, status, code, seconds * 1000, environ.get(USER), address)
        # Made by hand: `log.info` would look for the file and line that it is called from.
        record = logging.LogRecord(log.name, logging.INFO, "", 0, LINE, told, None)
        record.request_id = environ[ID]
        log.handle(record)


def init_app(app: Flask, metrics: Metrics, trusted_proxies: int) -> None:
    """Put the envelope around the app."""
    app.wsgi_app = RequestMiddleware(app.wsgi_app, metrics, trusted_proxies)  # type: ignore[method-assign]  # as Flask's docs do
