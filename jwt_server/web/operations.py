"""Decorators that declare what a route accepts, returns and raises.

Each does its part of the request and notes it for the OpenAPI document (web/openapi.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final, TypeVar

from flask import Response, request
from marshmallow import Schema
from werkzeug.http import HTTP_STATUS_CODES

from jwt_server.errors import (
    BodyTooLarge,
    InvalidFields,
    MalformedBody,
    ServiceError,
    UnsupportedBody,
)
from jwt_server.web import parsing
from jwt_server.web.responses import PlainResponse, json_response

View = TypeVar("View", bound=Callable[..., Any])
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
ResponseSchema = Schema | type[Schema] | dict[str, Any] | None

JSON: Final = "application/json"


@dataclass
class Operation:
    """What the decorators of a view have declared."""

    body: type[Schema] | None = None
    query: type[Schema] | None = None
    responses: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Those without an error by status: as OpenAPI has them, with schemas of marshmallow."""
    errors: set[tuple[int, type[ServiceError]]] = field(default_factory=set)
    """With the status of each, which a route may change."""
    security: list[dict[str, list[str]]] = field(default_factory=list)


def operation_of(view: Callable[..., Any]) -> Operation:
    """Return the view's operation, shared with the functions that wrap it."""
    operation: Operation = view.__dict__.setdefault("operation", Operation())
    return operation


def accepts(schema: type[Schema], *, any_content_type: bool = False) -> Decorator:
    """Pass the body, JSON or a form, to the view as loaded by the schema.

    With `any_content_type` a body of another type counts as one without fields.
    """
    errors = [InvalidFields, BodyTooLarge, MalformedBody, UnsupportedBody]
    if any_content_type:
        errors.remove(UnsupportedBody)

    def decorator(view: Callable[..., Any]) -> Callable[..., Any]:
        operation_of(view).body = schema
        return raises(*errors)(_passing(view, schema, read))

    def read() -> dict[str, Any]:
        return parsing.read_body(request, any_content_type=any_content_type)

    return decorator


def accepts_query(schema: type[Schema]) -> Decorator:
    """Pass the query string to the view as loaded by the schema."""

    def decorator(view: Callable[..., Any]) -> Callable[..., Any]:
        operation_of(view).query = schema
        return raises(InvalidFields)(_passing(view, schema, read))

    def read() -> dict[str, Any]:
        return parsing.unique(request.args.items(multi=True))

    return decorator


def _passing(
    view: Callable[..., Any], schema: type[Schema], read: Callable[[], dict[str, Any]]
) -> Callable[..., Any]:
    loader = schema()

    @wraps(view)
    def parsing_view(*args: Any, **kwargs: Any) -> Any:
        return view(*args, parsing.load(loader, read()), **kwargs)

    return parsing_view


def returns(
    status: int,
    schema: ResponseSchema = None,
    *,
    content_type: str = JSON,
    headers: Iterable[str] = (),
) -> Decorator:
    """Make a response of what the view returns: a value for the schema, or that and headers.

    Without a schema the body is empty. A Response is sent as it is. `headers` are names in
    openapi.toml.
    """
    serializer = schema() if isinstance(schema, type) else schema
    dump: Callable[[Any], Any] = getattr(serializer, "dump", lambda content: content)

    def decorator(view: Callable[..., Any]) -> Callable[..., Response]:
        @wraps(view)
        def responding(*args: Any, **kwargs: Any) -> Response:
            result = view(*args, **kwargs)
            if isinstance(result, Response):
                return result
            if schema is None:
                return PlainResponse(status=status)
            content, more = result if isinstance(result, tuple) else (result, {})
            response = json_response(dump(content))
            response.status_code = status
            response.headers.extend(more)
            return response

        responses = operation_of(responding).responses
        response = responses.setdefault(status, response_doc(status, headers))
        if schema is not None:
            response.setdefault("content", {})[content_type] = {"schema": schema}
        return responding

    return decorator


def response_doc(status: int, headers: Iterable[str], description: str = "") -> dict[str, Any]:
    """Describe a response; `headers` are names in openapi.toml."""
    names = ("X-Request-ID", *headers)
    return {
        "description": description or HTTP_STATUS_CODES[status],
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }


def raises(*errors: type[ServiceError], status: int | None = None) -> Callable[[View], View]:
    """Document the errors that a view raises, with another status than theirs if given."""

    def decorator(view: View) -> View:
        operation_of(view).errors |= {(status or error.status, error) for error in errors}
        return view

    return decorator


def takes_token(*, optional: bool = False) -> Callable[[View], View]:
    """Document that a view takes an access token."""

    def decorator(view: View) -> View:
        operation_of(view).security = [{"bearer": []}, *([{}] if optional else [])]
        return view

    return decorator
