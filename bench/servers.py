"""Compare servers and their settings: the reasons for gunicorn/conf.py, in docs/performance.md.

    python -m bench.servers [--write]

The same service under other kinds of worker: reads over 16 kept-alive connections, spread over the
workers as they come, all on one worker, and behind nginx over a Unix socket; and reads on 4
connections while 64 people sign in.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from bench import load, measure
from bench.proxy import nginx
from bench.services import CORES, GUNICORN, ROOT, SERVICES, Running, Service, make_database, running

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured by bench.servers -->", "<!-- end of bench.servers -->"

HOUSE = (ROOT / "jwt_server" / "gunicorn" / "conf.py").as_posix()
UNPINNED = "def post_fork(server, worker):\n    pass\n"

# Each is the house's configuration, and what is different.
KINDS = {
    "gunicorn: jwt-server's worker, pinned": "",
    "gunicorn: jwt-server's worker, not pinned": UNPINNED,
    "gunicorn: gthread, pinned": "worker_class = 'gthread'\n",
    "gunicorn: sync, pinned": "worker_class, threads = 'sync', 1\n",
    "gunicorn: gevent, pinned": "worker_class = 'gevent'\n",
}
HEADS = (
    "", "reads/s", "p99 ms", "all on one worker/s", "nginx, Unix socket/s",
    "storm: reads/s", "p99 ms", "sign-ins/s",
)  # fmt: skip


def main() -> None:
    """Measure each server once per round, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.servers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--storm", type=int, default=8, metavar="SECONDS")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    options = parser.parse_args()
    found: dict[str, list[Sequence[float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        make_database("ours", folder / "users.db", 1000)
        for number in range(options.rounds):
            for service in services(folder):
                print(f"round {number + 1}: {service.name}", file=sys.stderr, flush=True)
                figures = one(service, folder, options.seconds, options.storm)
                found[service.name].append(figures)
    rows = [
        [name, *(_cell(column) for column in zip(*rounds, strict=True))]
        for name, rounds in found.items()
    ]
    print(tabulate(rows, HEADS, disable_numparse=True))
    if options.write:
        _write(tabulate(rows, HEADS, tablefmt="github", disable_numparse=True))


def _cell(column: Sequence[float]) -> str:
    return f"{statistics.median(column):,.0f}" if any(column) else "-"


def services(folder: Path) -> list[Service]:
    """Return the services, each with its own configuration file."""
    made = []
    for name, change in KINDS.items():
        file = folder / f"{re.sub(r'[^a-z]+', '-', name)}.conf.py"
        file.write_text(f"exec(compile(open({HOUSE!r}).read(), {HOUSE!r}, 'exec'))\n{change}")
        made.append(Service(name, (*GUNICORN, "-c", str(file), "jwt_server.wsgi:app"), "ours"))
    return [*made, replace(SERVICES["granian"], name="granian")]


def one(service: Service, folder: Path, seconds: int, storm: int) -> Sequence[float]:
    """Measure one service."""
    database = folder / "users.db"
    with running(service, folder, database) as started:
        token = started.sign_in()
        load.reads(started.url, token, 8, 1)
        even = load.reads(started.url, token, 16, seconds)
        uneven = on_one_worker(started, token, seconds)
        crowd = measure.storm(started, storm)
    return (
        even.rate, even.p99, uneven, behind_a_socket(service, folder, database, seconds),
        crowd["storm reads/s"], crowd["storm reads p99 ms"], crowd["storm sign-ins/s"],
    )  # fmt: skip


def on_one_worker(started: Running, token: str, seconds: int) -> float:
    """Measure reads with one worker for all connections; the others are stopped meanwhile."""
    others = started.workers()[1:]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    resume = threading.Timer(0.5, lambda: [os.kill(pid, signal.SIGCONT) for pid in others])
    resume.start()
    rate = load.reads(started.url, token, 16, seconds).rate
    resume.join()
    return rate


def behind_a_socket(service: Service, folder: Path, database: Path, seconds: int) -> float:
    """Measure reads through nginx; 0 for a server without support for HOST."""
    if "gunicorn" not in service.name:
        return 0.0
    path = folder / "http.sock"
    path.unlink(missing_ok=True)
    host = {"HOST": f"unix:{path}", "TRUSTED_PROXIES": "1"}
    with (
        running(service, folder, database, wait=False, **host) as started,
        nginx(folder, f"unix:{path}") as url,
    ):
        while not path.exists():
            time.sleep(0.05)
        time.sleep(1.0)  # until the workers take connections, too
        token = replace(started, address=url).sign_in()
        return load.reads(url, token, 16, seconds).rate


def _write(text: str) -> None:
    page = PAGE.read_text("utf-8")
    told = f"{BEGIN}\n\n{CORES} cores, medians.\n\n{text}\n\n{END}"
    pattern = f"{re.escape(BEGIN)}.*?{re.escape(END)}"
    PAGE.write_text(re.sub(pattern, lambda _: told, page, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main()
