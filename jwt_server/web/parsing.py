"""The one parser of what clients send: bodies as JSON or as a form, and the query string.

A route declares a schema once. The reading is strict: types are not coerced, nothing is
guessed, and what is wrong is refused with the name of the field. Limits and the order of
checks: 413 (too large), 415 (content type), 400 (unreadable), 422 (fields).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final, NoReturn
from urllib.parse import parse_qsl

from flask import Flask, Request
from marshmallow import RAISE, Schema, ValidationError
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import HTTPException

from jwt_server.errors import (
    MAX_BODY_BYTES,
    BodyTooLarge,
    InvalidFields,
    MalformedBody,
    UnsupportedBody,
)
from jwt_server.security.primitives import load_json
from jwt_server.web.fields import REPEATED

LOCATION: Final = "json_or_form"
"""What webargs calls a body that comes in either form."""

MOST_FINDINGS: Final = 20
"""How many fields an answer names at the most, so that it does not echo a body of thousands."""


class BodySchema(Schema):
    """Root of the schemas of bodies: an unknown field is an error (no mass assignment)."""

    any_content_type: ClassVar[bool] = False
    """Whether a body of a content type that we don't read counts as one without fields."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": "There is no such field."}  # noqa: RUF012 - marshmallow's


class Parser(FlaskParser):
    """webargs' parser for Flask, with our own reading of bodies and our own errors."""

    def load_json_or_form(self, req: Request, schema: Schema) -> Any:
        """The fields of the body, by its content type; no body at all has no fields."""
        body = _read(req)
        if req.mimetype == "application/json":
            return _json_object(body)
        if req.mimetype == "application/x-www-form-urlencoded":
            return _form(body)
        if takes_any_content_type(schema) or not (body or req.mimetype):
            return {}
        raise UnsupportedBody

    def load_querystring(self, req: Request, schema: Schema) -> Any:
        """The parameters of the query string."""
        return _once(req.args.items(multi=True))

    def handle_error(
        self, error: ValidationError, req: Request, schema: Schema, **kwargs: Any
    ) -> NoReturn:
        """Turn marshmallow's findings into ours, without the location that webargs adds."""
        [found] = error.normalized_messages().values()
        named = sorted(found.items())[:MOST_FINDINGS]
        raise InvalidFields({_printable(name): texts for name, texts in named}) from error


def takes_any_content_type(schema: Schema | type[Schema]) -> bool:
    """Whether a body that we don't read counts as one without fields."""
    return getattr(schema, "any_content_type", False)


def init_app(app: Flask) -> None:
    """Let no more be read than it takes to see that a body is too large.

    Werkzeug cuts a body without a length at its limit and says nothing, hence one byte more.
    """
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES + 1


def _read(req: Request) -> bytes:
    try:
        body = req.get_data()
    except HTTPException:
        raise
    except Exception as error:
        # Broken chunks, or a client that left: each server has its own exceptions for it.
        raise MalformedBody from error
    if len(body) > MAX_BODY_BYTES:
        raise BodyTooLarge
    if req.content_length not in (None, len(body)):
        raise MalformedBody("The body ends early.")  # gunicorn hands on what has come
    return body


def _json_object(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        value = load_json(body)
    except ValueError as error:
        raise MalformedBody(str(error)) from error
    if not isinstance(value, dict):
        raise MalformedBody("The body is not a JSON object.")
    return value


def _form(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise MalformedBody("The form is not UTF-8.") from error
    return _once(pairs)


def _once(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        found[name] = REPEATED if name in found else value
    return found


def _printable(name: str) -> str:
    """A field's name as it may stand in an answer, whatever the client called it."""
    return name.encode("unicode_escape").decode()[:64] or '""'
