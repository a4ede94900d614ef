"""`/openapi.json` and `/docs`: valid, complete, and true to the code."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator, ValidationError
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.datastructures import Headers

from jwt_server import __version__
from jwt_server.config import Settings
from jwt_server.database import Connection, Database
from jwt_server.security import passwords
from jwt_server.users import names, users
from jwt_server.web.middleware import openapi_path
from tests.helpers.app import MakeApp
from tests.helpers.databases import file_of
from tests.helpers.description import (
    check_response,
    documented,
    fill_path,
    operations,
    password_operations,
    properties,
    resolve,
)
from tests.helpers.factories import OPERATOR, everything, spoil
from tests.helpers.http import Response, Send, send_to_app
from tests.helpers.server import ROOT


@pytest.fixture
def description(client: FlaskClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").get_json()
    return found


def test_document_is_valid_openapi(description: dict[str, Any]) -> None:
    assert description["openapi"] == "3.1.0"
    assert description["info"]["version"] == __version__
    assert list(OpenAPIV31SpecValidator(description).iter_errors()) == []


def test_document_lists_exactly_the_routes(app: Flask, description: dict[str, Any]) -> None:
    routes = {
        f"{method} {openapi_path(rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert {name for name, _ in operations(description)} == routes


def test_operations_have_summary_unique_id_and_request_id_header(
    description: dict[str, Any],
) -> None:
    named = dict(operations(description))

    assert len({operation["operationId"] for operation in named.values()}) == len(named)
    for operation in named.values():
        assert operation["summary"].endswith(".")
        assert operation["description"].endswith((" token.", " is optional."))
        for response in operation["responses"].values():
            assert "X-Request-ID" in resolve(description, response)["headers"]


JSON = "application/json"
ID = {"X-Request-ID": "x" * 8}
PETS = ID | {"Content-Type": JSON}


@pytest.mark.parametrize(
    ("headers", "body"),
    [(PETS, b'[{"name":"Bunny"}]'), (PETS, b'[{"name":1,"species":"dog"}]'), (PETS, b"{}"),
     (ID, b"[]"), (ID | {"Content-Type": "text/plain"}, b"[]"), ({"Content-Type": JSON}, b"[]")],
    ids=str,
)  # fmt: skip
def test_check_response_detects_undocumented_responses(
    description: dict[str, Any], headers: dict[str, str], body: bytes
) -> None:
    response = description["paths"]["/my-pets"]["get"]["responses"]["200"]
    validator = Draft202012Validator(description)
    good = b'[{"name":"x","species":null}]'
    check_response(validator, response, Response(200, Headers(PETS), good))

    with pytest.raises((AssertionError, ValidationError)):
        check_response(validator, response, Response(200, Headers(headers), body))


def test_operations_document_the_common_errors(description: dict[str, Any]) -> None:
    for _, operation in operations(description):
        assert {"400", "405", "500", "501"} <= set(operation["responses"])
        # It would stand for every status, so that none that is missing would be found.
        assert "default" not in operation["responses"]
        for status, code in (("400", "bad_request"), ("500", "internal_error")):
            shared = resolve(description, operation["responses"][status])
            assert code in str(shared)
            is_oauth = operation["operationId"] == "issue_tokens"
            media = {JSON} if is_oauth else {"text/plain", "application/problem+json"}
            assert set(shared["content"]) == media


BODIES = {
    "issue_token": {"username": "travis", "password": "mypassword"},
    "refresh": {"refresh_token": f"r1.{'x' * 22}.1.{'x' * 43}"},
    "issue_tokens": {"grant_type": "password", "username": "travis", "password": "mypassword"},
    "reauthenticate": {"password": "mypassword"},
    "sign_up": {"username": "ada", "password": "correct horse battery"},
    "rename_account": {"username": "ada"},
    "delete_account": {"password": "mypassword"},
    "change_password": {"current_password": "mypassword", "new_password": "correct horse battery"},
    "add_pet": {"name": "Tom"},
    "replace_pet": {"name": "Tom"},
    "add_user": {"username": "ada"},
    "change_user": {"username": "ada"},
    "reset_password": {"password": "correct horse battery"},
}
NEED_NO_DATABASE = {
    "alive", "show_asset", "show_client", "show_description", "show_docs", "show_keys",
    "show_panel", "show_panel_file",
}  # fmt: skip
NEED_AN_ISSUER = {"show_metadata", "show_metadata_of_path", "show_openid_configuration"}
TAKE_UNKNOWN_FIELDS = {"POST /auth", "POST /auth/token"}  # as the original did; as RFC 6749 says
ADMINS_MAY_SET = {"admin": {"POST /admin/users", "PATCH /admin/users/{user_id}"}}


def test_503_is_documented_where_the_database_is_used(
    make_app: MakeApp, database: Database, settings: Settings, travis: dict[str, str],
    description: dict[str, Any],
) -> None:  # fmt: skip
    app = make_app(signup="open")
    spoil(file_of(settings), "missing")

    for name, operation in operations(description):
        method, path = name.split()
        response = documented(partial(send_to_app, app.test_client()))(
            method, fill_path(path), headers=travis, json=BODIES.get(operation["operationId"])
        )
        needs_issuer = operation["operationId"] in NEED_AN_ISSUER
        needs_none = needs_issuer or operation["operationId"] in NEED_NO_DATABASE
        expected = 404 if needs_issuer else 200 if needs_none else 503
        assert response.status == expected, name
        assert ("database_unavailable" in str(operation["responses"].get("503"))) != needs_none


def test_documented_maximum_lengths_match_the_code(
    description: dict[str, Any],
) -> None:
    schemas = description["components"]["schemas"]

    for schema, name, longest in (
        ("Credentials", "username", names.MAX_CHARACTERS),
        ("Credentials", "password", passwords.MAX_CHARACTERS),
        ("Signup", "username", names.MAX_CHARACTERS),
        ("Signup", "password", passwords.MAX_CHARACTERS),
        ("PasswordChange", "new_password", passwords.MAX_CHARACTERS),
    ):
        assert schemas[schema]["properties"][name]["maxLength"] == longest


def test_bodies_are_documented_as_json_but_as_a_form_for_oauth(description: dict[str, Any]) -> None:
    """By one type each: with two, openapi-python-client's code can't be imported."""
    bodies = {
        name: list(operation["requestBody"]["content"])
        for name, operation in operations(description)
        if "requestBody" in operation
    }

    assert len(bodies) >= 10
    assert bodies.pop("POST /auth/token") == ["application/x-www-form-urlencoded"]
    assert all(each == [JSON] for each in bodies.values())


def test_the_token_endpoint_documents_the_errors_of_rfc_6749(description: dict[str, Any]) -> None:
    operation = description["paths"]["/auth/token"]["post"]

    found = {
        status: {each["value"]["error"] for each in response["content"][JSON]["examples"].values()}
        for status, response in operation["responses"].items() if status != "200"
    }  # fmt: skip
    assert found == {
        "400": {"invalid_request", "invalid_grant", "unsupported_grant_type"},
        "405": {"invalid_request"}, "429": {"temporarily_unavailable"}, "500": {"server_error"},
        "501": {"invalid_request"}, "503": {"temporarily_unavailable"},
    }  # fmt: skip
    [form] = operation["requestBody"]["content"].values()
    assert {name: each["value"]["grant_type"] for name, each in form["examples"].items()} == {
        "password": "password", "refresh_token": "refresh_token",
    }  # fmt: skip


def test_fields_and_parameters_have_valid_examples(description: dict[str, Any]) -> None:
    fields = {
        f"{name}.{field}": schema
        for name, each in description["components"]["schemas"].items() if name != "Problem"
        for field, schema in each["properties"].items()
    }  # fmt: skip
    fields |= {name: each["schema"] for name, each in description["components"]["headers"].items()}
    for name, operation in operations(description):
        item = description["paths"][name.split()[1]]
        for each in (*item.get("parameters", []), *operation.get("parameters", [])):
            fields[f"{name}?{each['name']}"] = each["schema"]
        for status, response in operation["responses"].items():
            for media, content in resolve(description, response).get("content", {}).items():
                if "example" in content:
                    fields[f"{name} {status} {media}"] = content["schema"] | {
                        "examples": [content["example"]]
                    }
                elif content["schema"].get("type") == "string":
                    fields[f"{name} {status} {media}"] = content["schema"]

    exemplary = {"const", "default", "enum", "examples"}
    assert not {
        name
        for name, field in fields.items()
        if not exemplary & set(field) and field.get("type") != "boolean"
    }
    validator = Draft202012Validator(description)
    for name, field in fields.items():
        for example in field.get("examples", []):
            assert list(validator.evolve(schema=field).iter_errors(example)) == [], name


def test_password_operations_finds_nested_fields(description: dict[str, Any]) -> None:
    before = password_operations(description)
    assert len(before) == 8  # the walk through the document finds those that are there

    nested = {
        "allOf": [{"type": "array", "items": {"$ref": "#/components/schemas/PasswordChange"}}]
    }
    body = {"content": {"application/json": {"schema": {"properties": {"who": nested}}}}}
    description["paths"]["/pets"]["post"] |= {"requestBody": body}

    assert password_operations(description) == before | {"POST /pets": True}


@pytest.mark.parametrize("field", ["id", "admin", "created_at", "user_id", "password_hash", "sid"])
def test_undocumented_body_field_returns_422(
    make_app: MakeApp, db: Connection, travis: dict[str, str], description: dict[str, Any],
    field: str,
) -> None:  # fmt: skip
    users.set_admin(db, 1, admin=True, actor=OPERATOR)
    client, before = make_app(signup="open").test_client(), everything(db)

    for name, operation in operations(description):
        fields = {*properties(description, operation.get("requestBody", {}))}
        if not fields or name in TAKE_UNKNOWN_FIELDS or name in ADMINS_MAY_SET.get(field, ()):
            continue
        method, path = name.split()
        body = BODIES.get(operation["operationId"], {}) | {field: 1}
        headers = travis | {"Accept": JSON}
        response = client.open(fill_path(path), method=method, json=body, headers=headers)
        assert (response.status_code, set(response.get_json()["errors"])) == (422, {field}), name
    assert everything(db) == before


def test_response_schemas_allow_no_additional_fields(description: dict[str, Any]) -> None:
    """So `documented`, which checks most tests' responses, detects a field too many."""
    described = description["components"]["schemas"]
    closed = {
        name for name, schema in described.items() if schema.get("additionalProperties") is False
    }
    shown = {field for name in described for field in described[name]["properties"]}

    assert set(described) - closed == {
        "Problem",
        "Credentials",
        "TokenRequest",
    }  # not responses with data
    assert not shown & {"password_hash", "username_key", "nonce", "generation"}
    assert "disabled" not in described["Account"]["properties"]


