"""How routes are declared: the blueprint with our parser, ids in paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask
from flask_smorest import Blueprint as SmorestBlueprint
from marshmallow import Schema
from werkzeug.routing import IntegerConverter

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


def register(app: Flask) -> None:
    """Set the app's rules for paths; comes before the blueprints."""
    app.url_map.converters["id"] = IdConverter
    app.url_map.strict_slashes = False  # a trailing slash matches, without a redirect
    app.url_map.merge_slashes = False
