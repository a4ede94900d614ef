"""How answers are written: no content type that nobody set, JSON compact and in UTF-8."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from flask import Flask
from flask import Response as FlaskResponse
from flask.json.provider import DefaultJSONProvider
from werkzeug.sansio.response import Response

# Made once: `json.dumps` makes an encoder for each text that is not in its own default form.
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), default=DefaultJSONProvider.default
).encode


class PlainResponse(FlaskResponse):
    """A response that claims no content type where nobody set one; Flask's own says HTML."""

    default_mimetype = None


class CompactJSON(DefaultJSONProvider):
    """JSON in UTF-8 without spaces, in the order given, and without a newline at the end."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """One compact JSON text."""
        return super().dumps(obj, **kwargs) if kwargs else _encode(obj)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """The text as a response."""
        text = self.dumps(self._prepare_response_obj(args, kwargs))
        return self._app.response_class(text, mimetype="application/json")


class App(Flask):
    """Flask with our way to write answers."""

    response_class = PlainResponse
    json_provider_class = CompactJSON

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself: none here is a coroutine, so none is looked at for being one."""
        return func
