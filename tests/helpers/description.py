"""Asking with a second look: is the answer one that the API's description tells of?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from flask import Flask
from flask_smorest.spec.plugins import FlaskPlugin
from jsonschema import Draft202012Validator
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from tests.helpers.http import Response, Send

METHODS = {"DELETE", "GET", "PATCH", "POST", "PUT"}


def documented(app: Flask, send: Send) -> Send:
    """Ask, and compare the answer with what the description says of the route."""
    description = json.loads(app.test_client().get("/openapi.json").data)

    def checked(method: str, path: str, **kwargs: Any) -> Response:
        answer = send(method, path, **kwargs)
        operation = operation_of(app, description, method, urlsplit(path).path)
        if operation is not None:
            compare(description, operation["responses"][str(answer.status)], answer)
        return answer

    return checked


def operation_of(
    app: Flask, description: dict[str, Any], method: str, path: str
) -> dict[str, Any] | None:
    """What the description says of a request; of HEAD, OPTIONS and unknown paths it only says
    something in its introduction.
    """
    routes = app.url_map.bind("")
    try:
        rule, _ = routes.match(path, method, return_rule=True)
    except MethodNotAllowed as refused:  # which each operation of the path tells of
        [method, *_] = METHODS & set(refused.valid_methods or ())
        rule, _ = routes.match(path, method, return_rule=True)
    except HTTPException:
        return None
    found: dict[str, Any] = description["paths"][FlaskPlugin.flaskpath2openapi(rule.rule)]
    return found.get(method.lower())


def compare(description: dict[str, Any], response: dict[str, Any], answer: Response) -> None:
    """See that content type, headers and body are what the response is said to have."""
    response = resolved(description, response)
    told = {name for name in response["headers"] if name != "Link"}  # not on a last page
    assert told <= set(answer.headers.keys())
    media = answer.headers.get("Content-Type", "").partition(";")[0]
    content = response.get("content", {"": {}})
    assert media in content
    if media:
        body = json.loads(answer.body) if media.endswith("json") else answer.text
        whole = Draft202012Validator(description)  # so that references are found
        whole.evolve(schema=content[media]["schema"]).validate(body)


def resolved(description: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    """A response that is told of in place, or among those that operations share."""
    if "$ref" not in response:
        return response
    shared: dict[str, Any] = description["components"]["responses"]
    return shared[response["$ref"].removeprefix("#/components/responses/")]  # type: ignore[no-any-return]


def password_operations(description: dict[str, Any]) -> dict[str, bool]:
    """Each operation whose body may hold a password, as `METHOD /path`; whether it needs a token.

    What the tests keep lists of by hand is compared with this, so that a new route is noticed.
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
    """The names of all properties in a part of the description, however deep; none of our schemas
    refers to itself.
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
