"""`make bench`: compare this service with its peers and a bare WSGI application.

Each service is measured once per round; the table has the medians of the rounds and their spread.
Absolute numbers on a shared machine mean little: read the ratios.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from bench import load, measure, report
from bench.services import SERVICES, make_database, postgresql_database, running

USERS = 1000
SIZES = (1_000, 100_000, 1_000_000)
STARTED = time.monotonic()
PEER_STORM_SECONDS = 10  # longer than the 64 sign-ins take that start at once
VERSION = "import platform; print(platform.python_version())"
Results = dict[str, dict[str, list[float]]]


def main() -> None:
    """Measure and print the table; a complete run also writes it to docs/performance.md."""
    options = _options()
    if options.python:
        _add_interpreter(options)
    load.require_wrk()
    results: Results = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        for number in range(options.rounds):
            for key in options.only:
                _say(f"round {number + 1} of {options.rounds}: {SERVICES[key].name}")
                _add(results[key], _round(key, folder, options))
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
    parser.add_argument("--seconds", type=int, default=5, help="for each row")
    parser.add_argument("--storm", type=int, default=30, metavar="SECONDS")
    parser.add_argument("--no-growth", dest="growth", action="store_false")
    parser.add_argument("--no-write", dest="write", action="store_false",
                        help="leave docs/performance.md, which a complete run writes")  # fmt: skip
    parser.add_argument("--python", type=Path, metavar="PATH",
                        help="also run this service with this interpreter")  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the numbers of each round to a file")
    parser.add_argument(
        "--only", nargs="+", choices=SERVICES, default=list(SERVICES), metavar="NAME",
        help=", ".join(SERVICES),
    )  # fmt: skip
    return parser.parse_args()


def _add_interpreter(options: argparse.Namespace) -> None:
    done = subprocess.run(
        [options.python, "-c", VERSION], capture_output=True, text=True, check=True
    )
    name, python = f"jwt-server, Python {done.stdout.strip()}", str(options.python.absolute())
    SERVICES["python"] = replace(SERVICES["ours"], name=name, python=python)
    options.only.append("python")


def _round(key: str, folder: Path, options: argparse.Namespace) -> measure.Figures:
    service = SERVICES[key]
    database = _database(service.kind, folder)
    with running(service, folder, database) as started:
        behind_nginx = key in {"ours", "postgresql", "bare"} or key.startswith("fastapi")
        found = measure.reads(started, options.seconds, behind_nginx=behind_nginx)
        if key == "bare":
            return found
        if key in {"ours", "postgresql"}:
            found |= measure.sign_ins_and_bcrypt(started, options.seconds)
            found |= measure.storm(started, options.storm)
        else:
            found |= measure.sign_ins(started, options.seconds)
            found |= measure.storm(started, min(PEER_STORM_SECONDS, options.storm))
        if service.is_ours:
            found |= measure.refreshes(started, options.seconds)
            found |= measure.reads_of_many(started, database, options.seconds)
        return found | measure.footprint(started)


def _database(kind: str, folder: Path) -> Path | str:
    if kind == "postgresql":
        return postgresql_database(USERS)
    path = folder / f"{kind}.db"
    if not path.exists():
        make_database(kind, path, USERS)
    return path


def _add(rows: dict[str, list[float]], figures: measure.Figures) -> None:
    for name, figure in figures.items():
        rows[name].append(figure)


def _say(what: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - STARTED), 60)
    print(f"{minutes:2}:{seconds:02} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
