"""What tests see of a database beside its rows, on SQLite and PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from jwt_server.database import Connection, Row
from tests.helpers.factories import execute

STATEMENTS: Final = {
    "sqlite": {
        "tables": "SELECT name FROM sqlite_master"
        " WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        "columns": "SELECT name FROM pragma_table_info(?)",
        "references": 'SELECT "table" AS name FROM pragma_foreign_key_list(?)',
        "version": "PRAGMA data_version",
        "lock": "SELECT 1",  # BEGIN IMMEDIATE has locked it
        "defer": "PRAGMA defer_foreign_keys = ON",
        "read only": "PRAGMA query_only = ON",
        "break": "CREATE TRIGGER broken BEFORE INSERT ON audit"
        " BEGIN SELECT raise(ROLLBACK, 'x'); END",
        "mend": "DROP TRIGGER broken",
        "keep": "CREATE TRIGGER kept_users BEFORE DELETE ON users WHEN old.id <= 2"
        " BEGIN SELECT raise(IGNORE); END",
    },
    "postgresql": {
        "tables": "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'",
        "columns": "SELECT attname AS name FROM pg_attribute"
        " WHERE attrelid = to_regclass(?) AND attnum > 0",
        "references": "SELECT confrelid::regclass::TEXT AS name FROM pg_constraint"
        " WHERE conrelid = to_regclass(?) AND contype = 'f'",
        # Each transaction that writes or locks a row takes a number.
        "version": "SELECT pg_snapshot_xmax(pg_current_snapshot())",
        "lock": "LOCK TABLE users, sessions, throttle, known_addresses, audit, pets"
        " IN EXCLUSIVE MODE",
        "defer": "ALTER TABLE pets ALTER CONSTRAINT pets_user_id_fkey"
        " DEFERRABLE INITIALLY DEFERRED",
        "read only": "SET default_transaction_read_only = on",
        "break": "ALTER TABLE audit ADD CONSTRAINT broken CHECK (false) NOT VALID",
        "mend": "ALTER TABLE audit DROP CONSTRAINT broken",
        "keep": "CREATE RULE kept_users AS ON DELETE TO users WHERE old.id <= 2 DO INSTEAD NOTHING",
    },
}  # fmt: skip
NO_TABLE_OF_PETS: Final = re.compile(r'no such table: pets|relation \\?"pets\\?" does not exist')
ROWS_READ: Final = (
    "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) AS rows FROM pg_stat_xact_user_tables"
)


def tables(db: Connection) -> list[str]:
    """Return the names of all tables."""
    return _names(db, "tables")


def columns(db: Connection, table: str) -> list[str]:
    """Return the names of a table's columns."""
    return _names(db, "columns", table)


def references(db: Connection, table: str) -> list[str]:
    """Return the tables to which a table has foreign keys."""
    return _names(db, "references", table)


def _names(db: Connection, statement: str, *parameters: str) -> list[str]:
    rows = execute(db, STATEMENTS[db.engine.dialect][statement], *parameters)
    return [row["name"] for row in rows]


def every_row(db: Connection) -> dict[str, list[Row]]:
    """Return the rows of all tables."""
    return {table: execute(db, f"SELECT * FROM {table}") for table in tables(db)}  # noqa: S608 - ours


def data_version(db: Connection) -> Any:
    """Return what is another value after another connection has written."""
    return execute(db, STATEMENTS[db.engine.dialect]["version"])


def lock_writers_out(db: Connection) -> None:
    """Begin a transaction until whose end nobody else can write."""
    execute(db, db.engine.begin)
    execute(db, STATEMENTS[db.engine.dialect]["lock"])


def defer_foreign_keys(db: Connection) -> None:
    """Have the foreign key of pets checked at the end of the transaction."""
    execute(db, STATEMENTS[db.engine.dialect]["defer"])


def make_read_only(db: Connection) -> None:
    """Make a connection such that it can't write."""
    execute(db, STATEMENTS[db.engine.dialect]["read only"])


def keep_users(db: Connection) -> None:
    """Have the deletion of the users 1 and 2 do nothing."""
    execute(db, STATEMENTS[db.engine.dialect]["keep"])


@contextmanager
def broken_audit_log(db: Connection) -> Iterator[None]:
    """Have each insert into the audit log fail, and with it its transaction."""
    statements = STATEMENTS[db.engine.dialect]
    execute(db, statements["break"])
    try:
        yield
    finally:
        execute(db, statements["mend"])


@contextmanager
def tracing(db: Connection, callback: Callable[[str], object]) -> Iterator[None]:
    """Call `callback` before each statement of a connection, with the values in its place."""
    if db.engine.dialect == "sqlite":
        db.driver.set_trace_callback(callback)
        try:
            yield
        finally:
            db.driver.set_trace_callback(None)
        return

    class TracingCursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            callback(psycopg.ClientCursor(self.connection).mogrify(query, params))
            return super().execute(query, params, **options)

    before, db.driver.cursor_factory = db.driver.cursor_factory, TracingCursor
    try:
        yield
    finally:
        db.driver.cursor_factory = before


@contextmanager
def counting_steps(db: Connection) -> Iterator[Callable[[], int]]:
    """Provide a function that returns how much has been read: hundreds of steps, or rows."""
    if db.engine.dialect == "sqlite":
        steps: list[None] = []
        db.driver.set_progress_handler(lambda: steps.append(None), 100)
        yield lambda: len(steps)
        db.driver.set_progress_handler(None, 0)
        return
    execute(db, "ANALYZE")  # as the server does by itself after a while
    with db.transaction():  # the rows are counted by transaction
        yield lambda: int(execute(db, ROWS_READ)[0]["rows"])


CONFLICT: Final = """
CREATE SEQUENCE writes;
CREATE FUNCTION conflict() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('writes') <= {conflicts} THEN
        RAISE EXCEPTION 'conflict' USING ERRCODE = 'deadlock_detected';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER conflict BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION conflict()
"""


@contextmanager
def conflicting_writes(
    db: Connection, table: str, conflicts: int, event: str = "INSERT"
) -> Iterator[Callable[[], int]]:
    """Have the first writes to a table fail as those of a transaction in a deadlock.

    Provides a function that returns how many there have been. For PostgreSQL only.
    """
    execute(db, CONFLICT.format(conflicts=conflicts, table=table, event=event))
    try:
        yield lambda: int(execute(db, "SELECT last_value FROM writes")[0]["last_value"])
    finally:
        execute(db, "DROP FUNCTION conflict() CASCADE; DROP SEQUENCE writes")
