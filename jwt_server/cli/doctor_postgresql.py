"""What `doctor` checks of PostgreSQL: the tables, the server, the connection, and standbys."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from jwt_server.cli.base import NOTE, UNSAFE, WARNING, Finding
from jwt_server.database import Connection
from jwt_server.errors import DatabaseUnavailable
from jwt_server.files import bundled
from jwt_server.listeners import is_loopback
from jwt_server.web.service import Service

MIN_VERSION: Final = 15
"""The oldest that PostgreSQL's project still corrects."""

UNSAFE_OFF: Final = {
    "fsync": "a crash damages the database",
    "full_page_writes": "a crash damages the database",
    "synchronous_commit": "a crash loses the newest writes",
}
"""Settings of the server that must be on, and the reason."""

CLOCK_SECONDS: Final = 1
UNSAFE_CLOCK_SECONDS: Final = 10
LAG_BYTES: Final = 16 * 1024 * 1024


def check_database(service: Service) -> Iterator[Finding]:
    """Does the database have this release's schema, unchanged, and is it writable?"""
    try:
        service.database.engine.check(starting=True)
        with service.database.connection() as db:
            for change in _schema_changes(db)[:1]:
                text = (
                    f"The database's schema was changed: {change} is not as this service makes it."
                )
                yield UNSAFE, text, "Find out who did so, and undo it, or restore a backup."
    except DatabaseUnavailable as error:
        yield UNSAFE, error.cause, ""


def _schema_changes(db: Connection) -> list[str]:
    """Return what differs of the tables and all that acts on them.

    They are compared with temporary tables. A trigger could make its author an admin.
    """
    found = _objects(db)
    with db.driver.transaction(force_rollback=True):
        db.driver.execute("SET LOCAL search_path = pg_temp")
        db.driver.execute(bundled("schema.postgresql.sql").read_text("utf-8"))
        expected = _objects(db)
    tables = {table for table, _, _ in expected}
    return sorted(
        f"{kind} {name!r:.80} of {table}"
        for table, kind, name in expected.keys() | found.keys()
        if table in tables and expected.get((table, kind, name)) != found.get((table, kind, name))
    )


def _objects(db: Connection) -> dict[tuple[str, str, str], str]:
    rows = db.queries.cli.schema_objects()
    return {(row["relation"], row["kind"], row["name"]): row["definition"] for row in rows}


def check_server(service: Service) -> Iterator[Finding]:
    """Does the server keep what is committed, is its clock right, and is its release supported?"""
    with service.database.connection() as db:
        server = db.queries.cli.server()
        if server["version"] < MIN_VERSION * 10_000:
            text = f"PostgreSQL {server['release']} is too old."
            yield WARNING, text, f"Upgrade it to {MIN_VERSION} or newer."
        if server["encoding"] != "UTF8":
            text = f"The database's encoding is {server['encoding']}: not every name fits in."
            yield UNSAFE, text, "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        for name, reason in UNSAFE_OFF.items():
            if server[name] == "off":
                yield UNSAFE, f"{name} is off: {reason}.", f"Set {name} = on in postgresql.conf."
        yield from _check_clock(service, db)


def _check_clock(service: Service, db: Connection) -> Iterator[Finding]:
    sent = service.clock()
    there = db.queries.cli.clock()
    received = service.clock()
    difference = abs(there - (sent + received) / 2) - (received - sent) / 2  # at least
    if difference > CLOCK_SECONDS:
        level = UNSAFE if difference > UNSAFE_CLOCK_SECONDS else WARNING
        text = f"The clocks of this machine and of the database differ by {difference:.1f} s."
        yield level, text, "Have both set by NTP: hosts with different clocks disagree on tokens."


def check_connection(service: Service) -> Iterator[Finding]:
    """Is the server identified, are there enough connections, and do limits of time apply?"""
    engine: Any = service.database.engine
    with service.database.connection() as db:
        yield from _check_tls(db, engine.parameters)
        server = db.queries.cli.server()
        workers = service.settings.workers
        wanted, is_direct = engine.pool_size * workers, server["pid"] == db.driver.info.backend_pid
        if is_direct and wanted > server["connections"]:  # a pooler has a number of its own
            text = f"{workers} workers may open {wanted} connections, of {server['connections']}."
            advice = "Lower `pool` or WORKERS, raise max_connections, or put PgBouncer between."
            yield WARNING, text, f"{advice} The other hosts need some, too."
        if missing := [name for name in engine.timeouts if server[name] == "0"]:
            role = server["role"]
            alter = [f"ALTER ROLE {role} SET {x} = '{engine.timeouts[x]}';" for x in missing]
            yield WARNING, f"There is no {' and no '.join(missing)}.", " ".join(alter)
        if server["everyone_creates"]:  # as in databases of PostgreSQL 14 that were upgraded
            text = "Every role can create functions where this one finds them, and so act as it."
            yield UNSAFE, text, "REVOKE CREATE ON SCHEMA public FROM PUBLIC;"
        if server["superuser"]:
            text = f"The role {server['role']} is a superuser."
            yield WARNING, text, "Use a role that owns this database and nothing else."


def _check_tls(db: Connection, parameters: dict[str, str]) -> Iterator[Finding]:
    info = {each.keyword.decode(): (each.val or b"").decode() for each in db.driver.pgconn.info}
    mode = info["sslmode"]
    hosts = (parameters.get("hostaddr") or parameters.get("host") or info["host"]).split(",")
    remote = [host for host in hosts if host and host[0] not in "/@" and not is_loopback(host)]
    if remote and mode != "verify-full":
        is_encrypted = mode in ("require", "verify-ca")
        text = f"sslmode is {mode}: others can pose as {remote[0]}"
        advice = "Add sslmode=verify-full to DATABASE_URL, and sslrootcert."
        level = WARNING if is_encrypted else UNSAFE
        yield level, f"{text}{'' if is_encrypted else ', or read all'}.", advice


def check_standbys(service: Service) -> Iterator[Finding]:
    """Are the standbys up to date?"""
    with service.database.connection() as db:
        for standby in db.queries.cli.standbys():
            name, lag = standby["name"] or "a standby", standby["lag"]
            if lag is None:
                advice = f"GRANT pg_monitor TO {standby['role']};"
                yield NOTE, f"The lag of {name} can't be read.", advice
            elif lag > LAG_BYTES:
                text = f"{name} is {lag >> 20} MiB behind, which a failover to it would lose."
                yield WARNING, text, "Look into its log, and at the network and its disk."


CHECKS: Final[dict[str, Callable[[Service], Iterator[Finding]]]] = {
    "database": check_database,
    "server": check_server,
    "connection": check_connection,
    "standbys": check_standbys,
}
