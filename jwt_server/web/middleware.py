"""WSGI middleware for every response: request ID, client address, headers, access log, metrics.

WSGI rather than Flask's hooks, as those cost several times as much per request.
"""

import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask

from jwt_server.config import Settings
from jwt_server.metrics import Metrics

log = logging.getLogger("jwt_server.access")

REQUEST_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)

FIXED_HEADERS: Final = (("Referrer-Policy", "no-referrer"), ("X-Content-Type-Options", "nosniff"))

# A browser that shows a response runs nothing in it.
CLOSED_POLICY: Final = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

# Unless the route sets its own, as pages do.
DEFAULT_HEADERS: Final = (("Cache-Control", "no-store"), ("Content-Security-Policy", CLOSED_POLICY))

METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

# Method, route, status, code, time, user, address.
LINE: Final = "%s %s %s %s %.1f ms user=%s from=%s"

# Ignored if longer: parsers take much time for them, and the third is echoed.
MAX_CHARACTERS: Final = 1024
SHORT_HEADERS: Final = (
    "CONTENT_TYPE", "HTTP_ACCEPT", "HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "HTTP_IF_NONE_MATCH",
)  # fmt: skip

# Keys of the request's environment.
ID: Final = "jwt_server.request_id"
CLIENT_ADDRESS: Final = "jwt_server.client_address"
RULE: Final = "jwt_server.rule"
USER: Final = "jwt_server.user_id"
"""Set if a user is signed in or signs in."""
CODE: Final = "jwt_server.code"
"""Set to the code of an error response."""


class RequestMiddleware:
    """Wraps a WSGI application (PEP 3333)."""

    def __init__(self, app: WSGIApplication, metrics: Metrics, settings: Settings) -> None:
        self.app = app
        self.metrics = metrics
        self.trusted_proxies = settings.trusted_proxies
        self.script_name = settings.script_name

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle one request."""
        started = time.perf_counter()
        offered = environ.get("HTTP_X_REQUEST_ID", "")
        environ[ID] = offered if REQUEST_ID_PATTERN.fullmatch(offered) else secrets.token_hex(16)
        environ[CLIENT_ADDRESS] = address_of(environ, self.trusted_proxies)
        for name in SHORT_HEADERS:
            if len(environ.get(name, "")) > MAX_CHARACTERS:
                del environ[name]
        if self.script_name:  # which a proxy may have removed, and health checks don't have
            environ["SCRIPT_NAME"] = self.script_name
            if environ["PATH_INFO"].startswith(f"{self.script_name}/"):
                environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(self.script_name)
        sent_status = "-"

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            nonlocal sent_status
            sent_status = status[:3]
            names = {name for name, _ in headers}
            headers += [header for header in DEFAULT_HEADERS if header[0] not in names]
            headers += FIXED_HEADERS
            headers.append(("X-Request-ID", environ[ID]))
            return start_response(status, headers, *exc_info)

        try:
            return self.app(environ, start)
        finally:
            self._record(environ, sent_status, time.perf_counter() - started)

    def _record(self, environ: WSGIEnvironment, status: str, seconds: float) -> None:
        """Count and log the request; of what the client sent, only a known route and method."""
        rule, code = environ.get(RULE), environ.get(CODE)
        method, route = environ["REQUEST_METHOD"], rule.rule if rule else "-"
        if method not in METHODS:
            method = "-"
        self.metrics.count(method, route, status, code, seconds)
        is_healthy = status == "200" and route in ("/healthz", "/readyz")
        if is_healthy or not log.isEnabledFor(logging.INFO):  # probes would fill the log
            return
        user, address = environ.get(USER), environ[CLIENT_ADDRESS]
        values = (method, route, status, code, seconds * 1000, user, address)
        # `log.info` would look for the file and line of its caller.
        record = logging.LogRecord(log.name, logging.INFO, "", 0, LINE, values, None)
        record.request_id = environ[ID]
        log.handle(record)


def address_of(environ: WSGIEnvironment, trusted_proxies: int) -> str:
    """Return the client's IP address in canonical form, or an empty string if it is unknown.

    Each proxy appends its client's address to X-Forwarded-For. So the client's is that many
    entries from the end; it can make up only the entries before. Fewer entries are not believed.
    """
    if not trusted_proxies:
        return _canonical(environ.get("REMOTE_ADDR") or "")
    forwarded = environ.get("HTTP_X_FORWARDED_FOR", "").rsplit(",", trusted_proxies)
    entry = forwarded[-trusted_proxies] if trusted_proxies <= len(forwarded) else ""
    return _canonical(entry[:100])  # what is cached has a limit


@lru_cache(4096)
def _canonical(text: str) -> str:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return ""
    if getattr(address, "scope_id", None) is not None:  # any text, with a meaning on one host only
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def init_app(app: Flask, metrics: Metrics, settings: Settings) -> None:
    """Wrap the app in the middleware."""
    app.wsgi_app = RequestMiddleware(app.wsgi_app, metrics, settings)  # type: ignore[method-assign]  # as Flask's docs do
