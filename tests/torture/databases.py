"""The database under torture: how it is made, read, checked, copied and killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psycopg

from jwt_server.database import Database
from tests.helpers.databases import ON_POSTGRESQL, url_of
from tests.helpers.postgresql import START_SECONDS, Cluster
from tests.helpers.postgresql_programs import STOP_SECONDS
from tests.helpers.waiting import until

Row = tuple[Any, ...]
Query = Callable[..., list[Row]]
"""Returns the rows of a statement with `?` for its parameters."""

SERVER: Final = "the database"
SERVER_AGAIN: Final = "the database, while it starts"
BACKEND: Final = "one backend, so that the database restarts all"
TERMINATED: Final = "one backend, by pg_terminate_backend"
WITH_WORKER: Final = "the database and one worker"
WITH_TREE: Final = "the database and the whole tree"
DOWN: Final = frozenset({SERVER, WITH_WORKER, WITH_TREE})
"""After these kills it must be started again."""


def _is_lost(driver: psycopg.Connection) -> bool:
    """Return whether the database has ended a connection: it ends all after one is killed."""
    with suppress(psycopg.OperationalError):
        driver.execute("SELECT 1")
        return False
    return True


GENERATION: Final = "SELECT generation FROM sessions WHERE id = ?"


class SQLite:
    """A file, which only processes of the service write."""

    OWNED: Final = (
        'SELECT m.name, f."from" FROM sqlite_master AS m, pragma_foreign_key_list(m.name) AS f'
        " WHERE m.type = 'table' AND f.\"table\" = 'users' AND f.on_delete = 'CASCADE'"
    )
    """Selects the tables whose rows go with their user, and their columns."""
    IDS: Final = "SELECT name, seq FROM sqlite_sequence"
    """Selects the tables that give ids, and the highest that each has given."""
    KINDS: Final[tuple[str, ...]] = ()
    """The ways in which the database itself is killed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def url(self) -> str:
        """The DATABASE_URL."""
        return url_of(self.path)

    @property
    def version(self) -> str:
        """The product and its version."""
        return describe_sqlite(sqlite3.sqlite_version)

    def create(self) -> None:
        """Create it with empty tables."""
        Database(self.path).engine.create()

    @contextmanager
    def reading(self) -> Iterator[Query]:
        """Open a snapshot that never writes.

        Not with `mode=ro`: there `integrity_check` does not check CHECK constraints.
        """
        uri = f"{self.path.as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)) as driver:
            driver.execute("PRAGMA query_only = ON")
            driver.execute("BEGIN")
            yield lambda statement, *values: driver.execute(statement, values).fetchall()

    def generation(self, session_id: str) -> int | None:
        """Return the generation of a session's row, or None; never touches the file's log."""
        uri = f"{self.path.as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as driver:
            row = driver.execute(GENERATION, (session_id,)).fetchone()
        return None if row is None else int(row[0])

    def problems(self) -> dict[str, object]:
        """Return what the database's own checks find, by check; nothing if all is well."""
        with self.reading() as query:
            found = {"integrity_check": query("PRAGMA integrity_check")}
            found["foreign_key_check"] = query("PRAGMA foreign_key_check")
        return {check: rows for check, rows in found.items() if rows not in ([], [("ok",)])}

    def snapshot(self) -> SQLite:
        """Copy the file as the kill left it, with its write-ahead log.

        In another process: closing a file drops all POSIX locks that the process has on it, and
        the clients may be reading.
        """
        copy = self.path.with_name("snapshot.db")
        for suffix in ("", "-wal"):
            target = Path(f"{copy}{suffix}")
            target.unlink(missing_ok=True)
            if Path(f"{self.path}{suffix}").exists():
                subprocess.run(
                    ["cp", f"{self.path}{suffix}", str(target)],  # noqa: S607 - wherever it is
                    check=True,
                )
        Path(f"{copy}-shm").unlink(missing_ok=True)
        return SQLite(copy)

    def settle(self) -> None:
        """Do nothing: a killed process commits no more."""

    def copy(self, folder: Path) -> SQLite:
        """Copy it, while the service does not run."""
        with closing(sqlite3.connect(self.path)) as driver:
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return SQLite(Path(shutil.copy(self.path, folder)))

    def restore(self, copy: Any) -> None:
        """Make it as a copy is."""
        shutil.copy(copy.path, self.path)

    def spoil(self, statement: str, values: dict[str, object]) -> None:
        """Execute SQL with `:name` for values, and without checks of constraints."""
        with closing(sqlite3.connect(self.path, timeout=10)) as driver, driver:
            driver.execute("PRAGMA ignore_check_constraints = ON")
            driver.execute(statement, values)

    def damage(self) -> None:
        """Overwrite a part of its files."""
        data = self.path.read_bytes()
        half = len(data) // 2
        self.path.write_bytes(data[:half] + b"\xff" * 4096 + data[half + 4096 :])

    def keep(self, folder: Path) -> None:
        """Have its files in the folder, where they are."""

    def close(self) -> None:
        """Stop what runs for it."""


