"""Makes tokens, good and bad, users and sessions."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from jwt_server.audit import Actor
from jwt_server.database import Connection
from jwt_server.security.passwords import hash_password
from jwt_server.users.names import normalize, username_key

T = TypeVar("T")

SECRET_KEY = b"a secret key for the tests of 32 bytes or more"
JWT_SECRET = b"a JWT secret for the tests of 32 bytes or more"

CREDENTIALS = {"username": "travis", "password": "mypassword"}

SETTINGS = (
    "ACCESS_TOKEN_TTL", "AUDIT_RETENTION", "CORS_ORIGINS", "DATABASE_URL",
    "HASH_CONCURRENCY", "HASH_QUEUE", "HASH_WAIT", "HOST", "JWKS_MAX_AGE", "JWT_ALGORITHM",
    "JWT_AUDIENCE", "JWT_ISSUER", "JWT_KEYS_DIR", "JWT_SECRET", "JWT_SECRET_FILE",
    "JWT_SECRET_PREVIOUS", "JWT_SECRET_PREVIOUS_FILE", "JWT_TYP", "KEEP_ALIVE",
    "LOG_FORMAT", "METRICS_HOST", "METRICS_PORT",
    "PASSWORD_MIN_LENGTH", "PORT",
    "REFRESH_GRACE", "REFRESH_TOKEN_IDLE_TTL", "REFRESH_TOKEN_TTL", "SALT_ROUNDS",
    "SCRIPT_NAME", "SECRET_KEY", "SECRET_KEY_FILE", "SECRET_KEY_PREVIOUS",
    "SECRET_KEY_PREVIOUS_FILE", "SIGNUP",
    "TEXT_TOKEN_TTL", "THROTTLE_ACCOUNT", "THROTTLE_ADDRESS", "THROTTLE_PAIR",
    "TRUSTED_PROXIES", "WEB_CONCURRENCY", "WORKERS",
)  # fmt: skip

UNTHROTTLED: dict[str, Any] = dict.fromkeys(
    ("throttle_account", "throttle_address", "throttle_pair"), 1_000_000
)
"""Settings without rate limits, for all tests but those of the limits."""

OPERATOR = Actor(None, None, 0)
"""The actor of changes that tests make without HTTP."""

HEADER = {"alg": "HS256", "typ": "JWT"}
ABSENT = object()

SESSION = "travis-session-of-test"
"""The ID of the session that `token()` names; `open_session` inserts it."""


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: bytes, payload: bytes, key: bytes = JWT_SECRET) -> str:
    """Sign any header and payload with HMAC-SHA-256."""
    signing_input = f"{base64url(header)}.{base64url(payload)}"
    mac = hmac.new(key, signing_input.encode(), hashlib.sha256).digest()
    return f"{signing_input}.{base64url(mac)}"


def claims(now: int | None = None, **changes: Any) -> dict[str, Any]:
    """Return the claims of the demo user's token; `changes` replaces some, ABSENT removes one."""
    issued = int(time.time()) if now is None else now
    good = {
        "iss": "jwt-server",
        "aud": "jwt-server",
        "sub": "1",
        "iat": issued,
        "exp": issued + 900,
        "jti": "test",
        "sid": SESSION,
        "admin": False,
    }
    return {name: value for name, value in (good | changes).items() if value is not ABSENT}


def token(
    now: int | None = None,
    header: dict[str, Any] | None = None,
    key: bytes = JWT_SECRET,
    **changes: Any,
) -> str:
    """Return a token that the service accepts, but for the changes."""
    return signed(
        json.dumps(HEADER if header is None else header).encode(),
        json.dumps(claims(now, **changes)).encode(),
        key,
    )


