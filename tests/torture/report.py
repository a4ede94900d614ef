"""What a person sees of a run."""

from __future__ import annotations

import statistics
from typing import Final

from tabulate import tabulate

from tests.torture.record import ACKNOWLEDGED, AFTER, BEFORE, OUTCOMES
from tests.torture.run import Result

SHOWN: Final = 40
"""So much of what is lost is printed."""

MENDED: Final = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
"""The SQLite versions in which the WAL-reset fault is mended, the newest branch first."""


def has_wal_reset_fault(version: str) -> bool:
    """Whether an SQLite of this version may, very rarely, lose a page: where a connection begins
    the log anew in the moment in which another checkpoints.
    """
    number = tuple(int(part) for part in version.split("."))
    return number < MENDED[0] and not any(
        mended <= number < (*mended[:1], mended[1] + 1, 0) for mended in MENDED[1:]
    )


def progress(result: Result) -> str:
    """One line of how far it is."""
    ledger = result.ledger
    return (
        f"kills {result.killed}/{result.plan.kills}, {ledger.total(ACKNOWLEDGED):,} acknowledged,"
        f" {ledger.total(BEFORE, AFTER)} answers lost, {ledger.checks:,} facts compared,"
        f" {len(ledger.lost)} lost"
    )


def table(result: Result, sqlite_version: str) -> str:
    """What has come of it."""
    parts = [
        tabulate(sorted(result.kills.items()), ("kill", "times")),
        _operations(result),
        tabulate(_facts(result, sqlite_version), disable_numparse=True, tablefmt="plain"),
        f"{len(result.ledger.lost)} lost",
    ]
    return "\n\n".join(parts + result.ledger.lost[:SHOWN])


def _operations(result: Result) -> str:
    counts = result.ledger.counts
    names = sorted({name for name, _ in counts})
    rows: list[list[object]] = [
        [name, *(counts[name, each] for each in OUTCOMES)] for name in names
    ]
    rows.append(["together", *(result.ledger.total(each) for each in OUTCOMES)])
    return tabulate(rows, ("operation", *OUTCOMES))


def _facts(result: Result, sqlite_version: str) -> list[tuple[str, str]]:
    ledger, waits = result.ledger, result.waits
    fault = "has" if has_wal_reset_fault(sqlite_version) else "is free of"
    statuses = ", ".join(f"{n:,} of {status}" for status, n in sorted(ledger.statuses.items()))
    return [
        ("until all answered again", f"median {statistics.median(waits):.1f} s, at the most"
                                     f" {max(waits):.1f} s"),
        ("file checked by SQLite", f"{result.files} times"),
        ("records compared with it", f"{result.compared} times, {result.asked} of them over HTTP,"
                                     f" too: {ledger.checks:,} facts"),
        ("answers", statuses),
        ("SQLite", f"{sqlite_version}, which {fault} the WAL-reset fault"),
        ("clients, seed, seconds", f"{result.plan.clients}, {result.plan.seed},"
                                   f" {result.seconds:.0f}"),
    ]  # fmt: skip
