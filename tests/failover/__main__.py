"""`make failover`: kill the primary under load again and again, and check that nothing is lost.

Two clusters of PostgreSQL, of which the standby is synchronous, and the service with the addresses
of both. Clients sign in and out, refresh, write and read, and record what is acknowledged. All
processes of the primary are killed at once, and the standby is promoted; then the rows are compared
with the records, and a new standby takes the place of the old primary. Exits with 1 if anything is
lost, a response is wrong, or the service works again only 5 s after the promotion.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from tests.failover.run import Failover, Plan, Result

COLUMNS = (
    "failover", "outage", "first read", "first write", "last 503", "503s", "slowest response",
)  # fmt: skip
MAX_SHOWN = 40


def show_round(result: Result) -> None:
    """Print a line with the progress."""
    count, last = len(result.rounds), result.rounds[-1]
    print(
        f"failover {count}/{result.plan.failovers}: last 503 after {last.last_refusal:.2f} s,"
        f" {result.acknowledged:,} writes acknowledged, {len(result.problems())} problems",
        flush=True,
    )


def table(result: Result) -> str:
    """Return the table of failovers, in seconds, and a summary."""
    rows = [
        (number, each.outage, each.first_read, each.first_write, each.last_refusal,
         each.refused, each.longest)
        for number, each in enumerate(result.rounds, 1)
    ]  # fmt: skip
    worst = [max(column) for column in zip(*rows, strict=True)]
    ledger, problems = result.ledger, result.problems()
    return "\n".join([
        tabulate([*rows, ("worst", *worst[1:])], COLUMNS, floatfmt=".2f"),
        "",
        f"{len(rows)} failovers, {len(ledger.lost)} acknowledged writes lost of"
        f" {result.acknowledged:,}, {len(ledger.wrong)} wrong responses of"
        f" {len(ledger.samples):,}, {ledger.checks:,} comparisons",
        f"seed {result.plan.seed}, {result.plan.clients} clients, {result.seconds:.0f} s",
        *problems[:MAX_SHOWN],
    ])  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.failover", description=__doc__)
    parser.add_argument("--failovers", type=int, default=20)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6),
        help="repeats the random choices, but not their timing",
    )  # fmt: skip
    parser.add_argument(
        "--hang", action="store_true", help="let the primary hang until the promotion instead"
    )
    options = parser.parse_args(arguments)
    plan = Plan(options.failovers, options.clients, options.seed, options.hang)
    folder = Path(tempfile.mkdtemp(prefix="failover-"))
    print(f"seed {plan.seed}, log in {folder}", flush=True)
    result = Failover(plan, folder, show_round).run()
    print(f"\n{table(result)}")
    if result.problems():
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
