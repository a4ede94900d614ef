"""The report of a run."""

from __future__ import annotations

import statistics
from typing import Final

from tabulate import tabulate

from tests.torture.record import ACKNOWLEDGED, AFTER, BEFORE, OUTCOMES
from tests.torture.run import Result

MAX_LOSSES_SHOWN: Final = 40
"""Losses printed, at most."""


def progress(result: Result) -> str:
    """Return a line with the progress."""
    ledger = result.ledger
    return (
        f"kills {result.killed}/{result.plan.kills}, {ledger.total(ACKNOWLEDGED):,} acknowledged,"
        f" {ledger.total(BEFORE, AFTER)} without a response, {ledger.checks:,} comparisons,"
        f" {len(ledger.lost)} lost"
    )


def table(result: Result, database: str) -> str:
    """Return the table of results with a database, which is described."""
    parts = [
        tabulate(sorted(result.kills.items()), ("kill", "times")),
        _operations(result),
        tabulate(_facts(result, database), disable_numparse=True, tablefmt="plain"),
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


def _facts(result: Result, database: str) -> list[tuple[str, str]]:
    ledger = result.ledger
    statuses = ", ".join(f"{n:,} of {status}" for status, n in sorted(ledger.statuses.items()))
    return [
        ("until ready again", _spread(result.waits)),
        ("503 after the database was back", _spread(result.recoveries)),
        ("slowest response", f"{ledger.slowest:.1f} s"),
        ("checks by the database", f"{result.own_checks} times"),
        ("records compared", f"{result.compared} times, {result.over_http} of them over HTTP too,"
                                     f" {ledger.checks:,} comparisons"),
        ("responses", statuses),
        ("database", database),
        ("clients, seed, seconds", f"{result.plan.clients}, {result.plan.seed},"
                                   f" {result.seconds:.0f}"),
    ]  # fmt: skip


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    return f"median {statistics.median(seconds):.1f} s, maximum {max(seconds):.1f} s"
