"""Responses without a default content type, and compact JSON in UTF-8."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, cast

from flask import Flask, Request
from flask import Response as FlaskResponse
from flask.json.provider import DefaultJSONProvider
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.sansio.response import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

FAST_STATUSES: Final = frozenset({200, 401, 403, 422})

NULL_SESSION: Final = NullSession()

# Created once: `json.dumps` creates an encoder per call for all but its default format.
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), default=DefaultJSONProvider.default
).encode


class PlainResponse(FlaskResponse):
    """A response without a content type unless one is set; Flask's default is HTML."""

    default_mimetype = None

    def get_wsgi_response(
        self, environ: WSGIEnvironment
    ) -> tuple[Iterable[bytes], str, list[tuple[str, str]]]:
        """Return body, status and headers, skipping Werkzeug's checks for a plain response."""
        if (
            self.is_sequence
            and environ["REQUEST_METHOD"] in ("GET", "POST")
            and self.status_code in FAST_STATUSES
            and "Content-Length" in self.headers  # the body was set as a whole, as bytes
            and "Location" not in self.headers
            and not self._on_close
        ):
            return cast("list[bytes]", self.response), self.status, self.headers.to_wsgi_list()
        return super().get_wsgi_response(environ)


class NoSessions(SessionInterface):
    """No Flask sessions: no cookie is ever read or set."""

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        """Return an empty session."""
        return NULL_SESSION

    def save_session(self, app: Flask, session: SessionMixin, response: FlaskResponse) -> None:
        """Do nothing."""


class CompactJSON(DefaultJSONProvider):
    """JSON in UTF-8 without white space, members in the order given."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """Serialize to compact JSON."""
        return super().dumps(obj, **kwargs) if kwargs else _encode(obj)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """Return a JSON response, for `jsonify`."""
        return json_response(self._prepare_response_obj(args, kwargs))


def json_response(content: Any) -> PlainResponse:
    """Return a JSON response."""
    return PlainResponse(_encode(content), content_type="application/json")


class App(Flask):
    """Flask with these responses."""

    response_class = PlainResponse
    json_provider_class = CompactJSON
    session_interface = NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function: none is a coroutine, so no call has to check for one."""
        return func
