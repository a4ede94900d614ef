"""`make torture`: kill the service under load again and again, and check that nothing is lost.

Clients sign up, refresh, change passwords, write pets and delete, and record what is acknowledged.
The service is killed at random moments with SIGKILL: a worker, all workers, or all processes. With
TEST_DATABASE=postgresql in the environment it runs on PostgreSQL, which is killed, too: all of it,
or a connection's backend. Then the database is compared with the records. Exits with 1 if anything
is lost.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from tests.helpers.databases import ON_POSTGRESQL
from tests.torture import report
from tests.torture.run import Plan, Torture


def report_progress(torture: Torture) -> None:
    """Print the progress; on a terminal, over the previous line."""
    result = torture.result
    end = "\r" if sys.stdout.isatty() and not result.ledger.lost else "\n"
    print(report.progress(result), end=end, flush=True)


def main(
    arguments: Sequence[str] | None = None, watch: Callable[[Torture], None] = report_progress
) -> int:
    """Run it and print the table; returns the exit code. `watch` is called after each round."""
    options = _options(arguments)
    plan = Plan(options.kills, options.clients, options.seed, victims=options.victims)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="torture-"))
    print(f"seed {plan.seed}, in {folder}", flush=True)
    with closing(Torture(plan, folder, watch)) as torture:
        result = torture.run()
        print(f"\n{report.table(result, torture.database.version)}")
        if result.ledger.lost:
            torture.database.keep(folder)
            print(f"\nThe database and the log are in {folder}.")
            return 1
    if options.folder is None:
        shutil.rmtree(folder)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6),
        help="repeats the random choices, but not their timing",
    )  # fmt: skip
    victims = ("all", "service", "database") if ON_POSTGRESQL else ("all", "service")
    parser.add_argument("--victims", choices=victims, default="all", help="what is killed")
    parser.add_argument("--folder", type=Path, help="for the database and the log; kept afterwards")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