CHECKS: Final = """
SELECT conname AS name, format('SELECT count(*) FROM %s WHERE NOT (%s)', conrelid::regclass,
                               pg_get_expr(conbin, conrelid)) AS counting
FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace
UNION ALL
SELECT conname, format('SELECT count(*) FROM %s AS child WHERE NOT EXISTS'
                       ' (SELECT FROM %s AS parent WHERE parent.id = child.%I)',
                       conrelid::regclass, confrelid::regclass, attname)
FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
WHERE contype = 'f' AND connamespace = 'public'::regnamespace
UNION ALL
SELECT indexrelid::regclass::text, format(
    'SELECT count(*) - count(DISTINCT (%s)) FROM %s',
    (SELECT string_agg(pg_get_indexdef(indexrelid, place, true), ', ')
     FROM generate_series(1, indnkeyatts) AS place),
    indrelid::regclass
)
FROM pg_index JOIN pg_class ON oid = indrelid
WHERE indisunique AND relnamespace = 'public'::regnamespace
UNION ALL
SELECT indexrelid::regclass::text || ' (amcheck)', format(
    'SELECT count(bt_index_check(%s, true)) - 1', indexrelid)
FROM pg_index JOIN pg_class ON oid = indrelid WHERE relnamespace = 'public'::regnamespace
UNION ALL
SELECT relname || ' (amcheck)', format('SELECT count(*) FROM verify_heapam(%s)', oid)
FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
"""Selects, for each constraint, index and table, a query that counts what is wrong in it."""

RUNNING: Final = """
SELECT pid, xact_start FROM pg_stat_activity
WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
"""

BACKENDS: Final = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = 'jwt_server'
ORDER BY xact_start IS NULL, random() LIMIT 1
"""
"""Selects a connection of the service, one in a transaction if there is any."""