def test_documented_security_matches_behaviour(
    client: FlaskClient, description: dict[str, Any]
) -> None:
    for name, operation in operations(description):
        method, path = name.split()
        response = send_to_app(client, method, fill_path(path))
        needs_token = operation["security"] != []
        assert (response.text == "No token.") is needs_token
        assert ("token_missing" in str(operation["responses"])) is needs_token


def test_error_responses_list_their_codes(description: dict[str, Any]) -> None:
    refused = description["paths"]["/my-pets"]["get"]["responses"]["403"]

    assert set(refused["content"]) == {"text/plain", "application/problem+json"}
    problem = refused["content"]["application/problem+json"]["schema"]
    assert set(problem["properties"]["code"]["enum"]) == {
        "password_change_required", "token_expired", "token_forged", "token_malformed",
        "token_missing", "token_revoked", "token_user_disabled", "token_user_gone",
    }  # fmt: skip
    assert "`token_missing`: No token." in refused["description"]
    assert "WWW-Authenticate" in refused["headers"]
    assert "`cause`" not in str(description)  # what a docstring says to us is not for clients


def test_every_schema_is_referenced(description: dict[str, Any]) -> None:
    schemas = set(description["components"]["schemas"])

    assert schemas == set(re.findall(r"#/components/schemas/(\w+)", str(description)))


