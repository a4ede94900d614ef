"""The report of a run."""

from __future__ import annotations

import statistics
from typing import Final

from tabulate import tabulate

from tests.torture.record import ACKNOWLEDGED, AFTER, BEFORE, OUTCOMES
from tests.torture.run import Result

MAX_LOSSES_SHOWN: Final = 40
"""Losses printed, at most."""

FIXED_VERSIONS: Final = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
"""The SQLite versions that fix the WAL-reset bug, the newest branch first."""


def has_wal_reset_bug(version: str) -> bool:
    """Tell whether this SQLite may, very rarely, lose a page: when one connection resets the log
    while another checkpoints.
    """
    number = tuple(int(part) for part in version.split("."))
    return number < FIXED_VERSIONS[0] and not any(
        fixed <= number < (*fixed[:1], fixed[1] + 1, 0) for fixed in FIXED_VERSIONS[1:]
    )


def progress(result: Result) -> str:
    """Return a line with the progress."""
    ledger = result.ledger
    return (
        f"kills {result.killed}/{result.plan.kills}, {ledger.total(ACKNOWLEDGED):,} acknowledged,"
        f" {ledger.total(BEFORE, AFTER)} without a response, {ledger.checks:,} comparisons,"
        f" {len(ledger.lost)} lost"
    )


def table(result: Result, sqlite_version: str) -> str:
    """Return the table of results."""
    parts = [
        tabulate(sorted(result.kills.items()), ("kill", "times")),
        _operations(result),
        tabulate(_facts(result, sqlite_version), disable_numparse=True, tablefmt="plain"),
        f"{len(result.ledger.lost)} lost",
    ]
    return "\n\n".join(parts + result.ledger.lost[:MAX_LOSSES_SHOWN])


def _operations(result: Result) -> str:
    counts = result.ledger.counts
    names = sorted({name for name, _ in counts})
    rows: list[list[object]] = [
        [name, *(counts[name, each] for each in OUTCOMES)] for name in names
    ]
    rows.append(["total", *(result.ledger.total(each) for each in OUTCOMES)])
    return tabulate(rows, ("operation", *OUTCOMES))


def _facts(result: Result, sqlite_version: str) -> list[tuple[str, str]]:
    ledger, waits = result.ledger, result.waits
    bug = "has" if has_wal_reset_bug(sqlite_version) else "does not have"
    statuses = ", ".join(f"{n:,} of {status}" for status, n in sorted(ledger.statuses.items()))
    return [
        ("until ready again", f"median {statistics.median(waits):.1f} s, maximum"
                                     f" {max(waits):.1f} s"),
        ("checks by SQLite", f"{result.file_checks} times"),
        ("records compared", f"{result.compared} times, {result.over_http} of them over HTTP too,"
                                     f" {ledger.checks:,} comparisons"),
        ("responses", statuses),
        ("SQLite", f"{sqlite_version}, which {bug} the WAL-reset bug"),
        ("clients, seed, seconds", f"{result.plan.clients}, {result.plan.seed},"
                                   f" {result.seconds:.0f}"),
    ]  # fmt: skip
