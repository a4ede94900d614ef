"""How routes are declared: the blueprint with our parser, ids in paths, JSON as we write it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from flask import Flask
from flask.json.provider import DefaultJSONProvider
from flask_smorest import Blueprint as SmorestBlueprint
from marshmallow import Schema, fields
from werkzeug.routing import IntegerConverter
from werkzeug.sansio.response import Response

from jwt_server import ids
from jwt_server.web import bodies

View = TypeVar("View", bound=Callable[..., Any])


class Blueprint(SmorestBlueprint):  # type: ignore[misc]  # flask-smorest is not typed
    """flask-smorest's blueprint: what a route takes and gives, declared once, for the
    checking of requests as for the API's description.
    """

    ARGUMENTS_PARSER = bodies.Parser()

    def route(self, rule: str, **options: Any) -> Callable[[View], View]:
        """Register a view for a path."""
        decorator: Callable[[View], View] = super().route(rule, **options)
        return decorator

    def arguments(
        self, schema: type[Schema], *, location: str = "json_or_form", **options: Any
    ) -> Callable[[View], View]:
        """Hand what the client sent, checked by the schema, to the view as an argument."""
        decorator: Callable[[View], View] = super().arguments(schema, location=location, **options)
        return decorator

    def response(
        self, status_code: int, schema: Schema | type[Schema] | None = None, **options: Any
    ) -> Callable[[View], View]:
        """Shape what the view returns by the schema; a Response goes out as it is."""
        decorator: Callable[[View], View] = super().response(status_code, schema, **options)
        return decorator


class IdConverter(IntegerConverter):
    """An id in a path: one spelling for each, and no more than the database can hold."""

    regex = ids.PATTERN


class Timestamp(fields.Field[int]):
    """A Unix time in the database, ISO 8601 in UTC outside."""

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **kwargs: Any) -> str:
        return datetime.fromtimestamp(cast("int", value), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
    """Set the app's rules for paths, bodies and JSON; comes before the blueprints."""
    app.json = CompactJSON(app)
    bodies.register(app)
    app.url_map.converters["id"] = IdConverter
    app.url_map.strict_slashes = False  # a trailing slash matches, without a redirect
    app.url_map.merge_slashes = False
