"""Measure a sign-in with 100,000 expired sessions: `.venv/bin/python -m bench.dead_sessions`.

Prints the median of sign-ins in this process with cheap hashes (cost 4), with no and with many
expired sessions in the table, in alternating rounds, and their ratio.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from flask.testing import FlaskClient

from jwt_server import sqlite
from jwt_server.app import create_app
from jwt_server.config import Settings
from jwt_server.database import Database
from jwt_server.users import users

DEAD = 100_000
ROUNDS = 15
SIGN_INS = 40

# They expired within the last day, so none is pruned during the measurement.
FILL = """
INSERT INTO sessions (
    id, user_id, nonce, generation, refreshable, created_at, rotated_at, last_used_at,
    authenticated_at, expires_at, ends_at, ended_at, address, user_agent
)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :dead)
SELECT 'dead' || i, 1, x'00', 1, 1, 0, 0, 0, 0, :now - 60, 0, :now - 60, '', '' FROM n
"""


@dataclass(frozen=True)
class Case:
    """A service whose only user has this many expired sessions."""

    dead: int
    client: FlaskClient

    def seconds(self) -> float:
        """Return the median time of a sign-in."""
        taken = []
        for _ in range(SIGN_INS):
            start = time.perf_counter()
            answer = self.client.post(
                "/auth", data={"username": "travis", "password": "mypassword"}
            )
            taken.append(time.perf_counter() - start)
            assert answer.status_code == 200
        return statistics.median(taken)


def case(folder: Path, dead: int) -> Case:
    """Create a service with this many expired sessions."""
    path = folder / f"{dead}.db"
    sqlite.create(path)
    settings = Settings((b"s" * 32,), (b"j" * 32,), path, salt_rounds=4)
    with Database(path).connection() as db:
        users.add_demo_user(db, 4, 0)
        if dead:
            db.driver.execute(FILL, {"dead": dead, "now": int(time.time())})
    return Case(dead, create_app(settings).test_client())


def main() -> None:
    """Measure and print a table."""
    with TemporaryDirectory() as folder:
        cases = [case(Path(folder), dead) for dead in (0, DEAD)]
        rounds = [[each.seconds() for each in cases] for _ in range(ROUNDS)]
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    for each, median in zip(cases, medians, strict=True):
        print(f"{each.dead:>7} expired sessions: {median * 1000:6.2f} ms a sign-in")
    print(f"ratio: {medians[1] / medians[0]:.2f}")


if __name__ == "__main__":
    main()
