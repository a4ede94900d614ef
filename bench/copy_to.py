"""Measure the copy of 100,000 users to PostgreSQL: `.venv/bin/python -m bench.copy_to`.

Each user has a session, two pets and three audit rows. Runs `flask copy-to` on a small and on a
large file, into a private cluster with fsync, and prints the seconds and the peak memory of each
process.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from jwt_server import sqlite
from tests.helpers.postgresql import Cluster

FEW = 10
MANY = 100_000

COPY_TO = (sys.executable, "-m", "flask", "--app", "jwt_server.wsgi", "copy-to")

FILL = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :users)
INSERT INTO users (username, username_key, password_hash, created_at)
SELECT 'user' || i, 'user' || i, '$bcrypt-sha256$v=2,t=2b,r=12$' || hex(randomblob(26)), 1700000000
FROM n;

INSERT INTO sessions (id, user_id, nonce, generation, refreshable, created_at, rotated_at,
    last_used_at, authenticated_at, expires_at, ends_at, address, user_agent)
SELECT hex(randomblob(8)), id, randomblob(16), 1, 1, 1700000000, 1700000000, 1700000000,
    1700000000, 1800000000, 1800000000, '203.0.113.9',
    'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'
FROM users;

INSERT INTO pets (user_id, name, species, created_at)
SELECT id, 'Rex', 'dog', 1700000000 FROM users, (VALUES (1), (2));

INSERT INTO audit (at, action, actor_id, user_id, address, details)
SELECT 1700000000 + id, 'signed_in', id, id, '203.0.113.9', '{"session": "' || id || '"}'
FROM users, (VALUES (1), (2), (3));
"""


def fill(path: Path, users: int) -> None:
    """Create a database with this many users."""
    sqlite.create(path)
    with closing(sqlite3.connect(path)) as driver, driver:
        for statement in FILL.split("\n\n"):
            driver.execute(statement, {"users": users} if ":users" in statement else {})


def copy(folder: Path, cluster: Cluster, users: int) -> tuple[float, float]:
    """Copy a database with this many users; return seconds and peak memory in MB."""
    path = folder / f"{users}.db"
    fill(path, users)
    environment = os.environ | {
        "DATABASE_URL": f"sqlite:///{path}",
        "TARGET_DATABASE_URL": cluster.create_database(f"copied_{users}"),
        "JWT_SECRET": "j" * 32,
        "SECRET_KEY": "s" * 32,
    }
    start = time.perf_counter()
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(COPY_TO, env=environment, stdout=quiet, stderr=quiet)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # Popen can no longer wait for it
    assert process.returncode == 0
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    """Measure and print a table."""
    with TemporaryDirectory() as folder, Cluster(durable=True) as cluster:
        for users in (FEW, MANY):
            seconds, megabytes = copy(Path(folder), cluster, users)
            print(f"{users:>7} users: {seconds:5.1f} s, {megabytes:4.0f} MB peak")


if __name__ == "__main__":
    main()
