"""WSGI middleware for every response: request ID, client address, headers, access log, metrics.

WSGI rather than Flask's hooks, as those cost several times as much per request.
"""

import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, lru_cache
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

# `203.0.113.9:443`, `[2001:db8::1]:443` and `[2001:db8::1]`.
ADDRESS_WITH_PORT: Final = re.compile(
    r"([0-9.]+):[0-9]{1,5}|\[([0-9a-f:.]+)\](?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE
)
NOT_IN_ADDRESSES: Final = re.compile(r'[^0-9A-Fa-f.:,\[\]" ]')
WARNING_SECONDS: Final = 60

VARIABLE: Final = re.compile(r"<(?:(\w+)(?:\(.*?\))?:)?(\w+)>")
"""A variable in a Flask rule: its converter, if any, and its name."""

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
SIGN_IN: Final = "jwt_server.sign_in"
"""Set if a password is checked to sign in."""
CODE: Final = "jwt_server.code"
"""Set to the code of an error response."""
BEFORE_WAITING: Final = "jwt_server.before_waiting"
"""gunicorn's worker sets this to a function that lets another thread lead."""


@dataclass
class RequestMiddleware:
    """Wraps a WSGI application (PEP 3333)."""

    app: WSGIApplication
    metrics: Metrics
    settings: Settings
    clock: Callable[[], float]
    _warned_at: float = field(default=0.0, init=False)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle one request."""
        started = time.perf_counter()
        offered = environ.get("HTTP_X_REQUEST_ID", "")
        environ[ID] = offered if REQUEST_ID_PATTERN.fullmatch(offered) else secrets.token_hex(16)
        environ[CLIENT_ADDRESS] = self._client_address(environ)
        for name in SHORT_HEADERS:
            if len(environ.get(name, "")) > MAX_CHARACTERS:
                del environ[name]
        prefix = self.settings.script_name
        if prefix:  # which a proxy may have removed, and health checks don't have
            environ["SCRIPT_NAME"] = prefix
            if environ["PATH_INFO"].startswith(f"{prefix}/"):
                environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(prefix)
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

    def _client_address(self, environ: WSGIEnvironment) -> str:
        """Return the client's IP address, or that of the connection if it is unknown.

        Each proxy appends its client's address to X-Forwarded-For. So the client's is that many
        entries from the end; it can make up only the entries before. Fewer are not believed.
        """
        peer = parse_address(environ.get("REMOTE_ADDR") or "")
        proxies = self.settings.trusted_proxies
        if not proxies:
            return peer
        forwarded = environ.get("HTTP_X_FORWARDED_FOR", "")
        entries = ["", *forwarded.rsplit(",", proxies)]
        address = parse_address(entries[-min(proxies, len(entries))])
        if not address and (forwarded or environ["REQUEST_METHOD"] not in ("GET", "HEAD")):
            self._warn(forwarded, peer, environ[ID])  # a read without it is perhaps a health check
        return address or peer

    def _warn(self, forwarded: str, peer: str, request_id: str) -> None:
        """Log once a minute that the client's address is missing, without any text of a client."""
        now = self.clock()
        if 0 <= now - self._warned_at < WARNING_SECONDS:
            return
        self._warned_at = now
        shown = NOT_IN_ADDRESSES.sub("?", forwarded[-100:])
        text = "no client address in X-Forwarded-For %r (TRUSTED_PROXIES=%d): %s counts"
        values = (shown, self.settings.trusted_proxies, peer or "an unknown address")
        logging.getLogger(__name__).warning(text, *values, extra={"request_id": request_id})

    def _record(self, environ: WSGIEnvironment, status: str, seconds: float) -> None:
        """Count and log the request; of what the client sent, only a known route and method."""
        rule, code = environ.get(RULE), environ.get(CODE)
        method, route = environ["REQUEST_METHOD"], openapi_path(rule.rule) if rule else "-"
        if method not in METHODS:
            method = "-"
        self.metrics.count(method, route, status, code, seconds, is_sign_in=SIGN_IN in environ)
        is_healthy = status == "200" and route in ("/healthz", "/readyz")
        if is_healthy or not log.isEnabledFor(logging.INFO):  # probes would fill the log
            return
        user, address = environ.get(USER), environ[CLIENT_ADDRESS]
        values = (method, route, status, code, seconds * 1000, user, address)
        # `log.info` would look for the file and line of its caller.
        record = logging.LogRecord(log.name, logging.INFO, "", 0, LINE, values, None)
        record.request_id = environ[ID]
        log.handle(record)


@cache
def openapi_path(rule: str) -> str:
    """Return a Flask rule as OpenAPI writes it: `/pets/{pet_id}`."""
    return VARIABLE.sub(r"{\2}", rule)


def parse_address(text: str) -> str:
    """Return an IP address in canonical form, without its port, or "" if the text is none."""
    return _canonical(text.strip(' \t"')[:100])  # what is cached has a limit


@lru_cache(4096)
def _canonical(text: str) -> str:
    if match := ADDRESS_WITH_PORT.fullmatch(text):
        text = match[1] or match[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if getattr(address, "scope_id", None) is not None:  # any text, with a meaning on one host only
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def init_app(app: Flask, metrics: Metrics, settings: Settings, clock: Callable[[], float]) -> None:
    """Wrap the app in the middleware."""
    app.wsgi_app = RequestMiddleware(app.wsgi_app, metrics, settings, clock)  # type: ignore[method-assign]  # as Flask's docs do
