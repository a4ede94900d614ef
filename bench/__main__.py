"""`make bench`: compare this service with its peers and a bare WSGI application.

Each service is measured once per round; the table has the medians of the rounds and their spread.
Absolute numbers on a shared machine mean little: read the ratios.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from bench import load, measure, report
from bench.services import SERVICES, Service, make_database, running

USERS = 1000
SIZES = (1_000, 100_000, 1_000_000)
Results = dict[str, dict[str, list[float]]]


def main() -> None:
    """Measure and print the table; a complete run also writes it to docs/performance.md."""
    options = _options()
    load.require_wrk()
    results: Results = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        for number in range(options.rounds):
            for key in options.only:
                _say(f"round {number + 1} of {options.rounds}: {SERVICES[key].name}")
                _add(results[key], _round(SERVICES[key], folder, options))
            _say(f"round {number + 1} of {options.rounds}: bcrypt alone")
            _add(results["bcrypt"], {"sign-ins/s": load.bcrypt_rate(options.seconds)})
            if options.growth:
                for users in SIZES:
                    _say(f"round {number + 1} of {options.rounds}: {users} users")
                    _add(results["growth"], measure.growth(folder, users, options.seconds))
    print(report.table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    if options.write and options.growth and len(options.only) == len(SERVICES):
        report.write(results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="for each row")
    parser.add_argument("--storm", type=int, default=30, metavar="SECONDS")
    parser.add_argument("--no-growth", dest="growth", action="store_false")
    parser.add_argument("--no-write", dest="write", action="store_false",
                        help="leave docs/performance.md, which a complete run writes")  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the numbers of each round to a file")
    parser.add_argument(
        "--only", nargs="+", choices=SERVICES, default=list(SERVICES), metavar="NAME",
        help=", ".join(SERVICES),
    )  # fmt: skip
    return parser.parse_args()


def _round(service: Service, folder: Path, options: argparse.Namespace) -> measure.Figures:
    database = folder / f"{service.kind}.db"
    if not database.exists():
        make_database(service.kind, database, USERS)
    with running(service, folder, database) as started:
        if service is SERVICES["bare"]:
            return measure.reads(started, options.seconds)
        found = measure.reads(started, options.seconds)
        found |= measure.sign_ins(started, options.seconds)
        ours = service.kind == "ours"
        found |= measure.storm(started, options.storm if ours else min(10, options.storm))
        if ours:
            found |= measure.refreshes(started, options.seconds)
            found |= measure.reads_of_many(started, database, options.seconds)
        return found | measure.footprint(started)


def _add(rows: dict[str, list[float]], figures: measure.Figures) -> None:
    for name, figure in figures.items():
        rows[name].append(figure)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
