"""Checks of responses against the OpenAPI description."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import MapAdapter

from jwt_server.app import create_app
from jwt_server.config import Settings
from jwt_server.web.middleware import openapi_path
from tests.helpers.factories import JWT_SECRET, SECRET_KEY, SESSION
from tests.helpers.http import Response, Send

METHODS = {"DELETE", "GET", "PATCH", "POST", "PUT"}

VARIABLES = {
    "pet_id": "1", "user_id": "1", "session_id": SESSION, "asset": "docs.js", "file": "app.js",
    "issuer_path": "tenant",
}  # fmt: skip
"""A value for each variable of the routes' paths: what is there in the tests' database."""


def fill_path(path: str, **values: object) -> str:
    """Replace the variables of a path, as Flask or OpenAPI writes it, by those of VARIABLES or by
    others.
    """
    named = re.compile(r"<(?:[^>]*:)?(\w+)>|\{(\w+)\}")
    return named.sub(lambda found: str((VARIABLES | values)[found[1] or found[2]]), path)


@cache
def described() -> tuple[MapAdapter, Draft202012Validator]:
    """Return the routes, and a validator whose schema is the whole description."""
    app = create_app(Settings((SECRET_KEY,), (JWT_SECRET,), Path("none.db")))
    description = json.loads(app.test_client().get("/openapi.json").data)
    return app.url_map.bind(""), Draft202012Validator(description)


def documented(send: Send) -> Send:
    """Send requests, and check that each response is one that its operation describes."""
    routes, validator = described()

    def checked(method: str, path: str, **kwargs: Any) -> Response:
        response = send(method, path, **kwargs)
        operation = find_operation(routes, validator.schema, method, urlsplit(path).path)
        if operation is not None:
            check_response(validator, operation["responses"][str(response.status)], response)
        return response

    return checked


def find_operation(
    routes: MapAdapter, description: dict[str, Any], method: str, path: str
) -> dict[str, Any] | None:
    """Return the operation for a request; None for HEAD, OPTIONS and unknown paths, which have no
    operation of their own.
    """
    try:
        rule, _ = routes.match(path, method, return_rule=True)
    except MethodNotAllowed as refused:  # each operation of the path describes this response
        [method, *_] = METHODS & set(refused.valid_methods or ())
        rule, _ = routes.match(path, method, return_rule=True)
    except HTTPException:
        return None
    found: dict[str, Any] = description["paths"][openapi_path(rule.rule)]
    return found.get(method.lower())


def check_response(
    validator: Draft202012Validator, described: dict[str, Any], response: Response
) -> None:
    """Check content type, headers and body."""
    described = resolve(validator.schema, described)
    shared = validator.schema["components"]["headers"]
    required = {name for name in described["headers"] if shared[name]["required"]}
    assert required <= set(response.headers.keys())
    assert response.status != 401 or "WWW-Authenticate" in response.headers
    media = response.headers.get("Content-Type", "").partition(";")[0]
    content = described.get("content", {"": {}})
    assert media in content
    if media:
        body = json.loads(response.body) if media.endswith("json") else response.text
        validator.evolve(schema=content[media]["schema"]).validate(body)


def resolve(description: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference to a response that operations share."""
    if "$ref" not in response:
        return response
    shared: dict[str, Any] = description["components"]["responses"]
    return shared[response["$ref"].removeprefix("#/components/responses/")]  # type: ignore[no-any-return]


def operations(description: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each operation, named `METHOD /path`."""
    for path, item in description["paths"].items():
        for method in METHODS & {each.upper() for each in item}:
            yield f"{method} {path}", item[method.lower()]


def password_operations(description: dict[str, Any]) -> dict[str, bool]:
    """Map each operation whose body may hold a password, as `METHOD /path`, to whether it needs a
    token. Tests compare their own lists with this, so that none misses a new route.
    """
    return {
        f"{method} {path}": item[method.lower()]["security"] != []
        for path, item in description["paths"].items()
        for method in sorted(METHODS & {each.upper() for each in item})
        if takes_password(description, item[method.lower()])
    }


def takes_password(description: dict[str, Any], operation: dict[str, Any]) -> bool:
    body = operation.get("requestBody", {})
    return any("password" in name.lower() for name in properties(description, body))


def properties(description: dict[str, Any], part: Any) -> Iterator[str]:
    """Yield the names of all properties in a part of the description, at any depth.

    No schema refers to itself.
    """
    if isinstance(part, list):
        part = dict(enumerate(part))
    if not isinstance(part, dict):
        return
    if isinstance(reference := part.get("$ref"), str):
        name = reference.removeprefix("#/components/schemas/")
        yield from properties(description, description["components"]["schemas"][name])
    for key, value in part.items():
        if key == "properties":
            yield from value
        yield from properties(description, value)
