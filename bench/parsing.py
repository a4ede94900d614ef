"""Measure every parser of what clients send: `python -m bench.parsing`.

Sends each request of tests/helpers/adversarial.py to the app in this process, at 1, 2, 4 and 8
eighths of the largest size that the server lets through. Prints the median CPU time of the shape
that is slowest for each parser.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from flask import Flask
from tabulate import tabulate

from jwt_server.app import create_app
from jwt_server.config import Settings
from tests.helpers.adversarial import CASES, FACTORS, ORIGIN
from tests.helpers.databases import create_database
from tests.helpers.factories import JWT_SECRET, SECRET_KEY, UNTHROTTLED, bearer, token

RUNS = 15


def app(folder: Path) -> Flask:
    """Create an app behind a proxy, with the demo user signed in."""
    create_database(folder / "parsing.db")
    settings = Settings(
        (SECRET_KEY,),
        (JWT_SECRET,),
        folder / "parsing.db",
        salt_rounds=4,
        trusted_proxies=1,
        cors_origins=(ORIGIN,),
        **UNTHROTTLED,
    )
    return create_app(settings)


def unit() -> float:
    """Return the CPU time of 20 million additions, which the machine is compared by."""
    before, total = time.thread_time(), 0
    for number in range(20_000_000):
        total += number
    return time.thread_time() - before


def size(count: int) -> str:
    """Format a number of bytes."""
    return f"{count / 1024:g} KiB"


def main() -> None:
    """Measure and print a table."""
    logging.basicConfig(level=logging.ERROR)
    slowest: dict[str, tuple[float, list[str]]] = {}
    with TemporaryDirectory() as folder:
        asked = app(Path(folder))
        for case in CASES:
            times = [case.seconds(asked, each, bearer(token()), RUNS) * 1000 for each in FACTORS]
            row = [case.parser, case.shape, size(case.eighth * FACTORS[-1])]
            row += [f"{each:.1f}" for each in times]
            slowest[case.parser] = max(slowest.get(case.parser, (0, [])), (times[-1], row))
    print(f"CPU time in ms; 20 million additions take {unit():.2f} s\n")
    headers = ["parser", "slowest input", "largest size", "1/8", "1/4", "1/2", "largest"]
    rows = [row for _, row in slowest.values()]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
