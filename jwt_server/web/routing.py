"""How routes are declared: the blueprint with our parser, ids in paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar, cast

from flask import Flask, Response
from flask_smorest import Blueprint as SmorestBlueprint
from marshmallow import Schema
from werkzeug.routing import BaseConverter, IntegerConverter

from jwt_server.errors import (
    BodyTooLarge,
    InvalidFields,
    MalformedBody,
    ServiceError,
    UnsupportedBody,
)
from jwt_server.security import refresh_tokens
from jwt_server.security.primitives import ID_PATTERN
from jwt_server.web import openapi, parsing
from jwt_server.web.responses import json_response

View = TypeVar("View", bound=Callable[..., Any])


class Blueprint(SmorestBlueprint):  # type: ignore[misc]  # flask-smorest is not typed
    """flask-smorest's blueprint: what a route takes and gives, declared once, for the
    checking of requests as for the API's description.
    """

    ARGUMENTS_PARSER = parsing.Parser()

    def __init__(self, name: str, import_name: str, *, description: str) -> None:
        super().__init__(name, import_name, description=description)
        # Ours describes what is ours; pages and ETags of flask-smorest are not used.
        self._prepare_doc_cbks = [self._describe_request, self._prepare_response_doc, _describe]

    def route(self, rule: str, **options: Any) -> Callable[[View], View]:
        """Register a view for a path."""
        decorator: Callable[[View], View] = super().route(rule, **options)
        return lambda view: decorator(openapi.named(view))

    def arguments(self, schema: type[Schema], *, query: bool = False) -> Callable[[View], View]:
        """Hand the body, or the query string, checked by the schema, to the view."""
        parse = super().arguments(schema, location="query" if query else parsing.LOCATION)
        refusals: list[type[ServiceError]] = [InvalidFields]
        if not query:
            refusals += [BodyTooLarge, MalformedBody]
        if not query and not parsing.takes_any_content_type(schema):
            refusals += [UnsupportedBody]
        note = openapi.refuses(*refusals)
        return lambda view: note(parse(view))

    def response(
        self,
        status_code: int,
        schema: Schema | type[Schema] | openapi.Json | None = None,
        *,
        content_type: str | None = None,
        headers: Iterable[str] = (),
    ) -> Callable[[View], View]:
        """Shape what the view returns by the schema; a Response goes out as it is.

        `headers` are those of openapi.HEADERS that come along.
        """
        described = {name: openapi.header_doc(name) for name in ("X-Request-ID", *headers)}
        describe = super().response(
            status_code, schema, content_type=content_type, headers=described
        )
        dump = _dump_of(schema)

        def decorator(view: View) -> View:
            # Of flask-smorest's own wrapper just the facts are kept: what it does takes 20 µs.
            @wraps(describe(view))
            def shaped(*args: Any, **kwargs: Any) -> Response:
                given = view(*args, **kwargs)
                if isinstance(given, Response):
                    return given
                content, more = given if isinstance(given, tuple) else (given, {})
                response = json_response(dump(content))
                response.status_code = status_code
                response.headers.extend(more)
                return response

            return cast("View", shaped)

        return decorator

    def _describe_request(
        self, doc: openapi.Json, facts: openapi.Json, **_kwargs: Any
    ) -> openapi.Json:
        for argument in facts.get("arguments", {}).get("parameters", ()):
            if argument["in"] == parsing.LOCATION:
                doc["requestBody"] = openapi.body_doc(argument["schema"])
            else:
                doc.setdefault("parameters", []).append(argument)
        return doc


def _dump_of(schema: Schema | type[Schema] | openapi.Json | None) -> Callable[[Any], Any]:
    """What makes JSON's values of what a view returns."""
    if isinstance(schema, type):
        schema = schema()
    return schema.dump if isinstance(schema, Schema) else lambda content: content


def _describe(doc: openapi.Json, facts: openapi.Json, **_kwargs: Any) -> openapi.Json:
    doc["operationId"] = facts["name"]
    doc["responses"] |= openapi.refusals_doc(facts.get("refusals", ()))
    doc["security"] = facts.get("security", [])
    return doc


class IdConverter(IntegerConverter):
    """An id in a path: one spelling for each, and no more than the database can hold."""

    regex = ID_PATTERN


class SessionConverter(BaseConverter):
    """The id of a session in a path."""

    regex = refresh_tokens.SESSION_ID


def init_app(app: Flask) -> None:
    """Set the app's rules for paths; comes before the blueprints."""
    app.url_map.converters["id"] = IdConverter
    app.url_map.converters["session"] = SessionConverter
    app.url_map.strict_slashes = False  # a trailing slash matches, without a redirect
    app.url_map.merge_slashes = False