class PostgreSQL:
    """A database in a cluster of its own, which is killed as well."""

    OWNED: Final = """
        SELECT conrelid::regclass::text, attname
        FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
        WHERE contype = 'f' AND confrelid = 'users'::regclass AND confdeltype = 'c'
    """
    IDS: Final = (
        "SELECT replace(sequencename, '_id_seq', ''), coalesce(last_value, 0) FROM pg_sequences"
    )
    KINDS: Final = (SERVER, BACKEND, TERMINATED, WITH_WORKER, WITH_TREE)

    def __init__(self, cluster: Cluster | None = None, name: str = "torture") -> None:
        # A kill may leave a part of a page, so it must be durable.
        self.cluster = cluster or Cluster(durable=True)
        self.name = name

    @property
    def url(self) -> str:
        return self.cluster.url_of(self.name)

    @property
    def admin_url(self) -> str:
        return self.cluster.admin_url.replace("/postgres?", f"/{self.name}?")

    @property
    def version(self) -> str:
        with self._connected() as driver:
            [row] = driver.execute("SHOW server_version").fetchall()
        return f"PostgreSQL {row[0]}"

    def create(self) -> None:
        self.cluster.__enter__()
        Database(self.cluster.create_database(self.name)).engine.create()
        with self._connected() as driver:
            driver.execute("CREATE EXTENSION amcheck SCHEMA pg_catalog")

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection]:
        with closing(psycopg.connect(self.admin_url, autocommit=True)) as driver:
            yield driver

    @contextmanager
    def reading(self) -> Iterator[Query]:
        with self._connected() as driver:
            driver.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield lambda statement, *values: driver.execute(
                statement.replace("?", "%s").encode(), values or None
            ).fetchall()

    def generation(self, session_id: str) -> int | None:
        with self.reading() as query:
            rows = query(GENERATION, session_id)
        return rows[0][0] if rows else None

    def problems(self) -> dict[str, object]:
        """Count what breaks constraints, and have amcheck compare tables with indexes."""
        with self.reading() as query:
            found = {name: query(counting)[0][0] for name, counting in query(CHECKS)}
        return {name: count for name, count in found.items() if count}

    def snapshot(self) -> PostgreSQL:
        """Return the database itself: it was not killed."""
        return self

    def settle(self) -> None:
        """Wait for the transactions that run now: a COMMIT may have come before its process was
        killed.
        """
        with self._connected() as driver:
            running = set(driver.execute(RUNNING).fetchall())
            until(lambda: not running & set(driver.execute(RUNNING).fetchall()), STOP_SECONDS)

    def copy(self, folder: Path) -> PostgreSQL:
        copy = PostgreSQL(self.cluster, f"copy_{time.monotonic_ns()}")
        self.cluster.create_database(copy.name, self.name)
        return copy

    def restore(self, copy: Any) -> None:
        self.cluster.drop_database(self.name)
        self.cluster.create_database(self.name, copy.name)

    def spoil(self, statement: str, values: dict[str, object]) -> None:
        """As a replica, which enforces no foreign keys; and without the CHECK constraints."""
        statement = re.sub(r":(\w+)", r"%(\1)s", statement)
        with self._connected() as driver, driver.transaction():
            driver.execute("SET LOCAL session_replication_role = replica")
            checks = driver.execute(
                "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
                " FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
            ).fetchall()
            for table, name, _ in checks:
                driver.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
            driver.execute(statement.encode(), values)
            for table, name, check in checks:
                added = f"ALTER TABLE {table} ADD CONSTRAINT {name} {check} NOT VALID"
                driver.execute(added.encode())

    def damage(self) -> None:
        with self._connected() as driver:
            [[path]] = driver.execute("SELECT pg_relation_filepath('sessions')").fetchall()
        self.cluster.stop()
        with (self.cluster.data / path).open("r+b") as file:
            file.write(b"\xff" * 4096)
        self.cluster.start()

    def keep(self, folder: Path) -> None:
        self.cluster.stop()
        subprocess.run(["cp", "-a", str(self.cluster.data), str(folder)], check=True)  # noqa: S607

    def close(self) -> None:
        self.cluster.close()

    def kill(self, kind: str) -> None:
        """Kill it in this way; after one of DOWN it must be started."""
        if kind in DOWN:
            self.cluster.kill()
            return
        with self._connected() as driver:
            for [pid] in driver.execute(BACKENDS).fetchall():
                if kind == TERMINATED:
                    driver.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])  # it waits
                else:
                    os.kill(pid, signal.SIGKILL)
                    until(lambda: _is_lost(driver), STOP_SECONDS)

    def start(self) -> None:
        self.cluster.start()

    def kill_while_it_starts(self, seconds: float) -> None:
        self.cluster.launch()
        time.sleep(seconds)
        self.cluster.kill()

    def wait(self) -> None:
        """Wait until it accepts connections."""

        def accepts() -> bool:
            with suppress(psycopg.OperationalError), self._connected():
                return True
            return False

        until(accepts, START_SECONDS)


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


def describe_sqlite(version: str) -> str:
    """Return the version of SQLite with what is to be known of it."""
    bug = "has" if has_wal_reset_bug(version) else "does not have"
    return f"SQLite {version}, which {bug} the WAL-reset bug"


ERRORS: Final = (sqlite3.Error, psycopg.Error)


UnderTorture = SQLite | PostgreSQL


def under_torture(folder: Path) -> UnderTorture:
    """Return the database that TEST_DATABASE names."""
    return PostgreSQL() if ON_POSTGRESQL else SQLite(folder / "server.db")
