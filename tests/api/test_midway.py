"""What changes while a request is under way: between the check of a password, or of a token, and
the transaction that relies on it. What was ended meanwhile is over; the request changes nothing.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import bcrypt
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jwt_server.auth import sessions
from jwt_server.database import Connection
from jwt_server.security.passwords import hash_password
from jwt_server.users import users
from tests.api.test_sessions import JSON
from tests.helpers.app import Clock
from tests.helpers.factories import CREDENTIALS, OPERATOR, everything

OTHER_HASH = hash_password("another password", 4)
PASSWORD = {"password": "mypassword"}
CHANGE = {"current_password": "mypassword", "new_password": "correct horse battery"}

Send = Callable[[FlaskClient, dict[str, str]], TestResponse]
Change = Callable[[Connection, int], Any]


def change_password(db: Connection, now: int) -> None:
    """As all who change it do."""
    with db.transaction():
        users.set_hash(db, 1, OTHER_HASH, actor=OPERATOR)
        sessions.end_all(db, 1, now)


CHANGES: dict[str, Change] = {
    "password": change_password,
    "hash": lambda db, _now: users.set_hash(db, 1, OTHER_HASH, actor=OPERATOR),
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

# Request, change, status. Who signs in afresh does not mind that others were signed out; who is
# signed in goes by the session, which ends with each change of the password.
CASES = [
    *((SIGN_INS, each, 401) for each in ("password", "hash", "disabled", "deleted")),
    *((REAUTH | PUT, each, 401) for each in ("password", "disabled", "deleted", "signed out")),
    (PUT, "hash", 403),
]


@dataclass
class Midway:
    """Makes the change when it is first come by, and keeps what the database held then."""

    db: Connection
    change: Change
    now: int
    left: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def come_by(self) -> None:
        if not self.left:
            self.change(self.db, self.now)
            self.left = everything(self.db)


def hooked(midway: Midway, hashing: Callable[..., Any]) -> Callable[..., Any]:
    def hashed(*args: Any, **kwargs: Any) -> Any:
        result = hashing(*args, **kwargs)
        midway.come_by()
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
def test_what_ends_while_a_password_is_hashed_is_over(
    client: FlaskClient, db: Connection, travis: dict[str, str], clock: Clock,
    monkeypatch: pytest.MonkeyPatch, send: Send, change: str, status: int,
) -> None:  # fmt: skip
    midway = Midway(db, CHANGES[change], int(clock()))
    for name in ("hashpw", "checkpw"):  # passlib calls one of them
        monkeypatch.setattr(bcrypt, name, hooked(midway, getattr(bcrypt, name)))

    answer = send(client, travis)

    assert midway.left
    assert answer.status_code == status
    assert "WWW-Authenticate" in answer.headers or status == 403
    assert everything(db) == midway.left  # no session opened, nothing changed


class Upload(io.BytesIO):
    """A body of a request, in whose midst something happens."""

    def __init__(self, content: bytes, midway: Midway) -> None:
        super().__init__(content)
        self.midway = midway

    def read(self, size: int | None = -1, /) -> bytes:
        self.midway.come_by()
        return super().read(size)

    def readinto(self, buffer: Any, /) -> int:
        self.midway.come_by()
        return super().readinto(buffer)


@pytest.mark.parametrize("change", ["password", "disabled", "deleted", "signed out"])
def test_what_ends_while_a_body_comes_in_is_over(
    client: FlaskClient, db: Connection, travis: dict[str, str], clock: Clock, change: str
) -> None:
    """The token was good when the request began."""
    body = b'{"username": "renamed"}'
    midway = Midway(db, CHANGES[change], int(clock()))

    answer = client.patch(
        "/me", input_stream=Upload(body, midway), headers=travis,
        content_type="application/json", content_length=len(body),
    )  # fmt: skip

    assert midway.left
    assert answer.status_code == 401
    assert everything(db) == midway.left
