"""The OpenAPI 3.1 document, built from what the routes declare (web/operations.py)."""

import inspect
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.routing import Rule

from jwt_server import __version__
from jwt_server.errors import ServiceError
from jwt_server.web.middleware import VARIABLE, openapi_path
from jwt_server.web.operations import Operation, describe_response, operation_of
from jwt_server.web.problems import HTTP_ERRORS, TOKEN_ENDPOINT, oauth_error

Json = dict[str, Any]

OPENAPI_VERSION: Final = "3.1.0"

COMMON_ERRORS: Final[Mapping[int, list[str]]] = {400: [], 405: ["Allow"], 500: [], 501: ["Allow"]}
"""Statuses that every operation may return, with their headers; a `default` would hide others."""

STRING: Final[Json] = {"type": "string"}


def document(app: Flask, prefix: str) -> Json:
    """Return the app's document for the prefix of the paths, which its first call builds."""
    built: dict[str, Json] = app.extensions.setdefault("openapi", {})
    if prefix not in built:
        built[prefix] = _build(app, prefix)
    return built[prefix]


def _build(app: Flask, prefix: str) -> Json:
    shared = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    url = f"{prefix}{TOKEN_ENDPOINT}"
    flows = {"password": {"tokenUrl": url, "refreshUrl": url, "scopes": {}}}
    shared["components"]["securitySchemes"]["password"]["flows"] = flows
    shared["servers"] = [{"url": prefix or "/"}]
    examples = shared.pop("examples")
    plugins = [MarshmallowPlugin()]
    spec = APISpec("jwt-server", __version__, OPENAPI_VERSION, plugins=plugins, **shared)
    for status, headers in COMMON_ERRORS.items():
        response = _error_response(status, dict([HTTP_ERRORS[status]]), headers)
        spec.components.response(f"Error{status}", response)
    for blueprint in app.blueprints.values():
        summary, _ = _docstring(sys.modules[blueprint.import_name])
        spec.tag({"name": blueprint.name, "description": summary})
    for rule in app.url_map.iter_rules():
        methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        spec.path(
            openapi_path(rule.rule),
            parameters=_path_parameters(app, rule),
            operations={method.lower(): _operation(app, rule) for method in methods},
        )
    built: Json = spec.to_dict()
    _add_examples(built, examples)
    return built


def _add_examples(built: Json, examples: Mapping[str, Any]) -> None:
    """Give fields and parameters the example of their name, if there is one."""
    fields = [
        field
        for schema in built["components"]["schemas"].values()
        for field in schema["properties"].items()
    ]
    for path in built["paths"].values():
        for part in (path, *(path[name] for name in path if name != "parameters")):
            fields += [(each["name"], each["schema"]) for each in part.get("parameters", [])]
    for name, field in fields:
        if name in examples:
            field.setdefault("examples", [examples[name]])


def _docstring(documented: object) -> tuple[str, str]:
    """Return the first paragraph, as one line, and the rest."""
    summary, _, description = (inspect.getdoc(documented) or "").partition("\n\n")
    return " ".join(summary.split()), description


def _path_parameters(app: Flask, rule: Rule) -> list[Json]:
    """Describe the variables of a path, each by its converter's `schema`."""
    parameters = []
    for converter, name in VARIABLE.findall(rule.rule):
        schema = getattr(app.url_map.converters[converter or "default"], "schema", STRING)
        parameters.append({"in": "path", "name": name, "required": True, "schema": {**schema}})
    return parameters


def _operation(app: Flask, rule: Rule) -> Json:
    view = app.view_functions[rule.endpoint]
    declared = operation_of(view)
    summary, description = _docstring(view)
    blueprint, _, name = rule.endpoint.partition(".")
    access = "Needs an access token." if declared.security else "Needs no token."
    if {} in declared.security:
        access = "A token is optional."
    describe_errors = _oauth_errors if rule.rule == TOKEN_ENDPOINT else _error_responses
    responses = describe_errors(declared) | declared.responses
    operation: Json = {
        "operationId": name,
        "tags": [blueprint],
        "summary": summary,
        "description": "\n\n".join(filter(None, [description, access])),
        "responses": {str(status): response for status, response in responses.items()},
        "security": declared.security,
    }
    return operation | declared.request


def _error_responses(declared: Operation) -> dict[int, Json]:
    """Describe a response for each status, with the codes of all errors that have it."""
    shared = "#/components/responses/Error"
    responses: dict[int, Json] = {each: {"$ref": f"{shared}{each}"} for each in COMMON_ERRORS}
    for status in sorted({status for status, _ in declared.raised}):
        errors = [error for each, error in declared.raised if each == status]
        codes = dict(sorted((error.code, _meaning(error)) for error in errors))
        if status in COMMON_ERRORS:
            codes |= dict([HTTP_ERRORS[status]])
        headers = {name for error in errors for name, _ in error.headers}
        responses[status] = _error_response(status, codes, headers)
    return responses


def _error_response(status: int, codes: Mapping[str, str], headers: Iterable[str]) -> Json:
    """Describe an error as text or as problem details with one of the codes."""
    code, *_ = sorted(codes)
    title, detail = HTTP_STATUS_CODES[status], codes[code]
    example = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    problem = {
        "allOf": [{"$ref": "#/components/schemas/Problem"}],
        "properties": {
            "title": {"const": title},
            "status": {"const": status},
            "code": {"enum": sorted(codes)},
        },
    }
    description = "\n".join(f"- `{code}`: {codes[code]}" for code in sorted(codes))
    content = {
        "text/plain": {"schema": STRING, "example": detail},
        "application/problem+json": {"schema": problem, "example": example | {"code": code}},
    }
    return describe_response(status, headers, description) | {"content": content}


def _oauth_errors(declared: Operation) -> dict[int, Json]:
    """Describe the errors of the token endpoint: an example of each, by its code elsewhere."""
    found = [(status, *HTTP_ERRORS[status]) for status in COMMON_ERRORS]
    found += [(status, error.code, _meaning(error)) for status, error in declared.raised]
    examples: dict[int, Json] = {}
    for status, name, message in sorted(found):
        shown, code = oauth_error(status, name)
        value = {"error": code, "error_description": message}
        examples.setdefault(shown, {})[name] = {"value": value}
    schema = {"$ref": "#/components/schemas/OAuthError"}
    return {
        status: describe_response(status, COMMON_ERRORS.get(status, ["Retry-After"]))
        | {"content": {"application/json": {"schema": schema, "examples": each}}}
        for status, each in examples.items()
    }


def _meaning(error: type[ServiceError]) -> str:
    """Return the error's message, or its docstring if the message varies."""
    return error.message if error.message != ServiceError.message else _docstring(error)[0]
