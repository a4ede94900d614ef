"""How answers are written: no content type that nobody set, JSON compact and in UTF-8."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask import Response as FlaskResponse
from flask.json.provider import DefaultJSONProvider
from werkzeug.sansio.response import Response


class PlainResponse(FlaskResponse):
    """A response that claims no content type where nobody set one; Flask's own says HTML."""

    default_mimetype = None


class CompactJSON(DefaultJSONProvider):
    """JSON in UTF-8 without spaces, in the order given, and without a newline at the end."""

    ensure_ascii = False
    sort_keys = False

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """One compact JSON text."""
        return super().dumps(obj, **{"separators": (",", ":")} | kwargs)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """The text as a response."""
        text = self.dumps(self._prepare_response_obj(args, kwargs))
        return self._app.response_class(text, mimetype="application/json")


def register(app: Flask) -> None:
    """Have the app answer so."""
    app.response_class = PlainResponse
    app.json = CompactJSON(app)
