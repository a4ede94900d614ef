"""What 100,000 dead sessions cost a sign-in: `.venv/bin/python -m bench.dead_sessions`.

Prints the median sign-in, in-process and without the cost of a password's hash (cost 4), with
none and with many dead sessions in the table, in rounds that take turns, and their ratio.
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
from jwt_server.users import demo

DEAD = 100_000
ROUNDS = 15
SIGN_INS = 40

# They died within the day, so none is cleared away while the clock runs.
FILL = """
INSERT INTO sessions
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :dead)
SELECT NULL, 'dead' || i, 1, x'00', 1, 1, 0, 0, 0, 0, :now - 60, 0, :now - 60, '', '' FROM n
"""


@dataclass(frozen=True)
class Case:
    """A service with so many dead sessions of its one user."""

    dead: int
    client: FlaskClient

    def seconds(self) -> float:
        """How long one sign-in takes, the median of a round."""
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
    """A fresh service with `dead` dead sessions."""
    path = folder / f"{dead}.db"
    sqlite.create(path)
    settings = Settings((b"s" * 32,), (b"j" * 32,), path, salt_rounds=4)
    with Database(path).connection() as db:
        demo.add_demo_user(db, 4, 0)
        if dead:
            db.driver.execute(FILL, {"dead": dead, "now": int(time.time())})
    return Case(dead, create_app(settings).test_client())


def main() -> None:
    """Measure, and print a table."""
    with TemporaryDirectory() as folder:
        cases = [case(Path(folder), dead) for dead in (0, DEAD)]
        rounds = [[each.seconds() for each in cases] for _ in range(ROUNDS)]
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    for each, median in zip(cases, medians, strict=True):
        print(f"{each.dead:>7} dead sessions: {median * 1000:6.2f} ms a sign-in")
    print(f"ratio: {medians[1] / medians[0]:.2f}")


if __name__ == "__main__":
    main()