def bearer(access_token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {access_token}"}


def execute(db: Connection, statement: str, *parameters: object) -> list[dict[str, Any]]:
    """Execute SQL with `?` for parameters; return the rows, if it has some."""
    cursor = db.driver.cursor()
    if parameters:
        cursor.execute(_with_placeholders(db, statement), parameters)
    else:
        cursor.execute(statement)
    rows: list[dict[str, Any]] = cursor.fetchall() if cursor.description else []
    return rows


def execute_many(db: Connection, statement: str, rows: Iterable[Sequence[object]]) -> None:
    """Execute an INSERT with VALUES for each row of parameters, many rows at once."""
    head, _, values = statement.partition(" VALUES ")
    with db.transaction():
        for some in batched([*rows]):
            inserted = f"{head} VALUES {', '.join([values] * len(some))}"
            execute(db, inserted, *chain.from_iterable(some))


def batched(rows: Sequence[T], size: int = 1000) -> Iterator[Sequence[T]]:
    """Yield the rows in parts; no statement has more than 32,766 parameters in SQLite."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _with_placeholders(db: Connection, statement: str) -> str:
    """Return SQL with the driver's placeholders."""
    if db.engine.dialect == "sqlite":
        return statement
    return statement.replace("%", "%%").replace("?", "%s")


def open_session(
    db: Connection, now: int | None = None, user_id: int = 1, sid: str = SESSION
) -> None:
    """Insert an active session with a known ID."""
    opened = int(time.time()) if now is None else now
    execute(db, INSERT_SESSION, *session_row(user_id, sid, opened))


INSERT_SESSION = (
    "INSERT INTO sessions (id, user_id, nonce, generation, refreshable, created_at, rotated_at,"
    " last_used_at, authenticated_at, expires_at, ends_at, address, user_agent)"
    " VALUES (?, ?, ?, 1, 1, ?, ?, ?, ?, ?, ?, '', '')"
)


def session_row(user_id: int, sid: str, opened: int) -> tuple[object, ...]:
    return (sid, user_id, b"n" * 16, opened, opened, opened, opened, 2**33, 2**33)


def bearer_of(db: Connection, user_id: int, now: int) -> dict[str, str]:
    """Open a session of another user; returns the Authorization header."""
    sid = f"session-of-user-{user_id:06}"
    execute(db, INSERT_SESSION, *session_row(user_id, sid, now))
    return bearer(token(now, sub=str(user_id), sid=sid))


def add_user(
    db: Connection, username: str, password: str = "correct horse", password_hash: str | None = None
) -> int:
    """Insert a user; returns the ID."""
    [row] = execute(
        db,
        "INSERT INTO users (username, username_key, password_hash, created_at)"
        " VALUES (?, ?, ?, 0) RETURNING id",
        normalize(username),
        username_key(username),
        password_hash or hash_password(password, 4),
    )
    return int(row["id"])


def everything(db: Connection) -> dict[str, list[dict[str, Any]]]:
    """Return all rows by table, without the audit log and the rate limits."""
    return {
        table: db.driver.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()  # noqa: S608 - ours
        for table in ("users", "sessions", "known_addresses", "pets")
    }


def spoil(path: Path, kind: str) -> bytes:
    """Make the database file unusable; returns its content before."""
    with closing(sqlite3.connect(path)) as driver:
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    good = path.read_bytes()
    path.unlink()
    if kind == "no database":
        path.write_bytes(b"this is no database, but longer than a header of one\n" * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "another":
        path.write_bytes(good[:68] + b"mine" + good[72:])
    elif kind == "newer":
        path.write_bytes(good[:60] + (99).to_bytes(4, "big") + good[64:])
    elif kind == "older":
        path.write_bytes(good[:60] + (1).to_bytes(4, "big") + good[64:])
    elif kind == "not writable":
        # Root may write any file, so this uses the file format: SQLite opens a file with an
        # unknown write version for reading only.
        path.write_bytes(good[:18] + b"\3" + good[19:])
    return good


# Ways in which a database file is unusable, and the message to the operator.
KINDS = {
    "missing": "No database at",
    "no database": "file is not a database",
    "empty": "is not a database of this service",
    "another": "is not a database of this service",
    "a folder": "can't be opened",
    "newer": "schema version 99, this release knows 8 and no newer one",
    "older": "schema version 1, this release needs 8",
    "not writable": "can't be written",
}
