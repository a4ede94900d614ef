"""Users of a service under attack, and the state of their tokens."""

from __future__ import annotations

import json
from typing import Any

from jwt_server.web.service import EXTENSION
from tests.attacks.target import CHALLENGE, GUARDED, Target, send_json, tokens_of
from tests.helpers.factories import execute
from tests.helpers.http import Response

PASSWORD = "correct horse battery"

Tokens = dict[str, Any]


def check_refused(target: Target, token: str, text: str) -> None:
    """Check that each guarded route refuses an access token with this text."""
    for path, status in GUARDED:
        response = target.show(token, path)
        assert (response.status, response.text) == (status, text)
        assert response.headers.getlist("WWW-Authenticate") == [CHALLENGE]


def is_accepted(target: Target, token: str) -> bool:
    """Tell whether a guarded route accepts an access token."""
    return target.show(token).status == 200


def refresh(target: Target, token: str) -> Response:
    """Use a refresh token."""
    return send_json(target, "POST", "/auth/refresh", {"refresh_token": token})


def refusal_code(response: Response) -> str:
    """Return the code of a refused refresh token."""
    assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "access_token" not in response.text
    return str(json.loads(response.body)["code"])


def run_sql(target: Target, statement: str, *values: object) -> list[Any]:
    """Run a statement on the service's database."""
    with target.app.extensions[EXTENSION].database.connection() as db:
        return execute(db, statement, *values)


def sign_up(target: Target, name: str) -> tuple[int, Tokens]:
    """Create a user; returns the id and the tokens."""
    body = {"username": name, "password": PASSWORD}
    response = send_json(target, "POST", "/users", body)
    assert response.status == 201, response.text
    return int(json.loads(response.body)["id"]), tokens_of(target, name, PASSWORD)
