"""How answers are written: no content type that nobody set, JSON compact and in UTF-8."""

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

USUAL: Final = frozenset({200, 401, 403, 422})
"""Statuses of answers with a body, whose length is known when it is set."""

NULL_SESSION: Final = NullSession()

# Made once: `json.dumps` makes an encoder for each text that is not in its own default form.
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), default=DefaultJSONProvider.default
).encode


class PlainResponse(FlaskResponse):
    """A response that claims no content type where nobody set one; Flask's own says HTML."""

    default_mimetype = None

    def get_wsgi_response(
        self, environ: WSGIEnvironment
    ) -> tuple[Iterable[bytes], str, list[tuple[str, str]]]:
        """What goes to the server. Werkzeug's own looks for what an answer may need, 10 µs long;
        one that is whole, and of a usual kind, needs nothing.
        """
        if (
            self.is_sequence
            and environ["REQUEST_METHOD"] in ("GET", "POST")
            and self.status_code in USUAL
            and "Content-Length" in self.headers  # the body was set as a whole, as bytes
            and "Location" not in self.headers
            and not self._on_close
        ):
            return cast("list[bytes]", self.response), self.status, self.headers.to_wsgi_list()
        return super().get_wsgi_response(environ)


class NoSessions(SessionInterface):
    """Flask keeps no session of its own here, so no cookie is read or set."""

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        """Nothing, whatever cookies came."""
        return NULL_SESSION

    def save_session(self, app: Flask, session: SessionMixin, response: FlaskResponse) -> None:
        """Never a cookie."""


class CompactJSON(DefaultJSONProvider):
    """JSON in UTF-8 without spaces, in the order given, and without a newline at the end."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """One compact JSON text."""
        return super().dumps(obj, **kwargs) if kwargs else _encode(obj)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """The text as a response."""
        return json_response(self._prepare_response_obj(args, kwargs))


def json_response(content: Any) -> PlainResponse:
    """An answer of JSON; as Flask's `jsonify`, but for the ways that one can be called."""
    return PlainResponse(_encode(content), content_type="application/json")


class App(Flask):
    """Flask with our way to write answers."""

    response_class = PlainResponse
    json_provider_class = CompactJSON
    session_interface = NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself: none here is a coroutine, so none is looked at for being one."""
        return func
