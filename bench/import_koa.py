"""Measure the import of 100,000 users with a pet each: `.venv/bin/python -m bench.import_koa`.

Runs `flask import-koa` on a small and on a large file, and prints the seconds and the peak memory
of each process.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

FEW = 10
MANY = 100_000

FLASK = (sys.executable, "-m", "flask", "--app", "jwt_server.wsgi")

SCHEMA = """
CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, username TEXT, passwordHash TEXT);
CREATE TABLE pets (id INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER, name TEXT, species TEXT);
"""
MYPASSWORD = "$2a$10$3pwJNVCM6NKzBOD1HPZHjuFdjX2Dg771aPZNbbBw9jTUbEMS919Te"


def original(path: Path, users: int) -> None:
    """Create a database of the original server with this many users, and a pet for each."""
    numbers = range(1, users + 1)
    with closing(sqlite3.connect(path)) as driver, driver:
        driver.executescript(SCHEMA)
        rows = ((number, f"user{number}", MYPASSWORD) for number in numbers)
        driver.executemany("INSERT INTO users VALUES (?, ?, ?)", rows)
        pets = ((number, number, f"pet{number}", "dog") for number in numbers)
        driver.executemany("INSERT INTO pets VALUES (?, ?, ?, ?)", pets)


def import_koa(folder: Path, users: int) -> tuple[float, float]:
    """Import users into a fresh database; returns seconds and peak memory in MB."""
    source = folder / f"{users}-koa.db"
    original(source, users)
    environment = os.environ | {
        "DATABASE_URL": f"sqlite:///{folder / f'{users}.db'}",
        "JWT_SECRET": "j" * 32,
        "SECRET_KEY": "s" * 32,
    }
    init, run = [*FLASK, "init-db"], [*FLASK, "import-koa", str(source)]
    quiet = subprocess.DEVNULL
    subprocess.run(init, env=environment, stdout=quiet, check=True)
    start = time.perf_counter()
    process = subprocess.Popen(run, env=environment, stdout=quiet)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # Popen can no longer wait for it
    assert process.returncode == 0
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    """Measure and print a table."""
    with TemporaryDirectory() as folder:
        for users in (FEW, MANY):
            seconds, megabytes = import_koa(Path(folder), users)
            print(f"{users:>7} users and pets: {seconds:5.1f} s, {megabytes:4.0f} MB peak")


if __name__ == "__main__":
    main()