def test_docs_page_loads_only_own_assets(send: Send) -> None:
    page = send("GET", "/docs")
    policy = page.headers["Content-Security-Policy"]

    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    directives = {"default-src 'none'", "script-src 'self'", "style-src 'self'"}
    assert directives <= set(policy.split("; "))
    assert "unsafe" not in policy
    assert "Set-Cookie" not in page.headers
    linked = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.text)
    assert sorted(linked) == [
        "/docs/docs.css", "/docs/docs.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css",
        "/openapi.json",
    ]  # fmt: skip
    for path in linked:
        assert send("GET", path).status == 200


def test_panel_loads_only_its_own_files_under_a_strict_policy(send: Send) -> None:
    page = send("GET", "/admin/")

    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self' data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    )
    assert page.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "Set-Cookie" not in page.headers
    linked = re.findall(r'(?:src|href)="(?!data:|#)([^"]+)"', page.text)
    assert linked == ["/admin/admin.css", "/admin/app.js"]
    for file in (ROOT / "jwt_server" / "static" / "admin").iterdir():
        assert send("GET", f"/admin/{file.name}").status == 200


@pytest.mark.parametrize("asset", ["unknown.js", "../__init__.py", "..%2f__init__.py", "docs.html"])
def test_unknown_asset_returns_404(send: Send, asset: str) -> None:
    assert send("GET", f"/docs/{asset}").status == 404


@pytest.mark.parametrize(
    "header",
    [{"Range": "bytes=0-9"}, {"Range": "bytes=999999-"}, {"If-Match": '"x"'},
     {"If-Modified-Since": "Tue, 01 Jan 2099 00:00:00 GMT"}],
    ids=str,
)  # fmt: skip
def test_asset_ignores_ranges_and_other_conditions(send: Send, header: dict[str, str]) -> None:
    assert send("GET", "/docs/docs.js", headers=header).status == 200


def test_server_url_has_the_proxy_prefix(client: FlaskClient) -> None:
    prefixed = client.get("/openapi.json", environ_overrides={"SCRIPT_NAME": "/api"}).get_json()

    assert prefixed["servers"] == [{"url": "/api"}]
    password = prefixed["components"]["securitySchemes"]["password"]
    assert password["flows"]["password"]["tokenUrl"] == "/api/auth/token"
    assert client.get("/openapi.json").get_json()["servers"] == [{"url": "/"}]


@pytest.mark.parametrize("template", ["{}", "W/{}", '"other", {} ,"more"'])
def test_asset_etag_match_returns_304(send: Send, template: str) -> None:
    first = send("GET", "/docs/swagger-ui.css")
    known = {"If-None-Match": template.format(first.headers["ETag"])}
    again = send("GET", "/docs/swagger-ui.css", headers=known)

    assert first.headers["Cache-Control"] == "no-cache"
    assert (again.status, again.body) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
