"""Strict parsing of request bodies and query strings: nothing is coerced or guessed.

The order of checks: 413 (too large), 415 (content type), 400 (unreadable), 422 (fields).
"""

from codecs import BOM_UTF8
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import parse_qsl

from flask import request
from marshmallow import Schema, ValidationError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from jwt_server import errors
from jwt_server.security.primitives import SentText, load_json

REPEATED: Final = object()
"""The value of a form or query field that was sent more than once."""

SEND_ONCE: Final = "Send this field once."

MAX_FIELDS: Final = 1000
"""Fields of a body; each costs far more than its bytes."""

MAX_FIELDS_NAMED: Final = 20
"""An error names at most this many fields, so that a response doesn't echo thousands."""


def load(schema: Schema, data: dict[str, Any]) -> Any:
    """Load fields by a schema. Raises InvalidFields."""
    try:
        return schema.load(data)
    except ValidationError as error:
        found = error.normalized_messages()
        found |= {name: [SEND_ONCE] for name in schema.fields if data.get(name) is REPEATED}
        named = sorted(found.items())[:MAX_FIELDS_NAMED]
        # The client chose the names: they are echoed as short ASCII.
        printable = {n.encode("unicode_escape").decode()[:64] or '""': texts for n, texts in named}
        raise errors.InvalidFields(printable) from error


def read_body(*, any_content_type: bool) -> dict[str, Any]:
    """Read the fields of a JSON or form body; without a body there are none.

    With `any_content_type` a body of another type has none either. Raises BodyTooLarge,
    UnsupportedBody, EncodedBody, MalformedBody.
    """
    body = _read()
    is_json = request.mimetype == "application/json"
    if not is_json and request.mimetype != "application/x-www-form-urlencoded":
        if any_content_type or not (body or request.mimetype):
            return {}
        raise errors.UnsupportedBody
    if request.environ.get("HTTP_CONTENT_ENCODING", "").lower() not in ("", "identity"):
        raise errors.EncodedBody
    if request.mimetype_params.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise errors.UnsupportedBody
    if request.content_length not in (None, len(body)):  # gunicorn passes on what has come
        raise errors.MalformedBody("The body is shorter than its Content-Length.")
    return _parse_json(body) if is_json else _parse_form(body)


def read_query() -> dict[str, Any]:
    """Read the fields of the query string."""
    return _unique(request.args.items(multi=True))


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the pairs as a dict, with REPEATED for names that occur more than once."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        found[name] = REPEATED if name in found else SentText(value)
    return found


def _read() -> bytes:
    try:
        body = request.get_data()
    except RequestEntityTooLarge as error:
        raise errors.BodyTooLarge from error
    except HTTPException:
        raise
    except Exception as error:
        # Broken chunks or a closed connection: each WSGI server raises its own exceptions.
        raise errors.MalformedBody from error
    if len(body) > errors.MAX_BODY_BYTES:
        raise errors.BodyTooLarge
    return body


def _parse_json(body: bytes) -> dict[str, Any]:
    body = body.removeprefix(BOM_UTF8)  # RFC 8259 section 8.1
    if not body:
        return {}
    try:
        value = load_json(body)
    except ValueError as error:
        raise errors.MalformedBody(str(error)) from error
    if not isinstance(value, dict):
        raise errors.MalformedBody("The body is not a JSON object.")
    if len(value) > MAX_FIELDS:
        raise errors.MalformedBody(f"The JSON object has over {MAX_FIELDS} members.")
    return value


def _parse_form(body: bytes) -> dict[str, Any]:
    # More percent signs than escapes of three bytes fit in a body: each stray one costs the most.
    if body.count(b"&") >= MAX_FIELDS or body.count(b"%") > errors.MAX_BODY_BYTES // 3:
        raise errors.MalformedBody(f"The form has over {MAX_FIELDS} fields, or is not encoded.")
    try:
        return _unique(parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError as error:
        raise errors.MalformedBody("The form is not UTF-8.") from error
