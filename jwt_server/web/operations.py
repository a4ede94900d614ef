"""Decorators that declare what a route accepts, returns and raises.

Each does its part of the request and notes it for the OpenAPI document (web/openapi.py).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, Final, TypeVar

from flask import Response
from marshmallow import EXCLUDE, Schema
from werkzeug.http import HTTP_STATUS_CODES

from jwt_server import errors
from jwt_server.web import parsing
from jwt_server.web.responses import PlainResponse, json_response

View = TypeVar("View", bound=Callable[..., Any])
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

JSON: Final = "application/json"


@dataclass
class Operation:
    """What the decorators of a view have declared."""

    request: dict[str, Any] = field(default_factory=dict)
    """OpenAPI's `requestBody` and `parameters`, with marshmallow's schemas."""
    responses: dict[int, dict[str, Any]] = field(default_factory=dict)
    """OpenAPI's description of each success status, with marshmallow's schemas."""
    raised: set[tuple[int, type[errors.ServiceError]]] = field(default_factory=set)
    """With the status of each, which a route may change."""
    security: list[dict[str, list[str]]] = field(default_factory=list)


def operation_of(view: Callable[..., Any]) -> Operation:
    """Return the view's operation, which the functions that wrap it share."""
    operation: Operation = view.__dict__.setdefault("operation", Operation())
    return operation


def accepts(
    schema: type[Schema],
    *,
    any_content_type: bool = False,
    described_as: dict[str, Any] | None = None,
) -> Decorator:
    """Pass the body, JSON or a form, to the view as loaded by the schema.

    With `any_content_type` a body of another type counts as one without fields. It is described by
    one media type, JSON by default: openapi-python-client generates broken code for two.
    """
    loader = schema()
    read = partial(parsing.read_body, any_content_type=any_content_type)
    required = any(field.required for field in loader.fields.values())
    body = {"required": required, "content": described_as or {JSON: {"schema": schema}}}
    refusals = (errors.BodyTooLarge, errors.MalformedBody, errors.UnsupportedBody)
    return _load(loader, read, {"requestBody": body}, *refusals, errors.EncodedBody)


def accepts_query(schema: type[Schema]) -> Decorator:
    """Pass the query string to the view as loaded by the schema, without unknown parameters."""
    described = {"parameters": [{"in": "query", "schema": schema}]}
    return _load(schema(unknown=EXCLUDE), parsing.read_query, described)


def _load(
    loader: Schema,
    read: Callable[[], dict[str, Any]],
    described: dict[str, Any],
    *refusals: type[errors.ServiceError],
) -> Decorator:
    def decorator(view: Callable[..., Any]) -> Callable[..., Any]:
        @raises(errors.InvalidFields, *refusals)
        @wraps(view)
        def parsed(*args: Any, **kwargs: Any) -> Any:
            return view(*args, parsing.load(loader, read()), **kwargs)

        operation_of(parsed).request |= described
        return parsed

    return decorator


def returns(
    status: int,
    schema: Schema | type[Schema] | dict[str, Any] | None = None,
    *,
    content_type: str = JSON,
    headers: Iterable[str] = (),
) -> Decorator:
    """Make a response of what the view returns: content, content and headers, or a Response.

    A marshmallow schema serializes the content. A dict is a JSON schema and only describes it.
    Without a schema there is none. `headers` are names in openapi.toml.
    """
    serializer = schema() if isinstance(schema, type) else schema

    def decorator(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def responding(*args: Any, **kwargs: Any) -> Response:
            result = view(*args, **kwargs)
            if isinstance(result, Response):
                return result
            content, extra_headers = result if isinstance(result, tuple) else (result, {})
            if isinstance(serializer, Schema):
                response = json_response(serializer.dump(content), status)
            else:
                response = PlainResponse(content, status, mimetype=content_type if schema else None)
            response.headers.extend(extra_headers)
            return response

        responses = operation_of(responding).responses
        response = responses.setdefault(status, describe_response(status, headers))
        if schema is not None:
            response.setdefault("content", {})[content_type] = {"schema": schema}
        return responding

    return decorator


def describe_response(status: int, headers: Iterable[str], description: str = "") -> dict[str, Any]:
    """Describe a response for the OpenAPI document."""
    names = ("X-Request-ID", *headers)
    return {
        "description": description or HTTP_STATUS_CODES[status],
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }


def raises(*raised: type[errors.ServiceError], status: int | None = None) -> Callable[[View], View]:
    """Document the errors that a view raises, with another status than theirs if given."""

    def decorator(view: View) -> View:
        operation_of(view).raised |= {(status or error.status, error) for error in raised}
        return view

    return decorator
