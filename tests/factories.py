"""Things that tests make: tokens of every shape, good and bad; other users."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from jwt_server.accounts.usernames import normalized, username_key
from jwt_server.database import Connection
from jwt_server.security.passwords import hash_password

SECRET_KEY = b"a secret key for the tests, 32 bytes and more"
JWT_SECRET = b"a JWT secret for the tests, 32 bytes and more"

HEADER = {"alg": "HS256", "typ": "JWT"}
ABSENT = object()


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: bytes, payload: bytes, key: bytes = JWT_SECRET) -> str:
    """Whatever header and payload, under a good HMAC-SHA-256."""
    signing_input = f"{base64url(header)}.{base64url(payload)}"
    mac = hmac.new(key, signing_input.encode(), hashlib.sha256).digest()
    return f"{signing_input}.{base64url(mac)}"


def claims(now: int | None = None, **changes: Any) -> dict[str, Any]:
    """The claims of the demo user's token; `changes` replaces some, ABSENT leaves one out."""
    issued = int(time.time()) if now is None else now
    good = {
        "iss": "jwt-server",
        "aud": "jwt-server",
        "sub": "1",
        "iat": issued,
        "exp": issued + 900,
        "jti": "test",
        "admin": False,
    }
    return {name: value for name, value in (good | changes).items() if value is not ABSENT}


def token(
    now: int | None = None,
    header: dict[str, Any] | None = None,
    key: bytes = JWT_SECRET,
    **changes: Any,
) -> str:
    """A token that this service would take, but for the changes."""
    return signed(
        json.dumps(HEADER if header is None else header).encode(),
        json.dumps(claims(now, **changes)).encode(),
        key,
    )


def bearer(access_token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {access_token}"}


def add_user(
    db: Connection, username: str, password: str = "correct horse", password_hash: str | None = None
) -> int:
    """Insert a user straight into the table; the id."""
    cursor = db.driver.execute(
        "INSERT INTO users (username, username_key, password_hash, created_at)"
        " VALUES (?, ?, ?, 0) RETURNING id",
        (
            normalized(username),
            username_key(username),
            password_hash or hash_password(password, 4),
        ),
    )
    user_id: int = cursor.fetchone()["id"]
    return user_id
