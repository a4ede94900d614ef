"""Users of a server under attack, and what becomes of their tokens."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

from tests.attacks.target import CHALLENGE, DOORS, Target, ask_json, tokens_of
from tests.helpers.factories import bearer
from tests.helpers.http import Response, send_to_server
from tests.helpers.server import Server

PASSWORD = "correct horse battery"

Tokens = dict[str, Any]


def refused(server: Server, token: str, says: str) -> None:
    for path, status in DOORS:
        answer = send_to_server(server, "GET", path, bearer(token))
        assert (answer.status, answer.text) == (status, says)
        assert answer.headers.getlist("WWW-Authenticate") == [CHALLENGE]


def taken(server: Server, token: str) -> bool:
    return send_to_server(server, "GET", "/pets", bearer(token)).status == 200


def refresh(server: Server, shown: str) -> Response:
    return ask_json(server, "POST", "/auth/refresh", {"refresh_token": shown})


def code_of(answer: Response) -> str:
    """Why a refresh token was refused."""
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "access_token" not in answer.text
    return str(json.loads(answer.body)["code"])


def asked(target: Target, statement: str, *values: object) -> list[Any]:
    """What the database says; as an admin's routes would ask it, once there are some."""
    with closing(sqlite3.connect(target.folder / "server.db", timeout=10)) as driver, driver:
        return driver.execute(statement, values).fetchall()


def sign_up(target: Target, name: str) -> tuple[int, Tokens]:
    """A new user's id and tokens."""
    body = {"username": name, "password": PASSWORD}
    answer = ask_json(target.server, "POST", "/users", body)
    assert answer.status == 201, answer.text
    return int(json.loads(answer.body)["id"]), tokens_of(target.server, name, PASSWORD)
