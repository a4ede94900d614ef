"""Changes by others during a request, between the check of a password or token and the
transaction that relies on it: the request is refused and changes nothing.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import bcrypt
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jwt_server.auth import sessions
from jwt_server.database import Connection
from jwt_server.security.passwords import hash_password
from jwt_server.users import users
from tests.helpers.app import Clock
from tests.helpers.auth import JSON
from tests.helpers.factories import CREDENTIALS, OPERATOR, everything

OTHER_HASH = hash_password("another password", 4)
PASSWORD = {"password": "mypassword"}
CHANGE = {"current_password": "mypassword", "new_password": "correct horse battery"}

Send = Callable[[FlaskClient, dict[str, str]], TestResponse]
Change = Callable[[Connection, int], Any]


def change_password(db: Connection, now: int) -> None:
    """Change the password and end the sessions, as all routes and commands do."""
    users.set_password(db, 1, OTHER_HASH, actor=replace(OPERATOR, now=now))


CHANGES: dict[str, Change] = {
    "password": change_password,
    "hash": lambda db, _now: db.queries.users.set_hash(
        id=1, password_hash=OTHER_HASH, expires_at=None
    ),
    "disabled": lambda db, _now: users.set_disabled(db, 1, disabled=True, actor=OPERATOR),
    "deleted": lambda db, _now: users.remove(db, 1, actor=OPERATOR),
    "signed out": lambda db, now: sessions.end_all(db, 1, now),
}

SIGN_INS: dict[str, Send] = {
    "POST /auth, text": lambda client, _: client.post("/auth", data=CREDENTIALS),
    "POST /auth, JSON": lambda client, _: client.post("/auth", json=CREDENTIALS, headers=JSON),
}
REAUTH: dict[str, Send] = {
    "POST /auth/reauth": lambda client, who: client.post(
        "/auth/reauth", json=PASSWORD, headers=who
    ),
    "DELETE /me": lambda client, who: client.delete("/me", json=PASSWORD, headers=who),
}
PUT: dict[str, Send] = {
    "PUT /me/password": lambda client, who: client.put("/me/password", json=CHANGE, headers=who)
}

# Requests, change, status. A sign-in does not depend on other sessions; a signed-in request depends
# on its session, which each change of the password ends.
CASES = [
    *((SIGN_INS, each, 401) for each in ("password", "hash", "disabled", "deleted")),
    *((REAUTH | PUT, each, 401) for each in ("password", "disabled", "deleted", "signed out")),
    (PUT, "hash", 403),
]


@dataclass
class Midway:
    """Makes the change once, and keeps the content of the database after it."""

    db: Connection
    change: Change
    now: int
    left: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def trigger(self) -> None:
        if not self.left:
            self.change(self.db, self.now)
            self.left = everything(self.db)


def hooked(midway: Midway, hashing: Callable[..., Any]) -> Callable[..., Any]:
    def hashed(*args: Any, **kwargs: Any) -> Any:
        result = hashing(*args, **kwargs)
        midway.trigger()
        return result

    return hashed


@pytest.mark.parametrize(
    ("send", "change", "status"),
    [
        pytest.param(send, change, status, id=f"{name}-{change}")
        for requests, change, status in CASES
        for name, send in requests.items()
    ],
)
def test_changes_during_hashing_are_respected(
    client: FlaskClient, db: Connection, travis: dict[str, str], clock: Clock,
    monkeypatch: pytest.MonkeyPatch, send: Send, change: str, status: int,
) -> None:  # fmt: skip
    midway = Midway(db, CHANGES[change], int(clock()))
    for name in ("hashpw", "checkpw"):  # passlib calls one of them
        monkeypatch.setattr(bcrypt, name, hooked(midway, getattr(bcrypt, name)))

    response = send(client, travis)

    assert midway.left
    assert response.status_code == status
    assert "WWW-Authenticate" in response.headers or status == 403
    assert everything(db) == midway.left  # no session opened, nothing changed


class Upload(io.BytesIO):
    """A request body that triggers the change when it is read."""

    def __init__(self, content: bytes, midway: Midway) -> None:
        super().__init__(content)
        self.midway = midway

    def read(self, size: int | None = -1, /) -> bytes:
        self.midway.trigger()
        return super().read(size)

    def readinto(self, buffer: Any, /) -> int:
        self.midway.trigger()
        return super().readinto(buffer)


@pytest.mark.parametrize("change", ["password", "disabled", "deleted", "signed out"])
def test_changes_during_an_upload_are_respected(
    client: FlaskClient, db: Connection, travis: dict[str, str], clock: Clock, change: str
) -> None:
    body = b'{"username": "renamed"}'
    midway = Midway(db, CHANGES[change], int(clock()))

    response = client.patch(
        "/me", input_stream=Upload(body, midway), headers=travis,
        content_type="application/json", content_length=len(body),
    )  # fmt: skip

    assert midway.left
    assert response.status_code == 401
    assert everything(db) == midway.left
