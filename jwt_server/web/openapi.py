"""The API's description (OpenAPI 3.1), made of the same declarations that check requests.

A route says what it takes and gives with the blueprint's decorators; what it refuses with is
noted beside, by the guard, by the parser of bodies, or by the route: `@refuses(NotFound)`. Errors
tell their status, code and meaning themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from flask import Flask, current_app, request
from flask_smorest import Api
from marshmallow import EXCLUDE, Schema
from werkzeug.http import HTTP_STATUS_CODES

from jwt_server.errors import NotSignedIn, ServiceError
from jwt_server.security import refresh_tokens
from jwt_server.security.primitives import MAX_ID
from jwt_server.web.problems import HTTP_ERRORS

View = TypeVar("View", bound=Callable[..., Any])
Refusal = tuple[int, type[ServiceError]]
Json = dict[str, Any]

TITLE: Final = "jwt-server"
SUMMARY: Final = """\
A small login service: passwords in, signed tokens out.

**Errors** are plain text that says what to do. To a client that ranks `application/json` or
`application/problem+json` above `text/plain` in its `Accept` header they are problem details
(RFC 9457) with a stable `code`.

**Bodies** are JSON objects or urlencoded forms in UTF-8, of at most 64 KiB. A field that a route
does not know is an error (`POST /auth` alone lets it pass), and so is a value of the wrong type.

**Everywhere:** a known path takes `OPTIONS`, and `HEAD` where it takes `GET`; another method is
`405` (or `501`, for one that HTTP does not define) with `Allow`, an unknown path `404`. A request
that can't be read at all is `400`. A `500` is a fault of the service's, and tells no more; its log
does. A trailing slash makes no difference. Every answer has an
`X-Request-ID`, which the log has, too. A browser's preflight is answered on any path.
"""


def _header(told: str, *, required: bool = True, **schema: Any) -> Json:
    return {"description": told, "required": required, "schema": {"type": "string"} | schema}


HEADERS: Final[Mapping[str, Json]] = {
    "X-Request-ID": _header(
        "The request's id: the client's own where it is harmless, else a fresh one.",
        pattern="^[A-Za-z0-9._-]{8,64}$",
    ),
    "WWW-Authenticate": _header("What is missing (RFC 6750 section 3).", pattern="^Bearer"),
    "Retry-After": _header("Seconds after which to try again.", pattern="^[0-9]+$"),
    "Allow": _header("The methods that the path takes."),
    "Cache-Control": _header("How long it may be kept."),
    "Location": _header("Where the new thing is.", format="uri-reference"),
    "Link": _header(
        'The next page, `<…>; rel="next"`, where there is one (RFC 8288).', required=False
    ),
    "X-Auth-User-Id": _header("The id of the token's user.", pattern="^[0-9]+$"),
    "X-Auth-Username": _header(
        "The name of the token's user, percent-encoded UTF-8.", pattern="^[A-Za-z0-9._~%-]+$"
    ),
    "X-Auth-Admin": _header("Whether the token's user is an admin.", enum=["true", "false"]),
}

ANYWHERE: Final[Mapping[int, list[str]]] = {400: [], 405: ["Allow"], 500: [], 501: ["Allow"]}
"""What every operation may answer beside its own refusals, as the request or the service may be
broken, and which headers come along. Listed one by one: a `default` would cover every status, and
no test would notice one that nobody has written down."""

PROBLEM: Final[Json] = {
    "description": "Problem details (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
        "code": {"type": "string", "description": "What is wrong, for programs; never changes."},
        "errors": {
            "type": "object",
            "description": "What is wrong with each field.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}


class Description(Api):  # type: ignore[misc]  # flask-smorest is not typed
    """flask-smorest's collector of declarations, without its own errors and commands."""

    DEFAULT_ERROR_RESPONSE_NAME = None  # each route names its own

    def _register_error_handlers(self) -> None:
        """Leave errors to web/problems.py."""

    def _register_responses(self) -> None:
        """Leave responses to the routes."""

    def _register_pagination_header(self) -> None:
        """Leave pages to web/paging.py."""


def init_app(app: Flask, version: str) -> Description:
    """Begin the app's description; its blueprints are registered through it."""
    app.config |= {"API_TITLE": TITLE, "API_VERSION": version, "OPENAPI_VERSION": "3.1.0"}
    api = Description(app, spec_kwargs={"info": {"description": SUMMARY}})
    app.cli.commands.pop("openapi")  # /openapi.json says the same, and `write` would write files
    api.register_converter(app.url_map.converters["id"], _id_schema)
    api.register_converter(app.url_map.converters["session"], _session_schema)
    components = api.spec.components
    components.security_scheme(
        "bearer", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    )
    components.schema("Problem", PROBLEM)
    for name, header in HEADERS.items():
        components.header(name, header)
    for status, headers in ANYWHERE.items():
        components.response(_shared(status), _refusal(status, dict([HTTP_ERRORS[status]]), headers))
    return api


