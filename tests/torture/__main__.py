"""`make torture`: load the service, kill it again and again, and see that nothing is lost.

Clients sign up, refresh, change passwords, write pets and delete, each with a record of its own.
The service is killed at random moments with SIGKILL: a worker, all, the whole tree. Then what is
there is compared with the records. Ends with 1 where anything is lost.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.torture import report
from tests.torture.run import Plan, Result, Torture


def say(result: Result) -> None:
    """Print how far it is, over the line before on a terminal."""
    end = "\r" if sys.stdout.isatty() and not result.ledger.lost else "\n"
    print(report.progress(result), end=end, flush=True)


def main(arguments: Sequence[str] | None = None, watch: Callable[[Result], None] = say) -> int:
    """Run it, and print the table; what to exit with. `watch` is called after each round."""
    options = _options(arguments)
    plan = Plan(options.kills, options.clients, options.seed)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="torture-"))
    print(f"seed {plan.seed}, in {folder}", flush=True)
    result = Torture(plan, folder, watch).run()
    print(f"\n{report.table(result, sqlite3.sqlite_version)}")
    if result.ledger.lost:
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
        help="makes the same choices again; the moments are never the same",
    )  # fmt: skip
    parser.add_argument("--folder", type=Path, help="for the database and the log; is kept")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
