"""An admin who sends requests, and the rows of the audit log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from jwt_server.database import Connection
from jwt_server.users import users
from jwt_server.web.middleware import openapi_path
from tests.helpers.auth import JSON
from tests.helpers.description import documented
from tests.helpers.factories import OPERATOR, add_user, bearer_of, execute
from tests.helpers.http import Response, Send, send_to_app

PASSWORD = "correct horse"
"""Of all users that `add_user` adds."""

Rows = Callable[[], list[dict[str, Any]]]
"""Returns the rows of the audit log since the last call."""


@dataclass(frozen=True)
class Admin:
    """Sends requests as an admin; each response must be one that the OpenAPI document describes."""

    id: int
    headers: dict[str, str]
    _send: Send

    def send(self, method: str, path: str, **kwargs: Any) -> Response:
        return self._send(method, path, headers=self.headers | JSON, **kwargs)

    def get(self, path: str) -> Any:
        response = self.send("GET", path)
        assert response.status == 200, response.text
        return response.json

    def set_password(self, user_id: int, **body: str) -> Any:
        response = self.send("PUT", f"/admin/users/{user_id}/password", json=body)
        assert response.status == 200, response.text
        return response.json

    def change(self, user_id: int, **changes: Any) -> Response:
        return self.send("PATCH", f"/admin/users/{user_id}", json=changes)


def add_admin(client: FlaskClient, db: Connection, now: int, username: str = "boss") -> Admin:
    """Add an admin, who has signed in just now."""
    user_id = add_user(db, username)
    users.set_admin(db, user_id, admin=True, actor=OPERATOR)
    send = documented(partial(send_to_app, client))
    return Admin(user_id, bearer_of(db, user_id, now), send)


def admin_routes(app: Flask) -> Iterator[tuple[str, str]]:
    """Yield method and path, as in the OpenAPI document, of each route of the administration."""
    for rule in app.url_map.iter_rules():
        path = openapi_path(rule.rule)
        if path.startswith("/admin/") and not rule.endpoint.startswith("pages."):
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield method, path


def new_rows(db: Connection) -> Rows:
    """Return a function that returns the rows of the audit log written since its last call."""
    read = [0]

    def new() -> list[dict[str, Any]]:
        found = execute(db, "SELECT * FROM audit WHERE id > ? ORDER BY id", *read)
        read[0] = found[-1].pop("id") if found else read[0]
        return [row | {"details": json.loads(row["details"])} for row in found]

    new()
    return new


def facts(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return a row without its time and session IDs, which are random."""
    details = {name: value for name, value in row["details"].items() if name != "session"}
    return row["action"], row["actor_id"], row["user_id"], row["address"], details
