"""Measure the admin routes with a million users: `.venv/bin/python -m bench.administration`.

Prints the median of requests in this process, without network and logging, to a database with as
many audit rows, of a year, and a tenth as many active sessions. An argument is the number of users.
"""

from __future__ import annotations

import logging
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from flask.testing import FlaskClient

from jwt_server import sqlite
from jwt_server.admin import stats
from jwt_server.app import create_app
from jwt_server.audit import Actor
from jwt_server.config import Settings
from jwt_server.database import Database
from jwt_server.security.passwords import hash_password
from jwt_server.users import users

USERS = 1_000_000
ROUNDS = 15
PASSWORD = "correct horse battery"  # noqa: S105 - of this benchmark

FILL = (
    """
    INSERT INTO users (username, username_key, password_hash, admin, disabled, created_at)
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
    SELECT printf('user%07d', i), printf('user%07d', i), '', i % 10000 = 0, i % 100 = 1, :now FROM n
    """,
    """
    INSERT INTO audit (at, action, actor_id, user_id, address, details)
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
    SELECT :now - 31536000 + i * 31536000 / :count,
           CASE
               WHEN i % 9 < 5 THEN 'signed_in'
               WHEN i % 9 < 8 THEN 'sign_in_failed'
               ELSE 'locked_out'
           END,
           i * 7919 % :count, i * 7919 % :count, '203.0.113.9', '{}'
    FROM n
    """,
    """
    INSERT INTO sessions (
        id, user_id, nonce, generation, refreshable, created_at, rotated_at, last_used_at,
        authenticated_at, expires_at, ends_at, address, user_agent
    )
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)
    SELECT 's' || i, i, x'00', 1, 1, :now, :now, :now, :now, :now + 99999, :now + 99999, '', ''
    FROM n WHERE i % 10 = 1
    """,
)

PATHS = (
    "/admin/users", "/admin/users?search=user05", "/admin/users?search=user05&limit=100",
    "/admin/users?admin=true", "/admin/users?disabled=true", "/admin/users?search=nobody",
    "/admin/users/77", "/admin/audit", "/admin/audit?user=77", "/admin/audit?action=locked_out",
    "/admin/stats?days=1", "/admin/stats", "/admin/stats?days=30", "/admin/stats?days=90",
    "/admin/stats?days=365",
)  # fmt: skip


def filled(folder: str, count: int) -> tuple[FlaskClient, dict[str, str]]:
    """Create a service with so many users; return a client, and the headers of an admin."""
    path, now = Path(folder, "bench.db"), int(time.time())
    sqlite.create(path)
    with Database(path).connection() as db:
        hashed = hash_password(PASSWORD, 4)
        users.add(db, "admin", hashed, admin=True, actor=Actor(None, None, now))
        with db.transaction():
            for statement in FILL:
                db.driver.execute(statement, {"count": count, "now": now})
    settings = Settings((b"s" * 32,), (b"j" * 32,), path, salt_rounds=4)
    client = create_app(settings).test_client()
    token = client.post("/auth", data={"username": "admin", "password": PASSWORD}).text
    return client, {"Authorization": f"Bearer {token}"}


def seconds(client: FlaskClient, path: str, headers: dict[str, str]) -> float:
    """Return the median time of a request."""
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        response = client.get(path, headers=headers)
        taken.append(time.perf_counter() - start)
        assert response.status_code == 200
    return statistics.median(taken)


def main() -> None:
    """Measure and print a table."""
    count = int(sys.argv[1]) if sys.argv[1:] else USERS
    with TemporaryDirectory() as folder:
        client, headers = filled(folder, count)
        logging.disable()
        print(f"{count:,} users, as many audit rows; series of {len(stats.COUNTED)} actions")
        for path in PATHS:
            print(f"{seconds(client, path, headers) * 1000:8.2f} ms  {path}")


if __name__ == "__main__":
    main()