def refuses(*errors: type[ServiceError], status: int | None = None) -> Callable[[View], View]:
    """Note what a view refuses with; `status` stands for the errors' own where it is another."""

    def note(view: View) -> View:
        facts = view.__dict__.setdefault("_apidoc", {})
        added = [(status or error.status, error) for error in errors]
        facts["refusals"] = [*facts.get("refusals", ()), *added]
        return view

    return note


def named(view: View) -> View:
    """Note what programs that are made of the description call a view."""
    view.__dict__.setdefault("_apidoc", {})["name"] = view.__name__
    return view


def signed_in(view: View) -> View:
    """Note that a view needs an access token."""
    view.__dict__.setdefault("_apidoc", {})["security"] = [{"bearer": []}]
    return view


def perhaps_signed_in(view: View) -> View:
    """Note that a view takes an access token, and does without, too."""
    view.__dict__.setdefault("_apidoc", {})["security"] = [{"bearer": []}, {}]
    return view


def body_doc(schema: type[Schema]) -> Json:
    """A request's body as JSON or as a form, by one schema."""
    form: Any = schema
    if schema.Meta.unknown == EXCLUDE:  # a field that is let pass comes once all the same
        form = {"allOf": [schema], "additionalProperties": {"type": "string"}}
    return {
        "required": any(field.required for field in schema().fields.values()),
        "content": {
            "application/json": {"schema": schema},
            "application/x-www-form-urlencoded": {"schema": form},
        },
    }


def refusals_doc(refusals: Iterable[Refusal]) -> Json:
    """A response for each status that a view may refuse with, and in it each code."""
    by_status: dict[int, set[type[ServiceError]]] = defaultdict(set)
    for status, error in refusals:
        by_status[status].add(error)
    answers = {
        status: {"$ref": f"#/components/responses/{_shared(status)}"} for status in ANYWHERE
    } | {status: _own_refusal(status, errors) for status, errors in by_status.items()}
    return {str(status): answer for status, answer in sorted(answers.items())}


def header_doc(name: str) -> Json:
    """One of HEADERS, where a response tells of it."""
    return {"$ref": f"#/components/headers/{name}"}


def description() -> str:
    """The whole description as JSON text."""
    spec = current_app.extensions["flask-smorest"]["apis"][""]["ext_obj"].spec
    # Below a proxy's prefix the routes are there, too.
    return current_app.json.dumps(
        spec.to_dict() | {"servers": [{"url": request.script_root or "/"}]}
    )


def _shared(status: int) -> str:
    """What the answer of a status is called that is the same for every operation."""
    return HTTP_STATUS_CODES[status].replace(" ", "")


def _own_refusal(status: int, errors: set[type[ServiceError]]) -> Json:
    codes = {error.code: _meaning(error) for error in errors}
    if status in ANYWHERE:
        codes |= dict([HTTP_ERRORS[status]])
    headers = []
    if any(issubclass(error, NotSignedIn) for error in errors):
        headers.append("WWW-Authenticate")
    if any(error.retry_after is not None for error in errors):
        headers.append("Retry-After")
    return _refusal(status, codes, headers)


def _refusal(status: int, codes: Mapping[str, str], headers: Iterable[str]) -> Json:
    """An answer that says no: as text, or as problem details with one of the codes."""
    problem = {
        "allOf": [{"$ref": "#/components/schemas/Problem"}],
        "properties": {
            "title": {"const": HTTP_STATUS_CODES[status]},
            "status": {"const": status},
            "code": {"enum": sorted(codes)},
        },
    }
    return {
        "description": "\n".join(f"- `{code}`: {codes[code]}" for code in sorted(codes)),
        "headers": {name: header_doc(name) for name in ("X-Request-ID", *headers)},
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            "application/problem+json": {"schema": problem},
        },
    }


def _meaning(error: type[ServiceError]) -> str:
    """What the client is told; of an error that tells each client something else, what it is."""
    if error.message != ServiceError.message:
        return error.message
    return (error.__doc__ or "").partition("\n")[0]


def _session_schema(_converter: object) -> Json:
    return {"type": "string", "pattern": f"^{refresh_tokens.SESSION_ID}$"}


def _id_schema(_converter: object) -> Json:
    return {"type": "integer", "minimum": 1, "maximum": MAX_ID}
